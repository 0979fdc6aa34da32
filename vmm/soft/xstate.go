package soft

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The standard format of an XSAVE area (Intel SDM vol. 1 §13.4), offsets in bytes.
const (
	xFSW       = 2
	xFIPHigh   = 12 // FCS and padding, unless the operand is 64 bits wide
	xFDPHigh   = 20 // FDS, likewise
	xMXCSR     = 24
	xMXCSRMask = 28
	xST        = 32
	xXMM       = 160
	xXMMEnd    = 416
	xHeader    = 512
	xHeaderEnd = 576

	xAlignment = 64
)

// State components with a fixed place, as bits of XCR0 and XSTATE_BV.
const (
	stateX87 = 1 << 0
	stateSSE = 1 << 1
	stateAVX = 1 << 2
)

const (
	initialFCW   = 0x37f
	initialMXCSR = 0x1f80
	// defaultMXCSRMask holds the bits that every processor has; its own mask may be 0.
	defaultMXCSRMask = 0xffbf

	fswErrorSummary = 1 << 7
)

// image is the vCPU's extended state in the standard format, settled. It belongs to the vCPU and is good until it is asked for again.
type image []byte

func (m image) stateBV() uint64     { return binary.LittleEndian.Uint64(m[xHeader:]) }
func (m image) setStateBV(v uint64) { binary.LittleEndian.PutUint64(m[xHeader:], v) }
func (m image) mxcsr() uint32       { return binary.LittleEndian.Uint32(m[xMXCSR:]) }
func (m image) setMXCSR(v uint32)   { binary.LittleEndian.PutUint32(m[xMXCSR:], v) }

// mxcsrMask has the bits of MXCSR that are not reserved.
func (m image) mxcsrMask() uint32 {
	if mask := binary.LittleEndian.Uint32(m[xMXCSRMask:]); mask != 0 {
		return mask
	}
	return defaultMXCSRMask
}

// reset gives the components of mask their initial values; MXCSR is part of none.
func (m image) reset(mask uint64, l *limits) {
	if mask&stateX87 != 0 {
		clear(m[:xMXCSR])
		clear(m[xST:xXMM])
		binary.LittleEndian.PutUint16(m, initialFCW)
	}
	if mask&stateSSE != 0 {
		clear(m[xXMM:xXMMEnd])
	}
	for i := 2; i <= maxComponent; i++ {
		if p := l.components[i]; mask>>i&1 != 0 && p.inside(len(m)) {
			clear(m[p.offset : p.offset+p.size])
		}
	}
}

// settle writes out what XSTATE_BV calls initial. That includes MXCSR if the SSE component
// is: processors save it in the compacted format then by leaving it out, and KVM reports
// what was in its buffer before.
func (m image) settle(l *limits) {
	bv := m.stateBV()
	m.reset(^bv, l)
	if bv&stateSSE == 0 {
		m.setMXCSR(initialMXCSR)
	}
}

// inside reports whether the component is behind the header and ends within n bytes.
func (p component) inside(n int) bool {
	return p.size > 0 && p.offset >= xHeaderEnd && uint64(p.offset)+uint64(p.size) <= uint64(min(n, maxArea))
}

// image reads the vCPU's extended state.
func (c *cpu) image() (image, bool) {
	b, err := c.v.XSAVE()
	if err != nil {
		return nil, c.fail(err)
	}
	m := image(b)
	if len(m) < xHeaderEnd {
		return nil, c.fail(fmt.Errorf("extended state of %d bytes, want %d at least", len(m), xHeaderEnd))
	}
	m.settle(&c.limits)
	return m, true
}

// setImage makes the image the vCPU's state. Hypervisors keep it in the compacted format,
// in which MXCSR is lost unless the SSE component is there.
func (c *cpu) setImage(m image) bool {
	if bv := m.stateBV(); bv&stateSSE == 0 && m.mxcsr() != initialMXCSR {
		m.setStateBV(bv | stateSSE)
	}
	if err := c.v.SetXSAVE(m); err != nil {
		return c.fail(err)
	}
	return true
}

// parts lists where the components of a mask are. The list may have two parts for the
// first and one for each of the others, and MXCSR.
type parts struct {
	list [maxComponent + 3]component
	n    int
}

func (p *parts) add(offset, size uint32) {
	p.list[p.n] = component{offset: offset, size: size}
	p.n++
}

// parts finds the components of mask, and mxcsr bytes of MXCSR and its mask, all of them
// inside of the n bytes of an image.
func (c *cpu) parts(mask uint64, mxcsr uint32, n int) (p parts, ok bool) {
	if mask&stateX87 != 0 {
		p.add(0, xMXCSR)
		p.add(xST, xXMM-xST)
	}
	if mxcsr > 0 {
		p.add(xMXCSR, mxcsr)
	}
	if mask&stateSSE != 0 {
		p.add(xXMM, xXMMEnd-xXMM)
	}
	for rest := mask &^ (stateX87 | stateSSE); rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		if i > maxComponent || !c.limits.components[i].inside(n) {
			return p, c.fail(fmt.Errorf("%w: state component %d is enabled, but CPUID gives it no place", ErrUnknown, i))
		}
		p.add(c.limits.components[i].offset, c.limits.components[i].size)
	}
	return p, true
}

// reachParts translates the pages of all parts.
func (c *cpu) reachParts(p *parts, kind access) bool {
	for _, part := range p.list[:p.n] {
		if !c.reach(part.offset, part.size, kind) {
			return false
		}
	}
	return true
}
