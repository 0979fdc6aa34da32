package agent

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// deadly are the signals that end a Go program although nothing is wrong with it. Those
// of real faults keep their handlers, for the trace.
var deadly = [...]unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTRAP, unix.SIGABRT, unix.SIGTERM,
	unix.SIGSTKFLT, unix.SIGSYS, unix.SIGILL,
}

// sigaction is the kernel's struct, whose size on amd64 covers the other layouts too. Its
// zero value is the default action.
type sigaction struct {
	handler, flags, restorer, mask uint64
}

// surviveSignals gives the default action back to signals that anybody in the guest may
// send. To PID 1 the kernel does not deliver them then. Not os/signal, which costs a
// thread, and nothing that commands inherit, as ignoring would be.
func surviveSignals() {
	var fresh sigaction
	for _, sig := range deadly {
		const setSize = 8 // bytes of a kernel sigset
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&fresh)), 0, setSize, 0, 0)
	}
}
