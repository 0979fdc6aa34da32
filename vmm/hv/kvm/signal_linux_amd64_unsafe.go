//go:build linux && amd64

package kvm

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setImmediateExit stores the request flag with the padding that follows it in one
// aligned word, so that both sides see it whole.
func (c *vcpu) setImmediateExit(v uint32) {
	// SAFETY: the first four bytes of the shared page: request_interrupt_window, which
	// is not used, immediate_exit, and padding.
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&c.run[0])), v<<(8*runImmediateExit))
}

// kicked says whether the request flag is set.
func (c *vcpu) kicked() bool {
	// SAFETY: as for setImmediateExit.
	return uint8(atomic.LoadUint32((*uint32)(unsafe.Pointer(&c.run[0])))>>(8*runImmediateExit)) != 0
}

func kickSet() (s unix.Sigset_t) {
	s.Val[0] = 1 << (kickSignal - 1)
	return s
}

// blockKicks blocks the kick signal on the calling thread.
func blockKicks() error {
	s := kickSet()
	return unix.PthreadSigmask(unix.SIG_BLOCK, &s, nil)
}

// drainKicks consumes a pending kick signal, which would end the next KVM_RUN at once.
func drainKicks() {
	s := kickSet()
	var none unix.Timespec
	for {
		// SAFETY: the kernel reads the set and the timeout during the call only; the size
		// is that of its own sigset_t.
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&s)), 0, uintptr(unsafe.Pointer(&none)), 8, 0, 0)
		if errno == unix.EAGAIN {
			return
		}
	}
}
