package format

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func isRefusal(err error) bool { return errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion) }

// FuzzMachine also repairs the checksum, to get behind it.
func FuzzMachine(f *testing.F) {
	h := header(chunkSize, 96<<10)
	m := &machine{header: h, state: []byte("state"), sums: []uint32{1, 2}}
	good, err := m.encode()
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-1])
	m.layer = &layer{base: "/base", state: fileState{inode: 1, size: uint64(h.MemorySize())}, own: []Range{{0, PageSize}, {chunkSize, 2 * PageSize}}}
	layered, err := m.encode()
	require.NoError(f, err)
	f.Add(layered)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resum(append([]byte(nil), b...))} {
			m, err := decode(b)
			if err != nil {
				assert.True(t, isRefusal(err), "%v", err)
				continue
			}
			assert.LessOrEqual(t, 4*len(m.sums)+len(m.state), len(b))
			again, err := m.encode()
			require.NoError(t, err)
			same, err := decode(again)
			require.NoError(t, err)
			assert.Equal(t, m.header.Regions, same.header.Regions)
			assert.Equal(t, m.sums, same.sums)
			assert.Equal(t, m.layer, same.layer)
			if l := m.layer; l != nil {
				assert.LessOrEqual(t, 16*len(l.own), len(b))
				assert.True(t, filepath.IsAbs(l.base) || l.base == "" && l.own[0].Length == m.header.MemorySize())
			}
			assert.Equal(t, string(m.state), string(same.state))
		}
	})
}

func FuzzPrefetch(f *testing.F) {
	f.Add([]byte(prefetchMagic), int64(1<<20))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if size < 0 {
			return
		}
		p, ok := decodePrefetch(resum(append([]byte(nil), b...)), size)
		if !ok {
			assert.Empty(t, p)
		}
		for _, list := range [][]Range{p.Written, p.Touched} {
			end := int64(0)
			for _, r := range list {
				assert.GreaterOrEqual(t, r.Offset, end)
				assert.Positive(t, r.Length)
				assert.LessOrEqual(t, r.End(), size)
				end = r.End()
			}
		}
	})
}
