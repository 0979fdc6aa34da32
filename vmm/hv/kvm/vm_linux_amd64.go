package kvm

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/vmm/hv"
)

// vm implements hv.VM.
type vm struct {
	k         *KVM
	xsaveSize int // of a vCPU's extended state, bytes
	tsc       tsc // of a VM whose vCPUs are being restored, by one goroutine

	mu sync.Mutex
	fd int // -1 once closed; protected by mu
}

// CreateVM makes an empty virtual machine with interrupt controllers and a timer. Its
// errors may wrap ErrBusy.
func (k *KVM) CreateVM() (hv.VM, error) {
	fd, err := ioctl(k.fd, kvmCreateVM, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%w (%w)", ErrBusy, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create VM: %w", err)
	}
	v := &vm{k: k, fd: fd, xsaveSize: sizeXSAVE}
	if err := v.init(); err != nil {
		return nil, errors.Join(fmt.Errorf("create VM: %w", err), v.Close())
	}
	return v, nil
}

func (v *vm) init() error {
	unix.CloseOnExec(v.fd)
	if _, err := ioctl(v.fd, kvmSetTSSAddr, tssAddr); err != nil {
		return fmt.Errorf("set TSS address: %w", err)
	}
	addr := uint64(identityMapAddr)
	if _, err := ioctlPtr(v.fd, kvmSetIdentityMapAddr, &addr); err != nil {
		return fmt.Errorf("set identity map address: %w", err)
	}
	if _, err := ioctl(v.fd, kvmCreateIRQChip, 0); err != nil {
		return fmt.Errorf("create interrupt controllers: %w", err)
	}
	if _, err := ioctlPtr(v.fd, kvmCreatePIT2, &pitConfig{flags: pitSpeakerDummy}); err != nil {
		return fmt.Errorf("create timer: %w", err)
	}
	if n, err := ioctl(v.fd, kvmCheckExtension, capXSAVE2); err == nil && n > v.xsaveSize {
		v.xsaveSize = n
	}
	return nil
}

func (v *vm) MapMemory(slot uint32, addr uint64, host []byte) error {
	if len(host) == 0 {
		return fmt.Errorf("map no memory at %#x", addr)
	}
	r := &userMemoryRegion{slot: slot, guestAddr: addr, size: uint64(len(host)), hostAddr: addressOf(host)}
	if _, err := ioctlPtr(v.fd, kvmSetUserMemoryRegion, r); err != nil {
		return fmt.Errorf("map %d bytes of guest memory at %#x: %w", len(host), addr, err)
	}
	return nil
}

func (v *vm) BindKick(addr uint64, value uint32, fd int) error {
	c := &ioeventConfig{datamatch: uint64(value), addr: addr, len: 4, fd: int32(fd), flags: ioEventDataMatch}
	if _, err := ioctlPtr(v.fd, kvmIOEventFD, c); err != nil {
		return fmt.Errorf("bind notification at %#x: %w", addr, err)
	}
	return nil
}

func (v *vm) BindInterrupt(fd int, gsi uint32) error {
	if _, err := ioctlPtr(v.fd, kvmIRQFD, &irqfdConfig{fd: uint32(fd), gsi: gsi}); err != nil {
		return fmt.Errorf("bind interrupt %d: %w", gsi, err)
	}
	return nil
}

// Interrupt sends a message-signalled interrupt with a physical destination (Intel SDM
// vol. 3 §11.11).
func (v *vm) Interrupt(id int, vector uint8) error {
	if id < 0 || id >= maxAPICID {
		return fmt.Errorf("interrupt vCPU %d: %w: no message reaches it", id, hv.ErrUnsupported)
	}
	m := &msiMessage{addressLow: msiAddress | uint32(id)<<12, data: uint32(vector)}
	// EPERM is how KVM says that no local interrupt controller has taken it.
	if _, err := ioctlPtr(v.fd, kvmSignalMSI, m); err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("interrupt vCPU %d: %w", id, err)
	}
	return nil
}

func (v *vm) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fd < 0 {
		return nil
	}
	err := unix.Close(v.fd)
	v.fd = -1
	return err
}
