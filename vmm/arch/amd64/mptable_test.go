package amd64

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var le = binary.LittleEndian

func sum(b []byte) (s byte) {
	for _, x := range b {
		s += x
	}
	return s
}

// mpEntries reads a table as a kernel does (MP specification 1.4 §4).
func mpEntries(t *testing.T, b []byte) (entries [][]byte) {
	t.Helper()
	require.Equal(t, "_MP_", string(b[:4]))
	require.EqualValues(t, mpTableAddr+16, le.Uint32(b[4:]), "the table follows")
	require.Equal(t, []byte{1, 4}, b[8:10], "one paragraph, specification 1.4")
	require.Zero(t, sum(b[:16]))
	require.Equal(t, make([]byte, 5), b[11:16], "no default configuration, no PIC mode")

	table := b[16:]
	require.Equal(t, "PCMP", string(table[:4]))
	require.EqualValues(t, len(table), le.Uint16(table[4:]))
	require.EqualValues(t, 4, table[6])
	require.Zero(t, sum(table))
	require.Equal(t, "GOMSB   MICROVM     ", string(table[8:28]))
	require.Equal(t, make([]byte, 6), table[28:34], "no OEM table")
	require.EqualValues(t, localAPICAddr, le.Uint32(table[36:]))
	require.Equal(t, make([]byte, 4), table[40:44], "no extended table")
	for rest := table[44:]; len(rest) > 0; {
		n := 8
		if rest[0] == mpProcessor {
			n = 20
		}
		require.LessOrEqual(t, rest[0], byte(mpLocalInterrupt))
		require.GreaterOrEqual(t, len(rest), n)
		entries, rest = append(entries, rest[:n]), rest[n:]
	}
	require.EqualValues(t, len(entries), le.Uint16(table[34:]))
	return entries
}

func TestMPTable(t *testing.T) {
	t.Parallel()
	for n := 1; n <= MaxVCPUs; n++ {
		t.Run(fmt.Sprint(n, " processors"), func(t *testing.T) {
			t.Parallel()
			b := mpTable(n)
			assert.LessOrEqual(t, mpTableAddr+len(b), lowMemoryEnd)
			entries := mpEntries(t, b)
			last := byte(0)
			kinds := map[byte][][]byte{}
			for _, e := range entries {
				assert.GreaterOrEqual(t, e[0], last, "entries are sorted by type")
				last = e[0]
				kinds[e[0]] = append(kinds[e[0]], e)
			}
			require.Len(t, kinds[mpProcessor], n)
			for id, e := range kinds[mpProcessor] {
				flags := byte(mpEnabled)
				if id == 0 {
					flags |= mpBoot
				}
				assert.Equal(t, []byte{mpProcessor, byte(id), 0x14, flags, 0, 6, 0, 0, 1, 2, 0, 0}, e[:12])
				assert.Equal(t, make([]byte, 8), e[12:])
			}
			assert.Equal(t, [][]byte{{mpBus, 0, 'I', 'S', 'A', ' ', ' ', ' '}}, kinds[mpBus])
			require.Len(t, kinds[mpIOAPIC], 1)
			io := kinds[mpIOAPIC][0]
			assert.EqualValues(t, n, io[1], "an ID that no processor has")
			assert.EqualValues(t, ioAPICAddr, le.Uint32(io[4:]))
			assert.EqualValues(t, mpEnabled, io[3])
			lines := map[byte]bool{}
			for _, e := range kinds[mpInterrupt] {
				assert.Equal(t, []byte{mpInterrupt, mpVectored, 0, 0, 0, e[5], byte(n), e[5]}, e, "as KVM wires them")
				assert.False(t, lines[e[5]], "line %d twice", e[5])
				lines[e[5]] = true
			}
			assert.Len(t, lines, irqLines-1)
			assert.False(t, lines[cascade])
			assert.Equal(t, [][]byte{
				{mpLocalInterrupt, mpExtINT, 0, 0, 0, 0, 0, 0},
				{mpLocalInterrupt, mpNMI, 0, 0, 0, 0, 0xff, 1},
			}, kinds[mpLocalInterrupt])
		})
	}
}
