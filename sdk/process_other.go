//go:build unix && !linux

package microsandbox

import (
	"context"
	"syscall"

	"github.com/gomsb/gomsb/internal/store"
)

// isRuntime reports that process pid exists.
func isRuntime(pid int, _ int32) bool { return store.ProcessAlive(pid) }

// openProcess returns the runtime of a sandbox, nil if there is no process pid.
func openProcess(pid int, sandbox int32) *process {
	if !isRuntime(pid, sandbox) {
		return nil
	}
	return &process{pid: pid, sandbox: sandbox}
}

func (p *process) send(sig syscall.Signal) error { return syscall.Kill(p.pid, sig) }

func (p *process) await(ctx context.Context) bool { return p.poll(ctx) }
