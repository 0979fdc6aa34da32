package sysmon

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	_, err := find(filepath.Join(dir, "none"), 1)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "1"), 0o755))
	_, err = find(dir, 1)
	require.ErrorContains(t, err, "no monitor")
	for _, id := range []int{101, 99, 100} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, strconv.Itoa(id)), 0o755))
	}
	id, err := find(dir, 1)
	require.NoError(t, err)
	assert.Equal(t, 99, id, "the first by number, not by name")
}

func TestYield(t *testing.T) {
	again, err := Yield("/proc")
	if errors.Is(err, os.ErrPermission) {
		assert.NotZero(t, os.Geteuid(), "root may")
		return
	}
	require.NoError(t, err)
	monitor, err := find("/proc/self/task", os.Getpid())
	require.NoError(t, err)
	attr, err := unix.SchedGetAttr(monitor, 0)
	require.NoError(t, err)
	assert.EqualValues(t, unix.SCHED_IDLE, attr.Policy)
	assert.NotZero(t, attr.Flags&unix.SCHED_FLAG_RESET_ON_FORK)
	if os.Geteuid() != 0 {
		return // only root may go back
	}
	again()
	attr, err = unix.SchedGetAttr(monitor, 0)
	require.NoError(t, err)
	assert.EqualValues(t, unix.SCHED_NORMAL, attr.Policy)
	_, err = Yield(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRelax(t *testing.T) {
	err := Relax(3 * time.Millisecond)
	if errors.Is(err, os.ErrPermission) {
		assert.NotZero(t, os.Geteuid(), "root may")
		return
	}
	require.NoError(t, err)
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	relaxed := 0
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/" + task.Name() + "/timerslack_ns")
		if err == nil && strings.TrimSpace(string(b)) == "3000000" {
			relaxed++
		}
	}
	assert.Positive(t, relaxed, "the monitor, and whatever it has started since")
	assert.Less(t, relaxed, len(tasks), "not all")
}
