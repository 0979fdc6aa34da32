package kernel

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOpenEmbedded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "yet")
	cached, err := OpenEmbedded(dir)
	require.NoError(t, err)
	memory, err := OpenEmbedded("")
	require.NoError(t, err)

	assert.Nil(t, memory.File())
	require.NotNil(t, cached.File())
	require.Len(t, cached.Segments, len(memory.Segments))
	for i, s := range cached.Segments {
		m := memory.Segments[i]
		assert.Equal(t, m.Addr, s.Addr)
		assert.Equal(t, m.MemSize, s.MemSize)
		assert.True(t, bytes.Equal(m.Data, s.Data), "segment %d", i)
		assert.Equal(t, int64(-1), m.Offset)
		there := make([]byte, len(s.Data))
		_, err := cached.File().ReadAt(there, s.Offset)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(there, s.Data), "segment %d in the file", i)
	}
	for _, img := range []*Image{cached, memory} {
		assert.Equal(t, FormatELF, img.Format)
		assert.Equal(t, uint64(0x1000000), img.Segments[0].Addr)
		assert.True(t, img.Embedded)
		assert.True(t, img.Initrd)
		assert.Contains(t, img.CommandLine(ProfileSoft), "zeromem=1")
		assert.True(t, bytes.Contains(img.Segments[0].Data, []byte("Linux version "+EmbeddedVersion)), "release string")
		require.NoError(t, img.Close())
		assert.Nil(t, img.Segments)
		assert.Nil(t, img.File())
	}
	st, err := os.Stat(filepath.Join(dir, "kernel-"+EmbeddedSHA256+".elf"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode())
	assert.Equal(t, int64(EmbeddedSize), st.Size())
	assert.Less(t, len(embedded), 4_000_000, "what the repository can carry")
}

// What the loader says about initrd support of the embedded kernel is not a guess.
func TestEmbeddedInitrdIsDetectable(t *testing.T) {
	t.Parallel()
	img, err := OpenEmbedded("")
	require.NoError(t, err)
	assert.True(t, unpacksInitrd(img.Segments))
	require.NoError(t, img.Close())
}

// A real file cut anywhere is refused, not read beyond its end.
func TestParseTruncatedEmbeddedKernel(t *testing.T) {
	t.Parallel()
	img, err := OpenEmbedded("")
	require.NoError(t, err)
	end := 0 // of the last segment's bytes in the file
	for _, p := range parsed(t, img.mem).Segments {
		end = max(end, int(p.Offset)+len(p.Data))
	}
	for n := 0; n < end; n += 65521 {
		_, err := Parse(img.mem[:n:n])
		require.ErrorIs(t, err, ErrTruncated, "first %d of %d bytes", n, end)
	}
	require.NoError(t, img.Close())
}

func parsed(t *testing.T, data []byte) *Image {
	t.Helper()
	img, err := Parse(data)
	require.NoError(t, err)
	return img
}

func BenchmarkOpenEmbedded(b *testing.B) {
	for name, dir := range map[string]string{"cached": b.TempDir(), "memory": ""} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				img, err := OpenEmbedded(dir)
				if err != nil {
					b.Fatal(err)
				}
				_ = img.Close()
			}
		})
	}
}
