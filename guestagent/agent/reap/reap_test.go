//go:build linux

package reap

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// table is shared: a process can have only one. No test here may use os/exec.
var table = New()

// sh starts a shell as leader of its own group.
func sh(t *testing.T, script string) (*Process, <-chan int) {
	t.Helper()
	codes := make(chan int, 2)
	p, err := table.Start(func() (int, error) {
		return syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
			Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
	}, func(code int) { codes <- code })
	require.NoError(t, err)
	return p, codes
}

func await(t *testing.T, codes <-chan int) int {
	t.Helper()
	select {
	case code := <-codes:
		return code
	case <-time.After(20 * time.Second):
		require.Fail(t, "the process was not collected")
		return 0
	}
}

func exists(pid int) bool { return unix.Kill(pid, 0) == nil }

func TestExitCodes(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "exit 255": 255, "kill -9 $$": KilledBySignal, "kill -SEGV $$": KilledBySignal} {
		p, codes := sh(t, script)
		assert.Equal(t, want, await(t, codes), script)
		assert.False(t, exists(p.PID()), "a zombie is left")
		p.Release()
	}
	assert.Empty(t, table.byPID)
}

func TestManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			p, codes := sh(t, "exit "+strconv.Itoa(n))
			assert.Equal(t, n, await(t, codes))
			p.Release()
		})
	}
	wg.Wait()
	assert.True(t, table.WaitIdle(10*time.Second))
}

func TestSignalReachesTheGroup(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	codes := make(chan int, 1)
	p, err := table.Start(func() (int, error) {
		return syscall.ForkExec("/bin/sh", []string{"sh", "-c", "sleep 60 & sleep 60 & exit 1"}, &syscall.ProcAttr{
			Env: os.Environ(), Files: []uintptr{0, w.Fd(), 2}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
	}, func(code int) { codes <- code })
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Equal(t, 1, await(t, codes))
	p.Signal(unix.SIGKILL) // the leader is gone, the group is not
	_, err = r.Read(make([]byte, 1))
	require.Error(t, err, "the last one holds the pipe open")
	require.NoError(t, r.Close())
	p.Release()
}

// A number that belongs to a later process is not signalled any more.
func TestSignalOfAStaleProcess(t *testing.T) {
	young, codes := sh(t, "sleep 60")
	old := &Process{table: table, pid: young.pid, reaped: true} // as if the number had been given out again
	old.Signal(unix.SIGKILL)
	old.Release()
	select {
	case <-codes:
		assert.Fail(t, "the wrong process was hit")
	case <-time.After(50 * time.Millisecond):
	}
	young.Signal(unix.SIGKILL)
	assert.Equal(t, KilledBySignal, await(t, codes))
	young.Release()
	young.Signal(unix.SIGKILL) // released: nothing
}

func TestOrphans(t *testing.T) {
	require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer func() { require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) }()
	p, codes := sh(t, "for n in 1 2 3 4 5 6 7 8; do sleep 0.05 & done; exit 3")
	assert.Equal(t, 3, await(t, codes))
	assert.True(t, table.WaitIdle(10*time.Second), "the adopted ones are collected too")
	p.Release()
}

func TestWaitIdle(t *testing.T) {
	p, codes := sh(t, "sleep 60")
	assert.False(t, table.WaitIdle(10*time.Millisecond))
	p.Signal(unix.SIGKILL)
	assert.True(t, table.WaitIdle(10*time.Second))
	await(t, codes)
	p.Release()
	assert.True(t, New().WaitIdle(0))
}

func TestStartFails(t *testing.T) {
	boom := errors.New("boom")
	_, err := table.Start(func() (int, error) { return 0, boom }, func(int) { assert.Fail(t, "nothing to collect") })
	require.ErrorIs(t, err, boom)
	// A failed exec leaves a child that its fork collects; both may look for it.
	for range 50 {
		_, err := table.Start(func() (int, error) {
			return syscall.ForkExec("/nope", []string{"nope"}, &syscall.ProcAttr{})
		}, func(int) { assert.Fail(t, "nothing to collect") })
		require.ErrorIs(t, err, unix.ENOENT)
	}
	assert.True(t, table.WaitIdle(10*time.Second))
}
