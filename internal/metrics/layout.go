package metrics

import "fmt"

// The segment's header. Offsets in bytes.
const (
	magic   = 0x313054454d42534d // "MSBMET01"
	version = 3

	headerLen = 256
	slotLen   = 512

	offMagic      = 0x00 // u64
	offVersion    = 0x08 // u32
	offHeaderLen  = 0x0c // u32
	offSlotLen    = 0x10 // u32
	offCapacity   = 0x14 // u32
	offReady      = 0x18 // u32: uninitialised, initialising, ready
	offCreatedAt  = 0x20 // i64, Unix ms
	offGeneration = 0x28 // u64, the newest that was given out
)

// ready is the value at offReady of a segment that may be used.
const ready = 2

// A slot. Offsets in bytes from its start.
const (
	slotState         = 0x00 // u32, a State
	slotGeneration    = 0x08 // u64
	slotSequence      = 0x10 // u64, odd while being written
	slotSandboxID     = 0x18 // i32
	slotRunID         = 0x1c // i32
	slotPID           = 0x20 // i32
	slotStartedAt     = 0x28 // i64, Unix ms
	slotSampledAt     = 0x30 // i64, Unix ms; 0 before the first sample
	slotKnown         = 0x38 // u32, a Field set
	slotMemoryLimit   = 0x40 // u64, bytes; so are all below but the name
	slotVCPUTime      = 0x48 // u64, ns
	slotCPUPercent    = 0x50 // u32, bits of a float32
	slotMemoryUsed    = 0x58
	slotMemoryFree    = 0x60
	slotHostResident  = 0x68
	slotDiskRead      = 0x70
	slotDiskWritten   = 0x78
	slotNetReceived   = 0x80
	slotNetSent       = 0x88
	slotUpperUsed     = 0x90
	slotUpperFree     = 0x98
	slotUpperOnHost   = 0xa0
	slotNameLen       = 0xa8 // u16
	slotName          = 0xb0 // maxName bytes
	maxName           = 128
	slotNameWords     = maxName / 8
	defaultCapacity   = 1024
	maxCapacity       = 1 << 16 // bounds what a reader walks through
	maxSegmentSize    = headerLen + maxCapacity*slotLen
	segmentNamePrefix = "/msb-met-"
)

// State is what a slot is used for.
type State uint32

// The states.
const (
	Free     State = 0
	Reserved State = 1 // a controller is about to start its sandbox
	Active   State = 2 // a runtime publishes samples
	Stale    State = 3 // the runtime has ended; the last sample is still there
)

// String names the state.
func (s State) String() string {
	switch s {
	case Free:
		return "free"
	case Reserved:
		return "reserved"
	case Active:
		return "active"
	case Stale:
		return "stale"
	}
	return fmt.Sprintf("state %d", uint32(s))
}

// Field is a set of fields of a sample that are known.
type Field uint32

// The fields that may be unknown. All others always are known.
const (
	CPUPercent      Field = 1 << iota
	MemoryUsed            // as the guest reports
	MemoryAvailable       // as the guest reports
	HostResident
	UpperUsed
	UpperFree
	UpperOnHost
)

// Has reports that all of want are known.
func (f Field) Has(want Field) bool { return f&want == want }

// Name is the name of the segment of a home directory, which must be spelt as the
// controller spells it: "/msb-met-", 64-bit FNV-1a of the path in hex, "-v3".
func Name(home string) string {
	h := uint64(0xcbf29ce484222325)
	for _, b := range []byte(home) {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	return fmt.Sprintf("%s%016x-v%d", segmentNamePrefix, h, version)
}
