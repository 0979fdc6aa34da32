package kvm

// flagIF is RFLAGS.IF, the flag that lets maskable interrupts in.
const flagIF = 1 << 9

// Asleep tells the states apart between two Runs. KVM calls a halted vCPU that another one
// has kicked (KVM_HC_KICK_CPU) runnable, and so one that has just got an INIT.
func (c *vcpu) Asleep() (bool, error) {
	var mp mpState
	if _, err := ioctlPtr(c.fd, kvmGetMPState, &mp); err != nil {
		return false, c.wrap("get multiprocessor state", err)
	}
	switch mp.state {
	case mpUninitialized, mpInitReceived:
		return true, nil
	case mpHalted:
	default:
		return false, nil
	}
	r, err := c.Registers()
	if err != nil || r.RFLAGS&flagIF != 0 {
		return false, err
	}
	if _, err := ioctlPtr(c.fd, kvmGetVCPUEvents, &c.event); err != nil {
		return false, c.wrap("get events", err)
	}
	e := &c.event
	return e.nmi.pending|e.nmi.injected|e.smi.pending == 0, nil
}
