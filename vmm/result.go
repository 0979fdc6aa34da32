package vmm

import "fmt"

// Kind says how a machine ended.
type Kind uint8

const (
	// PowerOff: the guest switched itself off.
	PowerOff Kind = iota + 1
	// Halt: no processor will ever execute anything again. It is how a kernel switches
	// off that knows no way to, as without ACPI.
	Halt
	// Reset: the guest asked for a reset, which ends it too.
	Reset
	// Panic: the guest kernel reported a panic before it reset.
	Panic
	// TripleFault: a virtual processor shut down.
	TripleFault
	// Stopped: the host called Stop.
	Stopped
	// Failed: the hypervisor or a virtual processor failed; Err says how.
	Failed
)

var kindNames = [...]string{PowerOff: "power-off", Halt: "halt", Reset: "reset", Panic: "guest panic", TripleFault: "triple fault", Stopped: "stopped", Failed: "failed"}

// String names the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Result is how a machine ended.
type Result struct {
	Kind Kind
	// VCPU is the processor that ended it, -1 for Stopped and for all together.
	VCPU int
	// Err is set for Failed and tells what the hypervisor reported.
	Err error
}

// String is one line for logs.
func (r Result) String() string {
	if r.Err != nil {
		return fmt.Sprintf("%s: %v", r.Kind, r.Err)
	}
	return r.Kind.String()
}

// ExitError is the hypervisor's report of a virtual processor that cannot go on.
type ExitError struct {
	Reason string // "internal error", "entry failure" or "exit N"
	Code   uint64 // the hypervisor's own code
	RIP    uint64 // guest instruction pointer, 0 if unknown
}

// Error describes the exit.
func (e *ExitError) Error() string {
	return fmt.Sprintf("virtual processor: %s %#x at rip %#x", e.Reason, e.Code, e.RIP)
}
