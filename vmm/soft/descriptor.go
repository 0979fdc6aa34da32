package soft

import "encoding/binary"

// descriptor is a segment descriptor (Intel SDM vol. 3 §3.4.5).
type descriptor uint64

func (d descriptor) kind() uint8   { return uint8(d >> 40 & 15) } // type
func (d descriptor) segment() bool { return d>>44&1 != 0 }        // code or data, S
func (d descriptor) dpl() uint8    { return uint8(d >> 45 & 3) }

// Types of code and data descriptors are bit fields.
const (
	kindWritable   = 1 << 1 // of data; of code: readable
	kindConforming = 1 << 2 // of code
	kindCode       = 1 << 3
)

// conforming reports whether privilege does not matter.
func (d descriptor) conforming() bool {
	return d.segment() && d.kind()&(kindCode|kindConforming) == kindCode|kindConforming
}

// limit is the offset of the last byte.
func (d descriptor) limit() uint64 {
	n := uint64(d&0xffff | d>>32&0xf0000)
	if d>>55&1 != 0 {
		n = n<<12 | 0xfff
	}
	return n
}

// System descriptors of 64-bit mode that LAR and LSL know.
const (
	kindLDT      = 2
	kindTSS      = 9
	kindCallGate = 12
	kindBusyTSS  = 11
)

// inspectSelector is VERR, VERW, LAR and LSL: ZF says whether the selector is good, and
// the last two read access rights and limit then.
func (c *cpu) inspectSelector() bool {
	v, ok := c.source(2)
	if !ok {
		return false
	}
	selector := uint16(v)
	d, present, ok := c.descriptor(selector)
	if !ok {
		return false
	}
	good := present && c.acceptable(d, uint8(selector&3))
	c.setFlags(flagZF, flagIf(good, flagZF))
	if good && c.in.op == opLAR {
		c.setReg(c.in.reg, uint64(d>>32&0x00f0ff00), c.in.size())
	}
	if good && c.in.op == opLSL {
		c.setReg(c.in.reg, d.limit(), c.in.size())
	}
	return true
}

// acceptable reports whether the instruction calls the descriptor good.
func (c *cpu) acceptable(d descriptor, rpl uint8) bool {
	if !d.conforming() && d.dpl() < max(rpl, c.cpl()) {
		return false
	}
	code, flag := d.kind()&kindCode != 0, d.kind()&kindWritable != 0
	switch c.in.op {
	case opVERR:
		return d.segment() && (!code || flag)
	case opVERW:
		return d.segment() && !code && flag
	}
	if d.segment() {
		return true
	}
	switch d.kind() {
	case kindLDT, kindTSS, kindBusyTSS:
		return true
	case kindCallGate:
		return c.in.op == opLAR
	}
	return false
}

// descriptor reads the descriptor of a selector; present is false if there is none.
func (c *cpu) descriptor(selector uint16) (d descriptor, present, ok bool) {
	base, limit := c.sys.GDT.Base, uint32(c.sys.GDT.Limit)
	if selector&4 != 0 {
		if c.sys.LDT.Unusable != 0 || c.sys.LDT.Present == 0 {
			return 0, false, true
		}
		base, limit = c.sys.LDT.Base, c.sys.LDT.Limit
	}
	offset := uint32(selector &^ 7)
	if selector&^3 == 0 || offset+7 > limit {
		return 0, false, true
	}
	c.area = area{base: base + uint64(offset)}
	if !c.reach(0, 8, system) {
		return 0, false, false
	}
	var b [8]byte
	c.area.load(b[:], 0)
	return descriptor(binary.LittleEndian.Uint64(b[:])), true, true
}
