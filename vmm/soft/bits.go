package soft

import "math/bits"

// popcnt counts ones and defines all status flags.
func (c *cpu) popcnt() bool {
	size := c.in.size()
	v, ok := c.source(size)
	if !ok {
		return false
	}
	c.setReg(c.in.reg, uint64(bits.OnesCount64(v)), size)
	c.setFlags(flagStatus, flagIf(v == 0, flagZF))
	return true
}

// castagnoli is the polynomial of CRC32, bit-reversed.
const castagnoli = 0x82f63b78

func (c *cpu) crc32() bool {
	size := 1
	if c.in.opcode&1 != 0 {
		size = c.in.size()
	}
	v, ok := c.source(size)
	if !ok {
		return false
	}
	sum := *c.reg(c.in.reg) & 0xffffffff
	for range size {
		sum ^= v & 0xff
		for range 8 {
			sum = sum>>1 ^ castagnoli&-(sum&1)
		}
		v >>= 8
	}
	*c.reg(c.in.reg) = sum
	return true
}

// addCarry adds with a carry that is in flag, the only one to change.
func (c *cpu) addCarry(flag uint64) bool {
	size := c.wideSize()
	v, ok := c.source(size)
	if !ok {
		return false
	}
	carry := uint64(0)
	if c.regs.RFLAGS&flag != 0 {
		carry = 1
	}
	sum, out := bits.Add64(c.low(c.in.reg, size), v, carry)
	if size == 4 {
		out = sum >> 32
	}
	c.setReg(c.in.reg, sum, size)
	c.setFlags(flag, flagIf(out != 0, flag))
	return true
}

// wideSize is the operand size of instructions that come in 32 and 64 bits only.
func (c *cpu) wideSize() int {
	if c.in.wide {
		return 8
	}
	return 4
}

// mulx multiplies by RDX without touching flags.
func (c *cpu) mulx() bool {
	size := c.wideSize()
	v, ok := c.source(size)
	if !ok {
		return false
	}
	high, low := bits.Mul64(c.low(2, size), v)
	if size == 4 {
		high, low = low>>32, low&0xffffffff
	}
	c.setReg(c.in.vvvv, low, size)
	c.setReg(c.in.reg, high, size) // wins if both are the same
	return true
}

// bitField is BMI's bit manipulation that sets flags.
func (c *cpu) bitField() bool {
	size := c.wideSize()
	v, ok := c.source(size)
	if !ok {
		return false
	}
	width := uint64(8 * size)
	control := c.low(c.in.vvvv, size)
	target, r, carry := c.in.reg, uint64(0), false
	switch c.in.op {
	case opANDN:
		r = ^control & v
	case opBLSR:
		target, r, carry = c.in.vvvv, v&(v-1), v == 0
	case opBLSMSK:
		target, r, carry = c.in.vvvv, v^(v-1), v == 0
	case opBLSI:
		target, r, carry = c.in.vvvv, v&-v, v != 0
	case opBZHI:
		n := control & 0xff
		r, carry = v, n >= width
		if !carry {
			r = v & (1<<n - 1)
		}
	case opBEXTR:
		r = v >> (control & 0xff) & (1<<(control>>8&0xff) - 1) // Go shifts past the width to 0
	}
	r &= ^uint64(0) >> (64 - width)
	c.setReg(target, r, size)
	c.setFlags(flagCF|flagZF|flagSF|flagOF, flagIf(carry, flagCF)|flagIf(r == 0, flagZF)|flagIf(r>>(width-1) != 0, flagSF))
	return true
}

// bitMove is BMI's shifts and gathers, which leave the flags.
func (c *cpu) bitMove() bool {
	size := c.wideSize()
	v, ok := c.source(size)
	if !ok {
		return false
	}
	width := uint64(8 * size)
	control := c.low(c.in.vvvv, size)
	n := control & (width - 1)
	var r uint64
	switch c.in.op {
	case opSHLX:
		r = v << n
	case opSHRX:
		r = v >> n
	case opSARX:
		r = uint64(int64(v<<(64-width)) >> (64 - width) >> n)
	case opRORX:
		n = uint64(c.in.immediate) & (width - 1)
		r = v>>n | v<<(width-n)
	case opPEXT:
		r = gather(control, v)
	case opPDEP:
		r = scatter(control, v)
	}
	c.setReg(c.in.reg, r, size)
	return true
}

// gather moves the bits of v where mask is set to the low end.
func gather(v, mask uint64) (r uint64) {
	for i := 0; mask != 0; i++ {
		r |= v >> bits.TrailingZeros64(mask) & 1 << i
		mask &= mask - 1
	}
	return r
}

// scatter is the inverse: it moves the low bits of v to where mask is set.
func scatter(v, mask uint64) (r uint64) {
	for ; mask != 0; mask &= mask - 1 {
		r |= v & 1 << bits.TrailingZeros64(mask)
		v >>= 1
	}
	return r
}
