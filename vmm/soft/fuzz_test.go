package soft

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/memory"
)

// FuzzHandle executes hostile code with hostile registers and page tables. Whatever
// comes, Handle ends, keeps its promise about registers, and leaves memory outside of RAM
// and the state of a faulting instruction alone.
func FuzzHandle(f *testing.F) {
	seed := func(code []byte, rest ...byte) {
		f.Add(append(append(append([]byte{}, code...), make([]byte, maxLength-len(code))...), rest...))
	}
	for _, code := range [][]byte{xsave64, xrstor64, {0x9b}, {0xcc}, loadRBX, {0x0f, 0x02, 0x03}, {0xc4, 0xe2, 0xe2, 0xf5, 0x03}, {0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x03}, {0x65, 0x0f, 0xae, 0x64, 0x8b, 0x10}} {
		seed(code)
		seed(code, 3, 0, 2, 0, 0, 0, 0, 0) // RBX at the data
		seed(code, 0xff, 3, 0xff, 0xff)
	}
	fresh := newGuest(f) // made once: it takes longer than what is tested
	ram := fresh.mem.Regions()[0].Host
	was := append([]byte(nil), ram...)
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) < maxLength {
			return
		}
		copy(ram, was)
		g := &guest{}
		*g = *fresh
		g.state = append([]byte(nil), fresh.state...)
		g.injected = nil
		g.write(t, codeAddr, input[:maxLength]...)
		input = input[maxLength:]
		word := func() (v uint64) {
			var b [8]byte
			input = input[copy(b[:], input):]
			return binary.LittleEndian.Uint64(b[:])
		}
		g.regs.RBX = dataAddr
		if len(input) > 0 {
			choices := word()
			c := cpu{}
			for n := range uint8(16) {
				if choices>>n&1 != 0 {
					*c.reg(n) = word()
				}
			}
			g.regs = c.regs
			g.regs.RIP = codeAddr
			if choices>>16&1 != 0 {
				g.regs.RIP = word()
			}
			if choices>>17&1 != 0 {
				g.sys.CR0, g.sys.CR4, g.sys.EFER, g.regs.RFLAGS = word()|cr0PG, word()&^(cr4LA57|cr4PKE), word()|eferLMA, word()
			}
			if choices>>18&1 != 0 {
				g.sys.CR3, g.sys.FS.Base, g.sys.GS.Base, g.sys.GDT.Base = word(), word(), word(), word()
				g.sys.GDT.Limit, g.sys.SS.DPL = uint16(word()), uint8(word())
			}
			if choices>>19&1 != 0 {
				g.xcr0 = word()
			}
			for range choices >> 20 & 7 {
				at, e := word(), word()
				g.setEntry(t, at%ramSize&^7, e)
			}
			if choices>>23&1 != 0 {
				fill(g.state, byte(word()))
			}
		}
		before, state := g.regs, append([]byte(nil), g.state...)
		ok, err := New(g.mem).Handle(g)
		require.Equal(t, ok, err == nil)
		switch {
		case err != nil:
			require.Empty(t, g.injected)
			require.Equal(t, before, g.regs)
			sameBytes(t, state, g.state, "state after an error")
		case len(g.injected) > 0 && g.injected[0].vector != vectorBreakpoint:
			require.Len(t, g.injected, 1)
			require.Equal(t, before, g.regs)
			sameBytes(t, state, g.state, "state after a fault")
			if g.injected[0].vector == vectorPageFault {
				require.True(t, canonical(g.sys.CR2))
			}
		case g.regs.RIP != before.RIP:
			require.LessOrEqual(t, g.regs.RIP-before.RIP, uint64(maxLength))
		}
	})
}

// FuzzDecode holds decode to its word: the length is within the bytes, bytes behind do not
// matter, and an instruction that needs more says so.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x48, 0x0f, 0xae, 0x64, 0xcb, 0x10})
	f.Add([]byte{0xc4, 0xe3, 0x7b, 0xf0, 0x05, 1, 2, 3, 4, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxLength)]
		in, verdict := decode(b)
		switch verdict {
		case decoded:
			require.LessOrEqual(t, int(in.length), len(b))
			again, _ := decode(b[:in.length])
			require.Equal(t, in, again)
			if in.length > 0 {
				_, verdict := decode(b[:in.length-1])
				require.Equal(t, truncated, verdict)
			}
		case truncated:
			require.Less(t, len(b), maxLength)
		default:
			require.Len(t, b, maxLength)
		}
	})
}

// Several processors use one emulator at a time.
func TestOneEmulatorForAll(t *testing.T) {
	t.Parallel()
	g := newGuest(t)
	g.write(t, codeAddr, append(append([]byte{}, xsave64...), xrstor64...)...)
	e := New(g.mem)
	done := make(chan error)
	for n := range uint64(4) {
		go func() {
			own := *g
			own.xsave, own.state = make([]byte, imageSize), make([]byte, imageSize)
			fill(own.state, byte(n))
			want := append([]byte(nil), own.state...)
			var err error
			for range 500 {
				own.regs.RIP, own.regs.RBX = codeAddr, dataAddr+n*memory.PageSize
				own.ask(allStates)
				for range 2 {
					for rip := own.regs.RIP; err == nil && own.regs.RIP == rip; { // again, if a neighbour set an accessed bit
						_, err = e.Handle(&own)
					}
				}
			}
			sameBytes(t, want[:areaSize], own.state[:areaSize], "state")
			done <- err
		}()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
}
