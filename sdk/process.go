//go:build unix

package microsandbox

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

const killSignal = syscall.SIGKILL

// process is a sandbox's runtime that need not be a child of this process. It never
// means another process that got the same number later, where the system can tell.
type process struct {
	pid     int
	sandbox int32
	handle  *os.File // a pidfd; nil where there are none
}

func (p *process) close() {
	if p != nil && p.handle != nil {
		_ = p.handle.Close()
	}
}

// signal sends sig; a process that is gone is no error.
func (p *process) signal(sig syscall.Signal) error {
	err := p.send(sig)
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return wrap(ErrIO, os.NewSyscallError("kill", err))
}

var errNotGone = errors.New("process is still there")

// wait waits until the process has ended and reports whether it has. The end of the
// timeout is no error.
func (p *process) wait(ctx context.Context, timeout time.Duration) (gone bool, err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, errNotGone)
	defer cancel()
	if p.await(bounded) {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, cancelled(ctx)
	}
	return false, nil
}

// poll is await where a process cannot be waited for.
func (p *process) poll(ctx context.Context) bool {
	for isRuntime(p.pid, p.sandbox) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(2 * time.Millisecond):
		}
	}
	return true
}
