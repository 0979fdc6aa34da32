package amd64

import (
	"fmt"

	"github.com/gomsb/gomsb/vmm/hv"
)

// Control register and EFER bits.
const (
	cr0PE, cr0ET, cr0PG = 1 << 0, 1 << 4, 1 << 31
	cr4PAE              = 1 << 5
	eferLME, eferLMA    = 1 << 8, 1 << 10

	rflagsReserved = 2
)

// MSRs that must have a sensible value before the kernel looks.
const (
	msrMiscEnable = 0x1a0
	msrMTRRDef    = 0x2ff

	miscFastString = 1
	mtrrEnable     = 1 << 11
	mtrrWriteBack  = 6
)

// SetupVCPU gives processor id what it has after power-up and, to the first, the state
// that the 64-bit boot protocol asks for; the others wait for the first to start them.
// cpuid is its table, from CPUID.
func SetupVCPU(v hv.VCPU, id int, entry uint64, cpuid []hv.CPUIDEntry) error {
	if err := v.SetCPUID(cpuid); err != nil {
		return err
	}
	if err := v.SetMSRs([]hv.MSR{{Index: msrMiscEnable, Value: miscFastString}, {Index: msrMTRRDef, Value: mtrrEnable | mtrrWriteBack}}); err != nil {
		return err
	}
	if err := v.SetFPU(0x37f, 0x1f80); err != nil {
		return err
	}
	if err := setXCR0(v, cpuid); err != nil {
		return err
	}
	if id != 0 {
		return nil
	}
	s, err := v.SystemRegisters()
	if err != nil {
		return err
	}
	code := hv.Segment{Limit: 0xffffffff, Selector: bootCS, Type: 11, Present: 1, S: 1, L: 1, G: 1}
	data := hv.Segment{Limit: 0xffffffff, Selector: bootDS, Type: 3, Present: 1, S: 1, DB: 1, G: 1}
	s.CS, s.DS, s.ES, s.FS, s.GS, s.SS = code, data, data, data, data, data
	s.TR = hv.Segment{Limit: 0xffff, Selector: bootTSS, Type: 11, Present: 1, G: 1}
	s.GDT = hv.DescriptorTable{Base: gdtAddr, Limit: uint16(len(gdt()) - 1)}
	s.IDT = hv.DescriptorTable{}
	s.CR3 = pageTables
	s.CR4 |= cr4PAE
	s.CR0 = cr0PE | cr0ET | cr0PG
	s.EFER |= eferLME | eferLMA
	if err := v.SetSystemRegisters(s); err != nil {
		return err
	}
	if err := v.SetRegisters(hv.Registers{RIP: entry, RSP: stackAddr, RBP: stackAddr, RSI: zeroPageAddr, RFLAGS: rflagsReserved}); err != nil {
		return fmt.Errorf("boot processor: %w", err)
	}
	return nil
}

const xcr0AVX = 1<<0 | 1<<1 | 1<<2 // x87, SSE and AVX state

// setXCR0 enables what the kernel will enable anyway. A hypervisor sizes CPUID leaf 0xD
// by XCR0; one that itself runs under another may not see the guest's XSETBV, and the
// kernel then gives up on XSAVE because of sizes that do not fit.
func setXCR0(v hv.VCPU, cpuid []hv.CPUIDEntry) error {
	for _, e := range cpuid {
		if e.Function == 0xd && e.Index == 0 && e.EAX&xcr0AVX == xcr0AVX {
			return v.SetXCR0(xcr0AVX)
		}
	}
	return nil
}
