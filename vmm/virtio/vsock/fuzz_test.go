package vsock

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzPackets lets the guest send a sequence of packets on few ports, while the host's
// side of each connection reads and writes. Each step is 10 bytes of the input. Whatever
// comes, the bounds hold and a good guest is served afterwards.
func FuzzPackets(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 0, 0, 16, 0, 0, 0, 0, 5, 0, 0, 9, 0, 16, 0, 0})
	f.Add([]byte{1, 1, 1, 0, 0, 0, 0, 16, 0, 0, 1, 1, 4, 3, 0, 0, 0, 0, 0, 0, 1, 1, 3, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 1, 1, 0, 0, 0, 0, 1, 0, 0, 2, 1, 5, 0, 255, 255, 0, 0, 0, 0, 2, 1, 6, 0, 0, 0, 1, 0, 200, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		g := newGuest(t, func(d *Device) { d.table.limit = 5 })
		conns := make(chan *Conn, 64)
		g.listen(func(port uint32, c *Conn) bool {
			if port == 3 {
				return false
			}
			select {
			case conns <- c:
				return true
			default:
				return false
			}
		})
		scratch := make([]byte, 1000)
		for i := 0; i < 64 && len(input) >= 10; i, input = i+1, input[10:] {
			step := input[:10]
			h := header{
				srcPort: uint32(step[0] & 7), dstPort: uint32(step[1] & 3), op: operation(step[2] & 15), flags: uint32(step[3]),
				alloc: uint32(binary.LittleEndian.Uint16(step[6:])), forwarded: uint32(int16(binary.LittleEndian.Uint16(step[8:]))),
			}
			n := int(binary.LittleEndian.Uint16(step[4:]) & 0x7fff)
			if step[1]&0x80 != 0 {
				g.forge = func(h *header) { h.length ^= uint32(step[5]); h.srcCID += uint64(step[1] >> 6 & 1) }
			}
			g.send(h, make([]byte, n))
			g.forge = nil
			g.discard()
			select {
			case c := <-conns:
				switch step[3] >> 6 {
				case 0:
					_ = c.Close() // maybe the second time
				case 1:
					_ = c.CloseWrite()
				case 2:
					_, _, _ = g.Device.send(c, scratch)
				default:
					_, _, _, _ = c.take(scratch)
				}
				select {
				case conns <- c:
				default:
				}
			default:
			}
			require.LessOrEqual(t, g.Stats().Conns, 5)
		}
		require.NoError(t, g.failure())
		g.restart()
		g.exchange(g.connect(1, 2))
	})
}

// FuzzHeader checks that encoding and decoding are inverse.
func FuzzHeader(f *testing.F) {
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != headerSize {
			return
		}
		h := parseHeader((*[headerSize]byte)(b))
		var again [headerSize]byte
		h.put(&again)
		require.Equal(t, b, again[:])
	})
}
