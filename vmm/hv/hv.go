package hv

import "errors"

// Errors that implementations wrap.
var (
	// ErrUnsupported reports that the host lacks a capability the caller asked for.
	ErrUnsupported = errors.New("hypervisor capability not supported")
	// ErrClosed reports use of a VM or vCPU after Close.
	ErrClosed = errors.New("virtual machine closed")
	// ErrState reports a saved state that is truncated, corrupt, of another version or
	// of another shape than the VM or vCPU that it was given to.
	ErrState = errors.New("invalid saved state")
	// ErrPending reports that a vCPU cannot be saved before an exit that is part of the
	// instruction in progress (the second half of a wide device access) has been
	// handled: call Run, handle what it returns, save again.
	ErrPending = errors.New("vCPU has an unfinished device access")
)

// ExitReason says why VCPU.Run returned.
type ExitReason uint8

const (
	// ExitNone: Run returned without a guest event, after Kick or a signal.
	ExitNone ExitReason = iota
	// ExitIO: the guest accessed an x86 I/O port; Port, Size, Count, Write and Data are set.
	ExitIO
	// ExitMMIO: the guest accessed memory that is not RAM; Addr, Write and Data are set.
	ExitMMIO
	// ExitHalt: the vCPU halted and no in-kernel interrupt controller will wake it.
	ExitHalt
	// ExitShutdown: triple fault (x86) or a shutdown event.
	ExitShutdown
	// ExitReset: the guest asked for a reset through the hypervisor's own interface.
	ExitReset
	// ExitInternalError: the hypervisor could not execute an instruction; Code holds
	// its suberror.
	ExitInternalError
	// ExitFailEntry: the processor refused to enter the guest; Code holds the
	// hardware reason.
	ExitFailEntry
	// ExitUnknown: any other reason; Code holds the raw one.
	ExitUnknown
)

// Exit describes one return from guest mode. The VCPU owns it: it is valid, and Data
// may be read (guest writes) or filled (guest reads), until the next Run.
type Exit struct {
	Reason ExitReason
	Write  bool   // the guest writes (out, store)
	Port   uint16 // ExitIO
	Size   uint8  // ExitIO: bytes per item, 1, 2 or 4
	Count  uint32 // ExitIO: items, more than 1 for REP string instructions
	Addr   uint64 // ExitMMIO: guest-physical address
	Data   []byte // ExitIO: Size*Count bytes; ExitMMIO: 1 to 8 bytes
	Code   uint64 // ExitInternalError, ExitFailEntry, ExitUnknown
}

// VM is one virtual machine. Methods are safe for concurrent use unless they say
// otherwise.
type VM interface {
	// MapMemory makes host, which must stay mapped until Close and start on a page,
	// guest-physical RAM at addr. slot is unique within the VM.
	MapMemory(slot uint32, addr uint64, host []byte) error
	// CreateVCPU creates virtual processor id (0-based, also its local APIC id).
	CreateVCPU(id int) (VCPU, error)
	// BindKick makes a 4-byte guest store of value to addr signal the event
	// descriptor fd instead of causing an exit.
	BindKick(addr uint64, value uint32, fd int) error
	// BindInterrupt makes a signal on the event descriptor fd raise global
	// interrupt gsi, edge-triggered.
	BindInterrupt(fd int, gsi uint32) error
	// Interrupt makes vector, 16 or more, pending in the local interrupt controller of
	// virtual processor id. One that is switched off ignores it.
	Interrupt(id int, vector uint8) error
	// SaveState captures interrupt controllers, timers and the clock while no vCPU
	// runs; RestoreState is its inverse on a fresh VM with the same vCPU count, after
	// the vCPUs have been restored. Its errors wrap ErrState.
	SaveState() ([]byte, error)
	RestoreState([]byte) error
	// Close frees the VM. Every VCPU must have been closed.
	Close() error
}

// VCPU is one virtual processor. All methods but Kick belong to one goroutine at a time;
// once Run has been called, to the one that runs it, locked to its OS thread.
type VCPU interface {
	// Run enters the guest until the next exit.
	Run() (*Exit, error)
	// Kick makes a running or the next Run return ExitNone soon. It may be called
	// from any goroutine and is never lost: the next Run after a Kick returns at once.
	Kick()
	// Asleep reports that nothing but another vCPU will ever make this one execute
	// anything: it waits to be started, or has halted with interrupts disabled and
	// nothing else pending.
	Asleep() (bool, error)
	// Registers and SetRegisters transfer the general registers.
	Registers() (Registers, error)
	SetRegisters(Registers) error
	// SystemRegisters and SetSystemRegisters transfer segments and control registers.
	SystemRegisters() (SystemRegisters, error)
	SetSystemRegisters(SystemRegisters) error
	// SetCPUID installs the table that the guest's CPUID instruction sees.
	SetCPUID([]CPUIDEntry) error
	// CPUID is the table that SetCPUID installed. The VCPU owns it.
	CPUID() []CPUIDEntry
	// SetMSRs writes model-specific registers in order; MSR reads one.
	SetMSRs([]MSR) error
	MSR(index uint32) (uint64, error)
	// XCR0 and SetXCR0 transfer extended control register 0.
	XCR0() (uint64, error)
	SetXCR0(uint64) error
	// SetFPU resets the x87 and SSE state to the given control words.
	SetFPU(fcw uint16, mxcsr uint32) error
	// XSAVE and SetXSAVE transfer the extended state in the standard (uncompacted)
	// XSAVE layout; XSAVE returns a slice the VCPU owns.
	XSAVE() ([]byte, error)
	SetXSAVE([]byte) error
	// InjectException queues a hardware exception for the next Run.
	InjectException(vector uint8, hasCode bool, code uint32) error
	// PreFault maps size bytes of RAM at addr for the guest, which then runs into fewer
	// faults; both are whole pages. It wraps ErrUnsupported where the host cannot.
	PreFault(addr, size uint64) error
	// SaveState captures the complete architectural state between two Runs, with any
	// pending I/O completed, or fails with ErrPending; RestoreState is its inverse on
	// a fresh vCPU that has its CPUID set. Its errors wrap ErrState.
	SaveState() ([]byte, error)
	RestoreState([]byte) error
	// TellPaused keeps the guest's watchdogs from taking the time that has passed since
	// the last Run for a stall, if the guest has a clock that can say so.
	TellPaused() error
	Close() error
}
