package soft

// maxLength is how long an instruction may be, bytes.
const maxLength = 15

// verdict says whether bytes are an instruction.
type verdict uint8

const (
	decoded   verdict = iota
	truncated         // more bytes are needed
	tooLong           // it does not end within maxLength
)

// Registers of a memory operand beside the general ones.
const (
	regNone = 0xff
	regRIP  = 0x10 // the address of the next instruction
	regRSP  = 4
	regRBP  = 5
)

// mandatory is the prefix that is a part of the opcode, numbered as in VEX.
type mandatory uint8

const (
	prefixNone mandatory = iota
	prefix66
	prefixF3
	prefixF2
)

// table is one of the opcode maps, numbered as in VEX.
type table uint8

const (
	table1    table = iota // one byte
	table0F                // 0F
	table0F38              // 0F 38
	table0F3A              // 0F 3A
)

// segment is a segment whose base counts in 64-bit mode.
type segment uint8

const (
	segmentFlat segment = iota
	segmentFS
	segmentGS
)

// instruction is a decoded one. An opUnknown has been decoded up to its opcode only.
type instruction struct {
	op     operation
	length uint8

	lock      bool
	size16    bool // 66
	address32 bool // 67
	vex, long bool // VEX; with its L bit
	wide      bool // REX.W or VEX.W
	rex       bool // any REX: SPL to DIL instead of AH to BH
	mandatory mandatory
	segment   segment

	table  table
	opcode uint8
	reg    uint8 // ModRM.reg, with REX.R
	vvvv   uint8 // the second source of VEX
	rm     uint8 // the register, if memory is not set
	memory bool

	base, index uint8 // a general register, regRIP or regNone
	scale       uint8 // shift of the index
	disp        int64
	immediate   uint8
}

// size is the operand size, bytes: 2, 4 or 8.
func (in *instruction) size() int {
	switch {
	case in.wide:
		return 8
	case in.size16:
		return 2
	}
	return 4
}

// decoder takes bytes from the front; past the end there are zeros.
type decoder struct {
	b     []byte
	n     int
	short bool
}

func (d *decoder) next() uint8 {
	if d.n >= len(d.b) {
		d.short = true
		return 0
	}
	d.n++
	return d.b[d.n-1]
}

func (d *decoder) int32() int64 {
	v := uint32(d.next()) | uint32(d.next())<<8 | uint32(d.next())<<16 | uint32(d.next())<<24
	return int64(int32(v))
}

// decode decodes the 64-bit mode instruction that b, at most maxLength bytes, begins with.
func decode(b []byte) (instruction, verdict) {
	d := decoder{b: b}
	in := instruction{base: regNone, index: regNone}
	x := d.opcode(&in)
	if in.hasModRM() {
		d.modRM(&in, x)
	}
	if in.hasImmediate() {
		in.immediate = d.next()
	}
	if d.short {
		if len(b) >= maxLength {
			return in, tooLong
		}
		return in, truncated
	}
	in.length = uint8(d.n)
	in.op = in.classify()
	return in, decoded
}

// extension holds the high bits of the register numbers in ModRM and SIB.
type extension struct{ r, x, b uint8 }

// opcode decodes prefixes and opcode.
func (d *decoder) opcode(in *instruction) extension {
	rex := uint8(0)
	repeat := prefixNone
	op := d.next()
prefixes:
	for ; !d.short; op = d.next() {
		switch {
		case op&0xf0 == 0x40:
			rex = op
			continue
		case op == 0x26 || op == 0x2e || op == 0x36 || op == 0x3e: // without meaning in 64-bit mode
		case op == 0x64:
			in.segment = segmentFS
		case op == 0x65:
			in.segment = segmentGS
		case op == 0x66:
			in.size16 = true
		case op == 0x67:
			in.address32 = true
		case op == 0xf0:
			in.lock = true
		case op == 0xf2:
			repeat = prefixF2
		case op == 0xf3:
			repeat = prefixF3
		default:
			break prefixes
		}
		rex = 0 // only the one right before the opcode counts
	}
	in.rex, in.wide = rex != 0, rex&8 != 0
	in.mandatory = repeat
	if repeat == prefixNone && in.size16 {
		in.mandatory = prefix66
	}
	x := extension{r: rex << 1 & 8, x: rex << 2 & 8, b: rex << 3 & 8}
	switch op {
	case 0xc4, 0xc5:
		if in.rex || in.lock || in.mandatory != prefixNone {
			in.opcode = op // undefined; no VEX opcode follows
			return x
		}
		return d.vex(in, op)
	case 0x0f:
		in.table, op = table0F, d.next()
		switch op {
		case 0x38:
			in.table, op = table0F38, d.next()
		case 0x3a:
			in.table, op = table0F3A, d.next()
		}
	}
	in.opcode = op
	return x
}

// vex decodes the rest of a VEX prefix, two bytes C5 or three bytes C4, and the opcode.
func (d *decoder) vex(in *instruction, first uint8) extension {
	in.vex, in.table = true, table0F
	p := d.next()
	x := extension{r: ^p >> 4 & 8}
	if first == 0xc4 {
		x.x, x.b = ^p>>3&8, ^p>>2&8
		in.table = table(p & 31)
		p = d.next()
		in.wide = p&0x80 != 0
	}
	in.vvvv = ^p >> 3 & 15
	in.long = p&4 != 0
	in.mandatory = mandatory(p & 3)
	in.opcode = d.next()
	return x
}

// modRM decodes the ModRM byte, SIB and displacement.
func (d *decoder) modRM(in *instruction, x extension) {
	m := d.next()
	mod, rm := m>>6, m&7
	in.reg = m>>3&7 | x.r
	if mod == 3 {
		in.rm = rm | x.b
		return
	}
	in.memory = true
	in.base = rm | x.b
	switch {
	case rm == 4:
		s := d.next()
		in.base = s&7 | x.b
		in.scale = s >> 6
		if index := s>>3&7 | x.x; index != regRSP {
			in.index = index
		}
		if s&7 == 5 && mod == 0 {
			in.base = regNone
			in.disp = d.int32()
		}
	case rm == 5 && mod == 0:
		in.base = regRIP
		in.disp = d.int32()
	}
	switch mod {
	case 1:
		in.disp = int64(int8(d.next()))
	case 2:
		in.disp = d.int32()
	}
}
