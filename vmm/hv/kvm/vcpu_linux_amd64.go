package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/vmm/hv"
)

// kickSignal interrupts KVM_RUN. It is a real-time signal that neither Go nor libc use.
const kickSignal = unix.Signal(42)

// preemptSignal is what the Go scheduler asks a thread with for the processor that it has
// had for 10 ms, and the garbage collector for a pause.
const preemptSignal = unix.SIGURG

// vcpu implements hv.VCPU.
type vcpu struct {
	vm    *vm
	id    int
	fd    int
	run   []byte // struct kvm_run, shared with the kernel
	exit  hv.Exit
	cpuid []hv.CPUIDEntry
	// unfinished: the kernel reported an exit while SaveState had it complete another;
	// the next Run returns it.
	unfinished bool

	xsave []byte // scratch
	event vcpuEvents
	msr   msrTable

	tid atomic.Int32 // the thread that runs it, 0 before

	mu     sync.Mutex // makes Kick and Close safe against each other
	closed bool       // protected by mu
}

func (v *vm) CreateVCPU(id int) (hv.VCPU, error) {
	if id < 0 || id >= v.k.maxVCPUs {
		return nil, fmt.Errorf("create vCPU %d: %w: this host allows %d", id, hv.ErrUnsupported, v.k.maxVCPUs)
	}
	fd, err := ioctl(v.fd, kvmCreateVCPU, uintptr(id))
	if err != nil {
		return nil, fmt.Errorf("create vCPU %d: %w", id, err)
	}
	unix.CloseOnExec(fd)
	run, err := unix.Mmap(fd, 0, v.k.runSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create vCPU %d: map: %w", id, err), unix.Close(fd))
	}
	c := &vcpu{vm: v, id: id, fd: fd, run: run, xsave: make([]byte, v.xsaveSize)}
	mask := &signalMask{len: 8}
	binary.LittleEndian.PutUint64(mask.bits[:], ^(uint64(1)<<(kickSignal-1) | uint64(1)<<(preemptSignal-1)))
	if _, err := ioctlPtr(fd, kvmSetSignalMask, mask); err != nil {
		return nil, errors.Join(fmt.Errorf("create vCPU %d: signal mask: %w", id, err), c.Close())
	}
	return c, nil
}

// adopt makes the calling thread the vCPU's.
func (c *vcpu) adopt() error {
	if err := blockKicks(); err != nil {
		return fmt.Errorf("vCPU %d: block the kick signal: %w", c.id, err)
	}
	c.tid.Store(int32(unix.Gettid()))
	return nil
}

func (c *vcpu) Run() (*hv.Exit, error) {
	if c.tid.Load() == 0 {
		if err := c.adopt(); err != nil {
			return nil, err
		}
	}
	if c.unfinished {
		c.unfinished = false
		c.decode()
		return &c.exit, nil
	}
	errno := enter(c.fd)
	for errno == unix.EINTR {
		drainKicks() // of requests that are served; it would end KVM_RUN for ever
		if c.kicked() {
			break
		}
		// A signal of the scheduler's: the guest is likely to stay.
		errno = enterForLong(c.fd)
	}
	if errno != 0 {
		if errno == unix.EINTR || errno == unix.EAGAIN {
			c.exit = hv.Exit{}
			// Clear the request before the caller looks at what the kick was about, so
			// that a later kick is not lost.
			c.setImmediateExit(0)
			drainKicks()
			return &c.exit, nil
		}
		return nil, fmt.Errorf("KVM_RUN: %w", errno)
	}
	c.decode()
	return &c.exit, nil
}

// decode reads the exit that the kernel left in the shared page. The kernel wrote it, so
// it is trusted but for what it quotes from the guest.
func (c *vcpu) decode() {
	le := binary.LittleEndian
	x := &c.exit
	*x = hv.Exit{}
	switch reason := le.Uint32(c.run[runExitReason:]); reason {
	case exitIO:
		x.Reason, x.Write, x.Size = hv.ExitIO, c.run[runIODirection] == 1, c.run[runIOSize]
		x.Port, x.Count = le.Uint16(c.run[runIOPort:]), le.Uint32(c.run[runIOCount:])
		off, n := le.Uint64(c.run[runIOOffset:]), uint64(x.Size)*uint64(x.Count)
		if off > uint64(len(c.run)) || n > uint64(len(c.run))-off {
			x.Reason, x.Code = hv.ExitUnknown, uint64(reason)
			return
		}
		x.Data = c.run[off : off+n]
	case exitMMIO:
		n := min(le.Uint32(c.run[runMMIOLen:]), 8)
		x.Reason, x.Addr, x.Write = hv.ExitMMIO, le.Uint64(c.run[runMMIOAddr:]), c.run[runMMIOWrite] != 0
		x.Data = c.run[runMMIOData : runMMIOData+n]
	case exitHLT:
		x.Reason = hv.ExitHalt
	case exitShutdown:
		x.Reason = hv.ExitShutdown
	case exitFailEntry:
		x.Reason, x.Code = hv.ExitFailEntry, le.Uint64(c.run[runUnion:])
	case exitInternalError:
		x.Reason, x.Code = hv.ExitInternalError, uint64(le.Uint32(c.run[runUnion:]))
	case exitSystemEvent:
		switch le.Uint32(c.run[runUnion:]) {
		case systemEventShutdown, systemEventCrash:
			x.Reason = hv.ExitShutdown
		case systemEventReset:
			x.Reason = hv.ExitReset
		default:
			x.Reason, x.Code = hv.ExitUnknown, uint64(reason)
		}
	case exitIntr, exitIRQWindowOpen:
		x.Reason = hv.ExitNone
	default:
		x.Reason, x.Code = hv.ExitUnknown, uint64(reason)
	}
}

// Kick makes the request visible in the shared page first, then interrupts the thread in
// case it is in the guest already.
func (c *vcpu) Kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.setImmediateExit(1)
	if tid := c.tid.Load(); tid != 0 {
		_ = unix.Tgkill(unix.Getpid(), int(tid), kickSignal) // the thread may have ended
	}
}

func (c *vcpu) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	err := errors.Join(unix.Munmap(c.run), unix.Close(c.fd))
	c.run = nil
	return err
}
