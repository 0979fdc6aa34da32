//go:build linux

package agent

import (
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Who boots alone is first, its children are not, and it becomes as others again.
func TestSchedule(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := schedule(unix.SCHED_FIFO, 1)
	if err != nil {
		require.ErrorIs(t, err, unix.EPERM)
		assert.NotZero(t, os.Geteuid(), "root may")
		return
	}
	attr, err := unix.SchedGetAttr(0, 0)
	require.NoError(t, err)
	assert.EqualValues(t, unix.SCHED_FIFO, attr.Policy)
	assert.NotZero(t, attr.Flags&unix.SCHED_FLAG_RESET_ON_FORK)
	require.NoError(t, schedule(unix.SCHED_NORMAL, 0))
	attr, err = unix.SchedGetAttr(0, 0)
	require.NoError(t, err)
	assert.EqualValues(t, unix.SCHED_NORMAL, attr.Policy)
	assert.Zero(t, attr.Flags)
}

func TestJoin(t *testing.T) {
	t.Parallel()
	ended := 0
	a := &agent{alone: func() { ended++ }}
	a.join()
	a.join()
	new(agent).join() // an heir's, which never was alone
	assert.Equal(t, 1, ended)
}
