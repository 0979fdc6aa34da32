package sysmon

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
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

// slacks counts the threads of the process by their timer slack, in nanoseconds.
func slacks(t *testing.T) map[string]int {
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	count := map[string]int{}
	for _, task := range tasks {
		if b, err := os.ReadFile("/proc/" + task.Name() + "/timerslack_ns"); err == nil {
			count[strings.TrimSpace(string(b))]++
		}
	}
	return count
}

func TestRelax(t *testing.T) {
	var m Monitor
	err := m.Relax(3 * time.Millisecond)
	if errors.Is(err, os.ErrPermission) {
		assert.NotZero(t, os.Geteuid(), "root may")
		assert.Equal(t, err, m.Relax(3*time.Millisecond), "and it is the same error the next time")
		return
	}
	require.NoError(t, err)
	assert.Positive(t, slacks(t)["3000000"], "the monitor, and whatever it has started since")

	// A thread with the slack of one that the monitor has started; it ends with its goroutine.
	ready, done := make(chan struct{}), make(chan struct{})
	defer close(done)
	go func() {
		runtime.LockOSThread()
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 2_000_000, 0, 0, 0)
		close(ready)
		<-done
	}()
	<-ready
	require.Equal(t, 1, slacks(t)["2000000"])
	m.threads = 0 // as if it were new
	require.NoError(t, m.Relax(3*time.Millisecond))
	got := slacks(t)
	assert.Zero(t, got["2000000"])
	assert.Positive(t, got["50000"], "the usual")
	require.NoError(t, m.Relax(time.Millisecond))
	got = slacks(t)
	assert.Zero(t, got["3000000"])
	assert.Positive(t, got["1000000"])
}
