package microsandbox

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/store"
)

// isRuntime reports that process pid runs the sandbox with that id. A number that was
// given to another process since, and a process that has ended but was not reaped, are
// not it.
func isRuntime(pid int, sandbox int32) bool {
	if pid <= 0 {
		return false
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return store.ProcessAlive(pid) // nothing more is known where /proc is hidden
	}
	args := bytes.Split(line, []byte{0})
	for i := 1; i < len(args); i++ {
		if string(args[i-1]) == "--sandbox-id" && string(args[i]) == strconv.Itoa(int(sandbox)) {
			return true
		}
	}
	return false
}

// openProcess returns the runtime of a sandbox, nil if pid is not it.
func openProcess(pid int, sandbox int32) *process {
	p := &process{pid: pid, sandbox: sandbox}
	if pid > 0 {
		if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
			p.handle = os.NewFile(uintptr(fd), "pidfd")
		}
	}
	if !isRuntime(pid, sandbox) { // after the handle: from here on it cannot change
		p.close()
		return nil
	}
	return p
}

func (p *process) send(sig syscall.Signal) error {
	if p.handle == nil {
		return unix.Kill(p.pid, sig)
	}
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if err != nil {
		return err
	}
	return sent
}

// await returns true once the process has ended, false when ctx has. A pidfd is readable
// from the end of its process on, so the poller of the Go runtime can wait for it.
func (p *process) await(ctx context.Context) bool {
	if p.handle == nil {
		return p.poll(ctx)
	}
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return p.poll(ctx)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.handle.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(set, 0)
		return err == nil && n == 1
	})
	if err == nil {
		return true
	}
	if ctx.Err() != nil {
		_ = p.handle.SetReadDeadline(time.Time{})
		return false
	}
	return p.poll(ctx)
}
