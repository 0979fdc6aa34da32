package qcow2

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile(create(t, "cluster_size=4096", 1<<20))
	require.NoError(t, err)
	be := binary.BigEndian
	l1 := be.Uint64(good[40:])
	for name, c := range map[string]struct {
		change func([]byte)
		want   error
	}{
		"magic":            {func(b []byte) { b[0] = 0 }, ErrFormat},
		"version":          {func(b []byte) { b[7] = 4 }, ErrFeature},
		"backing file":     {func(b []byte) { b[15] = 1 }, ErrBackingFile},
		"encryption":       {func(b []byte) { b[35] = 2 }, ErrEncrypted},
		"data file":        {func(b []byte) { b[79] = 4 }, ErrDataFile},
		"extended entries": {func(b []byte) { b[79] = 16 }, ErrFeature},
		"unknown feature":  {func(b []byte) { b[72] = 1 }, ErrFeature},
		"dirty":            {func(b []byte) { b[79] = 1 }, ErrDirty},
		"marked corrupt":   {func(b []byte) { b[79] = 2 }, ErrCorrupt},
		"cluster size":     {func(b []byte) { be.PutUint32(b[20:], 40) }, ErrFormat},
		"huge disk":        {func(b []byte) { be.PutUint64(b[24:], 1<<63) }, ErrFormat},
		"huge L1 table":    {func(b []byte) { be.PutUint32(b[36:], 1<<31) }, ErrFormat},
		"L1 outside":       {func(b []byte) { be.PutUint64(b[40:], 1<<62) }, ErrCorrupt},
		"L1 at header":     {func(b []byte) { be.PutUint64(b[40:], 0) }, ErrCorrupt},
		"tables overlap":   {func(b []byte) { be.PutUint64(b[48:], l1) }, ErrCorrupt},
		"L2 is the L1":     {func(b []byte) { be.PutUint64(b[l1:], l1|flagCopied) }, ErrCorrupt},
		"L2 outside":       {func(b []byte) { be.PutUint64(b[l1:], 1<<50) }, ErrCorrupt},
		"count width":      {func(b []byte) { be.PutUint32(b[96:], 7) }, ErrFormat},
	} {
		b := append([]byte(nil), good...)
		c.change(b)
		_, err := open(newMemory(b), false)
		assert.ErrorIs(t, err, c.want, name)
	}
}

// FuzzOpen changes bytes of an image: what opens must serve or refuse, and not panic.
func FuzzOpen(f *testing.F) {
	good, err := os.ReadFile(create(f, "cluster_size=512", 64<<10))
	require.NoError(f, err)
	f.Add([]byte{0, 40, 1, 2, 0, 20, 0, 9})
	f.Fuzz(func(_ *testing.T, changes []byte) {
		b := append([]byte(nil), good...)
		for ; len(changes) >= 3; changes = changes[3:] {
			b[int(binary.BigEndian.Uint16(changes))%len(b)] = changes[2]
		}
		m, err := open(newMemory(b), false)
		if err != nil {
			return
		}
		defer m.Close()
		data := [][]byte{make([]byte, 4096)}
		for off := uint64(0); off+4096 <= min(m.Size(), 128<<10); off += 12 << 10 {
			_ = m.WriteV(off, data)
			_ = m.ReadV(off, data)
			_ = m.Discard(off, 2048)
			_ = m.Flush()
		}
	})
}
