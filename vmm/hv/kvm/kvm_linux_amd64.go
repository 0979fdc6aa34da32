package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/vmm/hv"
)

// DefaultPath is the device that Open uses unless told otherwise.
const DefaultPath = "/dev/kvm"

// KVM is an open KVM device. Methods are safe for concurrent use, except with Close.
type KVM struct {
	file     *os.File
	fd       int
	runSize  int
	maxVCPUs int
	msrs     []uint32 // that make up a vCPU's state
	hardware bool
}

// needed are the capabilities without which nothing here works. All of them are older
// than Linux 4.12.
var needed = []struct {
	number int
	name   string
}{
	{capIRQChip, "in-kernel interrupt controller"},
	{capUserMemory, "user memory regions"},
	{capSetTSSAddr, "TSS address"},
	{capExtCPUID, "extended CPUID"},
	{capMPState, "multiprocessing state"},
	{capIRQFD, "irqfd"},
	{capPITState2, "in-kernel timer"},
	{capIOEventFD, "ioeventfd"},
	{capSetIdentityMapAddr, "identity map address"},
	{capAdjustClock, "clock adjustment"},
	{capVCPUEvents, "vCPU events"},
	{capDebugRegs, "debug registers"},
	{capXSAVE, "extended state"},
	{capXCRs, "extended control registers"},
	{capImmediateExit, "immediate exit"},
}

// Open opens the KVM device at path, DefaultPath if empty. Its errors wrap ErrNoDevice,
// ErrPermission, ErrNotKVM or hv.ErrUnsupported.
func Open(path string) (*KVM, error) {
	if path == "" {
		path = DefaultPath
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("%w (%w)", ErrNoDevice, err)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%w (%w)", ErrPermission, err)
	default:
		return nil, fmt.Errorf("open KVM device: %w", err)
	}
	k := &KVM{file: f, fd: int(f.Fd())}
	if err := k.probe(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return k, nil
}

func (k *KVM) probe(path string) error {
	v, err := ioctl(k.fd, kvmGetAPIVersion, 0)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotKVM, path, err)
	}
	if v != apiVersion {
		return fmt.Errorf("%w: %s speaks API version %d, not %d", ErrNotKVM, path, v, apiVersion)
	}
	for _, c := range needed {
		if n, err := ioctl(k.fd, kvmCheckExtension, uintptr(c.number)); err != nil || n <= 0 {
			return fmt.Errorf("%w: this kernel's KVM lacks %s: use Linux 4.12 or newer", hv.ErrUnsupported, c.name)
		}
	}
	if k.runSize, err = ioctl(k.fd, kvmGetVCPUMmapSize, 0); err != nil {
		return fmt.Errorf("size of vCPU mapping: %w", err)
	}
	if k.runSize < runMinSize || k.runSize > 1<<20 {
		return fmt.Errorf("%w: vCPU mapping of %d bytes", ErrNotKVM, k.runSize)
	}
	k.maxVCPUs = MaxVCPUs
	if n, err := ioctl(k.fd, kvmCheckExtension, capMaxVCPUs); err == nil && n > 0 {
		k.maxVCPUs = min(n, MaxVCPUs)
	}
	if k.msrs, err = k.msrIndexes(); err != nil {
		return err
	}
	k.hardware = processorVirtualizes(cpuinfoPath)
	return nil
}

// Hardware reports whether the host's processor offers virtualization (vmx or svm).
// Without it KVM, where it exists at all, interprets the guest's supervisor code.
func (k *KVM) Hardware() bool { return k.hardware }

// Close closes the device. VMs that were created stay usable. It is idempotent.
func (k *KVM) Close() error {
	err := k.file.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// maxCPUIDEntries bounds the tables passed to and from KVM, whose own limit is 256.
const maxCPUIDEntries = 256

// SupportedCPUID is the CPUID table that the host's processor and KVM support
// (KVM_GET_SUPPORTED_CPUID).
func (k *KVM) SupportedCPUID() ([]hv.CPUIDEntry, error) {
	b := make([]byte, sizeListHeader+maxCPUIDEntries*sizeCPUIDEntry)
	binary.LittleEndian.PutUint32(b, maxCPUIDEntries)
	if _, err := ioctlBytes(k.fd, kvmGetSupportedCPUID, b); err != nil {
		return nil, fmt.Errorf("get supported CPUID: %w", err)
	}
	n := min(int(binary.LittleEndian.Uint32(b)), maxCPUIDEntries)
	entries := make([]hv.CPUIDEntry, n)
	for i := range entries {
		entries[i] = decodeCPUID(b[sizeListHeader+i*sizeCPUIDEntry:])
	}
	return entries, nil
}

func decodeCPUID(b []byte) hv.CPUIDEntry {
	le := binary.LittleEndian
	return hv.CPUIDEntry{
		Function: le.Uint32(b), Index: le.Uint32(b[4:]), Indexed: le.Uint32(b[8:])&cpuidFlagIndexed != 0,
		EAX: le.Uint32(b[12:]), EBX: le.Uint32(b[16:]), ECX: le.Uint32(b[20:]), EDX: le.Uint32(b[24:]),
	}
}

// encodeCPUID is struct kvm_cpuid2.
func encodeCPUID(entries []hv.CPUIDEntry) []byte {
	le := binary.LittleEndian
	b := make([]byte, sizeListHeader+len(entries)*sizeCPUIDEntry)
	le.PutUint32(b, uint32(len(entries)))
	for i, e := range entries {
		p := b[sizeListHeader+i*sizeCPUIDEntry:]
		flags := uint32(0)
		if e.Indexed {
			flags = cpuidFlagIndexed
		}
		for j, v := range [...]uint32{e.Function, e.Index, flags, e.EAX, e.EBX, e.ECX, e.EDX} {
			le.PutUint32(p[4*j:], v)
		}
	}
	return b
}

// maxMSRs bounds the list of registers that KVM saves; today's lists have about 150.
const maxMSRs = 4096

// msrIndexes lists the model-specific registers that make up a vCPU's state.
func (k *KVM) msrIndexes() ([]uint32, error) {
	b := make([]byte, 4+4*maxMSRs)
	binary.LittleEndian.PutUint32(b, maxMSRs)
	if _, err := ioctlBytes(k.fd, kvmGetMSRIndexList, b); err != nil {
		return nil, fmt.Errorf("list model-specific registers: %w", err)
	}
	n := min(int(binary.LittleEndian.Uint32(b)), maxMSRs)
	list := make([]uint32, n)
	for i := range list {
		list[i] = binary.LittleEndian.Uint32(b[4+4*i:])
	}
	return list, nil
}
