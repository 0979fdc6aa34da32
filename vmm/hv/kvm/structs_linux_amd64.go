//lint:file-ignore U1000 the kernel's layouts, of which much passes through untouched

package kvm

// The kernel's structures, in the layout of linux/kvm.h on x86-64. Those that hv has in
// the same layout (kvm_regs, kvm_sregs) are passed as they are.

type userMemoryRegion struct {
	slot, flags               uint32
	guestAddr, size, hostAddr uint64
}

type preFault struct {
	addr, size, flags uint64
	_                 [40]byte
}

type irqfdConfig struct {
	fd, gsi, flags, resample uint32
	_                        [16]byte
}

type msiMessage struct {
	addressLow, addressHigh, data, flags uint32
	_                                    [16]byte
}

type ioeventConfig struct {
	datamatch, addr uint64
	len             uint32
	fd              int32
	flags           uint32
	_               [36]byte
}

type pitConfig struct {
	flags uint32
	_     [15]uint32
}

type irqchip struct {
	id, _ uint32
	state [512]byte
}

type pitState struct{ state [112]byte }

type clockData struct {
	clock    uint64
	flags, _ uint32
	realtime uint64
	hostTSC  uint64
	_        [4]uint32
}

type deviceAttr struct {
	flags, group uint32
	attr, addr   uint64
}

type signalMask struct {
	len  uint32
	bits [8]byte
}

type fpu struct {
	fpr            [8][16]byte
	fcw, fsw       uint16
	ftwx, _        uint8
	lastOpcode     uint16
	lastIP, lastDP uint64
	xmm            [16][16]byte
	mxcsr, _       uint32
}

type lapicState struct{ regs [1024]byte }

type vcpuEvents struct {
	exception struct {
		injected, nr, hasCode, pending uint8
		code                           uint32
	}
	interrupt  struct{ injected, nr, soft, shadow uint8 }
	nmi        struct{ injected, pending, masked, _ uint8 }
	sipi       uint32
	flags      uint32
	smi        struct{ smm, pending, insideNMI, latchedInit uint8 }
	fault      struct{ pending uint8 }
	_          [26]byte
	hasPayload uint8
	payload    uint64
}

type debugRegs struct{ regs [128]byte }

// xcrs holds pairs of number and value.
type xcrs struct {
	n, flags uint32
	regs     [16]struct {
		number, _ uint32
		value     uint64
	}
	_ [16]uint64
}

type mpState struct{ state uint32 }

type msrEntry struct {
	index, _ uint32
	value    uint64
}

// msrBatch is how many registers one request transfers.
const msrBatch = 64

type msrTable struct {
	n, _    uint32
	entries [msrBatch]msrEntry
}
