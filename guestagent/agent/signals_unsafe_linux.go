package agent

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// deadly are the signals that end a Go program although nothing is wrong with it. Those
// of real faults keep their handlers, for the trace.
var deadly = [...]unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT,
	unix.SIGTERM, unix.SIGSTKFLT, unix.SIGSYS,
}

// sigaction is the kernel's struct of that name.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// Flags of a sigaction (include/uapi/asm-generic/signal-defs.h).
const (
	saRestorer = 0x04000000
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
)

// handlers returns the addresses of a signal handler that does nothing and of what it
// returns to, 0 if the kernel needs none.
func handlers() (discard, sigreturn uintptr)

// surviveSignals makes this process take no notice of signals that anybody in the guest
// may send it.
//
// PID 1 is only safe from signals with the default action while its main thread does not
// block them, which the Go runtime does at every fork; ignored signals would be inherited
// by commands; and os/signal costs three threads. So there is a handler, which exec
// resets.
func surviveSignals() {
	a := sigaction{flags: saOnStack | saRestart}
	if a.handler, a.restorer = handlers(); a.restorer != 0 {
		a.flags |= saRestorer
	}
	for _, sig := range deadly {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&a)), 0, unsafe.Sizeof(a.mask), 0, 0)
	}
}
