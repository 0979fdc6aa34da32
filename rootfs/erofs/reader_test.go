package erofs

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small returns an image of few bytes with one of everything the reader follows.
func small(t testing.TB) []byte {
	tr := tree.New()
	require.NoError(t, tr.AddFile("dir/file", 0o644, []byte(strings.Repeat("content", 700))))
	require.NoError(t, tr.AddSymlink("link", "dir/file"))
	node := &tree.Inode{Mode: tree.TypeChar | 0o600, Major: 5, Minor: 300}
	node.SetXattr("user.k", []byte("value"))
	require.NoError(t, tr.Add("dev", node))
	return build(t, tr)
}

// resum gives a modified superblock its right checksum.
func resum(p []byte) {
	s := p[superOffset:BlockSize]
	le.PutUint32(s[4:], 0)
	le.PutUint32(s[4:], superChecksum(s))
}

func consume(p []byte) error {
	r, err := NewReader(bytes.NewReader(p), int64(len(p)))
	if err != nil {
		return err
	}
	tr, err := r.Tree(1000)
	if err != nil {
		return err
	}
	return tr.Walk(func(_ string, n *tree.Inode) error {
		_, err := io.Copy(io.Discard, n.Reader())
		return err
	})
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	good := small(t)
	require.NoError(t, consume(good))
	const root = BlockSize // inode of the root
	for name, c := range map[string]struct {
		want   error
		change func(p []byte) []byte
	}{
		"empty":              {ErrCorrupt, func([]byte) []byte { return nil }},
		"one block short":    {ErrCorrupt, func(p []byte) []byte { return p[:len(p)-BlockSize] }},
		"one byte short":     {ErrCorrupt, func(p []byte) []byte { return p[:len(p)-1] }},
		"magic":              {ErrCorrupt, func(p []byte) []byte { p[superOffset] ^= 1; return p }},
		"checksum":           {ErrCorrupt, func(p []byte) []byte { p[2000] ^= 1; return p }},
		"block size":         {ErrUnsupported, func(p []byte) []byte { p[superOffset+0x0C] = 9; return p }},
		"features":           {ErrUnsupported, func(p []byte) []byte { p[superOffset+0x50] = 1; resum(p); return p }},
		"too many blocks":    {ErrCorrupt, func(p []byte) []byte { le.PutUint32(p[superOffset+0x24:], 1<<31); resum(p); return p }},
		"no blocks":          {ErrCorrupt, func(p []byte) []byte { le.PutUint32(p[superOffset+0x24:], 0); resum(p); return p }},
		"metadata outside":   {ErrCorrupt, func(p []byte) []byte { le.PutUint32(p[superOffset+0x28:], 1<<31); resum(p); return p }},
		"root outside":       {ErrCorrupt, func(p []byte) []byte { le.PutUint16(p[superOffset+0x0E:], 65535); resum(p); return p }},
		"root is a file":     {ErrCorrupt, func(p []byte) []byte { le.PutUint16(p[root+4:], 0o100644); return p }},
		"data layout":        {ErrUnsupported, func(p []byte) []byte { p[root] = 1 | 4<<1; return p }},
		"file type":          {ErrCorrupt, func(p []byte) []byte { le.PutUint16(p[root+4:], 0); return p }},
		"size 2^63":          {ErrCorrupt, func(p []byte) []byte { le.PutUint64(p[root+8:], 1<<63); return p }},
		"size 2^64-1":        {ErrCorrupt, func(p []byte) []byte { le.PutUint64(p[root+8:], 1<<64-1); return p }},
		"xattrs outside":     {ErrCorrupt, func(p []byte) []byte { le.PutUint16(p[root+2:], 65535); return p }},
		"nanoseconds":        {ErrCorrupt, func(p []byte) []byte { le.PutUint32(p[root+40:], 1e9); return p }},
		"links":              {ErrCorrupt, func(p []byte) []byte { le.PutUint32(p[root+44:], 9); return p }},
		"name offset":        {ErrCorrupt, func(p []byte) []byte { le.PutUint16(p[root+64+8:], 7); return p }},
		"name offset 0":      {ErrCorrupt, func(p []byte) []byte { le.PutUint16(p[root+64+8:], 0); return p }},
		"name beyond":        {ErrCorrupt, func(p []byte) []byte { le.PutUint16(p[root+64+12+8:], 60000); return p }},
		"entry type":         {ErrCorrupt, func(p []byte) []byte { p[root+64+2*12+10] = 7; return p }},
		"entry to itself":    {ErrCorrupt, func(p []byte) []byte { le.PutUint64(p[root+64+3*12:], 0); p[root+64+3*12+10] = 2; return p }},
		"entry far outside":  {ErrCorrupt, func(p []byte) []byte { le.PutUint64(p[root+64+2*12:], 1<<60); return p }},
		"unsorted directory": {ErrCorrupt, func(p []byte) []byte { return bytes.Replace(p, []byte("devdirlink"), []byte("linkdirdev"), 1) }},
		"slash in a name":    {ErrCorrupt, func(p []byte) []byte { return bytes.Replace(p, []byte("devdir"), []byte("dev/ir"), 1) }},
	} {
		err := consume(c.change(bytes.Clone(good)))
		assert.ErrorIs(t, err, c.want, name)
	}
}

// TestForeignLayerLinks reads a layer whose root counts no subdirectories, as those of
// microsandbox 0.6.18.
func TestForeignLayerLinks(t *testing.T) {
	t.Parallel()
	p := small(t)
	le.PutUint32(p[BlockSize+44:], 2)
	r, err := NewReader(bytes.NewReader(p), int64(len(p)))
	require.NoError(t, err)
	_, err = r.Tree(10)
	assert.ErrorIs(t, err, ErrCorrupt)
	changes, err := r.ReadLayer(10)
	require.NoError(t, err)
	assert.NotEmpty(t, changes.Root.Names())
}

func TestReaderLimitsNames(t *testing.T) {
	t.Parallel()
	p := small(t)
	r, err := NewReader(bytes.NewReader(p), int64(len(p)))
	require.NoError(t, err)
	_, err = r.Tree(4)
	assert.NoError(t, err)
	_, err = r.Tree(3)
	assert.ErrorIs(t, err, ErrUnsupported)
}

// TestReaderSurvivesEveryFlip flips each bit of the metadata: whatever the reader
// makes of the result, it must neither panic nor leave the image.
func TestReaderSurvivesEveryFlip(t *testing.T) {
	t.Parallel()
	good := small(t)
	refused := 0
	for bit := range 1024 * 8 {
		p := bytes.Clone(good)
		p[BlockSize+bit/8] ^= 1 << (bit % 8)
		if consume(p) != nil {
			refused++
		}
	}
	assert.Positive(t, refused)
}

func FuzzReader(f *testing.F) {
	f.Add(small(f))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1<<20 {
			return
		}
		if len(p) >= BlockSize {
			resum(p)
		}
		_ = consume(p)
	})
}

// FuzzBuild builds a tree made of the input and reads it back.
func FuzzBuild(f *testing.F) {
	f.Add([]byte("a/b\x00c/d\x00link"), uint32(0o644), int64(-5))
	f.Fuzz(func(t *testing.T, names []byte, mode uint32, sec int64) {
		tr := tree.New()
		for i, name := range bytes.Split(names, []byte{0}) {
			n := &tree.Inode{Mode: tree.TypeRegular | mode&tree.PermMask, UID: mode, MTime: tree.Time{Sec: sec},
				Size: int64(len(name)), Content: bytes.NewReader(name)}
			switch i % 4 {
			case 1:
				n = tree.NewDir(mode)
			case 2:
				n.SetXattr("user."+string(name), name)
			case 3:
				n = &tree.Inode{Mode: tree.TypeSymlink | 0o777, Target: string(name)}
			}
			_ = tr.Add(string(name), n)
		}
		var b bytes.Buffer
		if _, err := Build(&b, tr); err != nil {
			assert.ErrorIs(t, err, ErrTree)
			return
		}
		compareTrees(t, tr, reread(t, b.Bytes()))
	})
}
