package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
)

// Process is a runtime that this process started. Methods are safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	done  chan struct{}
	state *os.ProcessState // set before done is closed

	mu    sync.Mutex
	watch *os.File // write end of the watchdog pipe; nil when detached. Protected by mu.
}

func newProcess(cmd *exec.Cmd, watch *os.File) *Process {
	p := &Process{cmd: cmd, done: make(chan struct{}), watch: watch}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the state says everything
		p.state = cmd.ProcessState
	}()
	return p
}

// PID is the runtime's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the runtime has ended and was reaped.
func (p *Process) Exited() <-chan struct{} { return p.done }

// State is how the runtime ended. It is nil while Exited is open.
func (p *Process) State() *os.ProcessState {
	select {
	case <-p.done:
		return p.state
	default:
		return nil
	}
}

// Wait returns how the runtime ended: nil for exit code 0, else an *exec.ExitError. It
// returns the cause of ctx if that ends first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.state != nil && p.state.Success() {
			return nil
		}
		return &exec.ExitError{ProcessState: p.state}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Signal sends s. It returns os.ErrProcessDone once the runtime has ended.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Detach lets an attached runtime outlive this process. It is a no-op on a detached one.
func (p *Process) Detach() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch == nil {
		return nil
	}
	_, err := p.watch.Write([]byte{watchDetach})
	if err != nil {
		err = fmt.Errorf("detach: %w", err)
	}
	err = errors.Join(err, p.watch.Close())
	p.watch = nil
	return err
}

// watchDetach is the byte that ends the watch without ending the runtime.
const watchDetach = 0x01

// WatchDetach reports that b, read from the watchdog pipe, means: keep running for ever.
func WatchDetach(b byte) bool { return b == watchDetach }

// Close lets go of the runtime: an attached one shuts down, a detached one goes on. It
// does not wait. It is idempotent.
func (p *Process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch == nil {
		return nil
	}
	err := p.watch.Close()
	p.watch = nil
	return err
}

// abort ends a runtime that did not start properly.
func (p *Process) abort() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-p.done
	return errors.Join(err, p.Close())
}
