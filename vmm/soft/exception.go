package soft

// Exception vectors (Intel SDM vol. 3 §6.3.1).
const (
	vectorBreakpoint = 3
	vectorUndefined  = 6
	vectorNoDevice   = 7
	vectorStack      = 12
	vectorProtection = 13
	vectorPageFault  = 14
	vectorFloat      = 16
)

// Bits of a page fault's error code (Intel SDM vol. 3 §4.7).
const (
	faultPresent  = 1 << 0
	faultWrite    = 1 << 1
	faultUser     = 1 << 2
	faultReserved = 1 << 3
	faultFetch    = 1 << 4
)

// exception is one that the guest gets.
type exception struct {
	vector  uint8
	hasCode bool
	code    uint32
	addr    uint64 // of a page fault
}

var (
	breakpoint    = exception{vector: vectorBreakpoint}
	invalidOpcode = exception{vector: vectorUndefined}
	noDevice      = exception{vector: vectorNoDevice}
	floatError    = exception{vector: vectorFloat}
)

// protection and stackFault have no selector to blame.
func protection() exception { return exception{vector: vectorProtection, hasCode: true} }
func stackFault() exception { return exception{vector: vectorStack, hasCode: true} }

func pageFault(addr uint64, code uint32) exception {
	return exception{vector: vectorPageFault, hasCode: true, code: code, addr: addr}
}
