package hv

// Registers are the x86-64 general registers.
type Registers struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
}

// Segment is an x86 segment register with its hidden part (Intel SDM vol. 3 §3.4.3).
type Segment struct {
	Base                                     uint64
	Limit                                    uint32
	Selector                                 uint16
	Type                                     uint8
	Present, DPL, DB, S, L, G, AVL, Unusable uint8
}

// DescriptorTable is GDTR or IDTR.
type DescriptorTable struct {
	Base  uint64
	Limit uint16
}

// SystemRegisters are the x86 segments, descriptor tables and control registers.
type SystemRegisters struct {
	CS, DS, ES, FS, GS, SS, TR, LDT Segment
	GDT, IDT                        DescriptorTable
	CR0, CR2, CR3, CR4, CR8         uint64
	EFER, APICBase                  uint64
	InterruptBitmap                 [4]uint64
}

// CPUIDEntry is one leaf of the CPUID table. Indexed says that Index (ECX) is
// significant.
type CPUIDEntry struct {
	Function, Index    uint32
	Indexed            bool
	EAX, EBX, ECX, EDX uint32
}

// MSR is one model-specific register.
type MSR struct {
	Index uint32
	Value uint64
}
