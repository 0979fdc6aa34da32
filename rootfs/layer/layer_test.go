package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAttributes(t *testing.T) {
	t.Parallel()
	capability := string([]byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	long := strings.Repeat("long-name/", 12) + strings.Repeat("n", 255)
	tr := mustRead(t,
		entry{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1750, Uid: 3, Gid: 4, ModTime: time.Unix(9, 0)}},
		entry{Header: tar.Header{Name: "ping", Mode: 0o6755, Uid: 100_000, Gid: 4294967294, ModTime: time.Unix(-86400, 123456789),
			Format: tar.FormatPAX, PAXRecords: map[string]string{
				"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.note": "a\x00b",
				"SCHILY.xattr.btrfs.x": "dropped", "SCHILY.xattr.trusted.overlay.redirect": "/etc", "other": "x",
			}}, body: "ping!"},
		entry{Header: tar.Header{Name: long, Mode: 0o644, Format: tar.FormatGNU}, body: "gnu"},
		entry{Header: tar.Header{Name: "pax/" + long, Mode: 0o644, Format: tar.FormatPAX}, body: "pax"},
		entry{Header: tar.Header{Name: "link", Mode: 0o600, Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("t", 4000)}},
		entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		entry{Header: tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 4095, Devminor: 1<<20 - 1}},
		entry{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}},
		entry{Header: tar.Header{Name: "cont", Typeflag: tar.TypeCont, Mode: 0o600}, body: "c"},
		file("empty", ""),
	)
	root := tr.Root
	assert.EqualValues(t, tree.TypeDir|0o1750, root.Mode)
	assert.Equal(t, []uint32{3, 4}, []uint32{root.UID, root.GID})
	assert.Equal(t, tree.Time{Sec: 9}, root.MTime)
	assert.False(t, root.Implicit)

	ping := tr.Lookup("ping")
	assert.Equal(t, "ping!", content(t, ping))
	assert.EqualValues(t, tree.TypeRegular|0o6755, ping.Mode)
	assert.Equal(t, []uint32{100_000, 4294967294}, []uint32{ping.UID, ping.GID})
	assert.Equal(t, tree.Time{Sec: -86400, Nsec: 123456789}, ping.MTime)
	assert.Equal(t, []tree.Xattr{{Name: "security.capability", Value: []byte(capability)}, {Name: "user.note", Value: []byte("a\x00b")}}, ping.Xattrs)

	assert.Equal(t, "gnu", content(t, tr.Lookup(long)))
	assert.Equal(t, "pax", content(t, tr.Lookup("pax/"+long)))
	assert.Len(t, tr.Lookup("link").Target, 4000)
	assert.EqualValues(t, tree.TypeSymlink|0o777, tr.Lookup("link").Mode)
	null, disk := tr.Lookup("null"), tr.Lookup("disk")
	assert.Equal(t, []uint32{tree.TypeChar | 0o666, 1, 3}, []uint32{null.Mode, null.Major, null.Minor})
	assert.Equal(t, []uint32{tree.TypeBlock | 0o660, 4095, 1<<20 - 1}, []uint32{disk.Mode, disk.Major, disk.Minor})
	assert.EqualValues(t, tree.TypeFIFO|0o600, tr.Lookup("fifo").Mode)
	assert.Equal(t, "c", content(t, tr.Lookup("cont")))
	assert.Zero(t, tr.Lookup("empty").Size)
}

func TestLastEntryWins(t *testing.T) {
	t.Parallel()
	tr := mustRead(t,
		dir("d"), file("d/inside", "1"), entry{Header: tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o700}},
		file("f", "old"), file("f", "new"),
		dir("gone"), file("gone/x", ""), file("gone", "file"),
		symlink("s", "/etc"), file("s/passwd", "mine"),
	)
	assert.EqualValues(t, tree.TypeDir|0o700, tr.Lookup("d").Mode)
	assert.Equal(t, "1", content(t, tr.Lookup("d/inside")))
	assert.Equal(t, "new", content(t, tr.Lookup("f")))
	assert.Equal(t, "file", content(t, tr.Lookup("gone")))
	assert.True(t, tr.Lookup("s").IsDir(), "a link is never followed")
	assert.Equal(t, "mine", content(t, tr.Lookup("s/passwd")))
}

func TestHardLinks(t *testing.T) {
	t.Parallel()
	tr := mustRead(t, file("a", "x"), hardlink("dir/b", "./a"), symlink("s", "a"), hardlink("t", "/s"), hardlink("a", "a"),
		hardlink("c", "/./below"), hardlink("d", "c"))
	assert.Same(t, tr.Lookup("a"), tr.Lookup("dir/b"))
	assert.Same(t, tr.Lookup("s"), tr.Lookup("t"))
	assert.Equal(t, tree.TypeLink, tr.Lookup("c").Type(), "the target must be in a layer below")
	assert.Equal(t, "below", tr.Lookup("c").Target)
	assert.Same(t, tr.Lookup("c"), tr.Lookup("d"))

	// A name that is replaced leaves the inode to its other names.
	tr = mustRead(t, file("a", "old"), hardlink("b", "a"), file("a", "new"))
	assert.Equal(t, "old", content(t, tr.Lookup("b")))
	assert.Equal(t, "new", content(t, tr.Lookup("a")))
}

func TestWhiteouts(t *testing.T) {
	t.Parallel()
	tr := mustRead(t,
		file("d/.wh.gone", ""), file("d/kept", "k"), file(".wh.top", ""), symlink("o/.wh..wh..opq", "x"), file("o/own", ""),
		file(".wh..wh.aufs", ""), dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", ""), file("plain/.wh.", "ordinary"),
		entry{Header: tar.Header{Name: "zero", Typeflag: tar.TypeChar}},
		entry{Header: tar.Header{Name: "x", Typeflag: tar.TypeDir, Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}}},
	)
	assert.Equal(t, []string{"gone"}, tr.Lookup("d").Whiteouts())
	assert.Equal(t, []string{"top", "zero"}, tr.Root.Whiteouts())
	assert.Equal(t, []string{"d", "o", "plain", "x"}, tr.Root.Names())
	assert.True(t, tr.Lookup("o").Opaque())
	assert.True(t, tr.Lookup("x").Opaque())
	assert.Empty(t, tr.Lookup("x").Xattrs)
	assert.NotNil(t, tr.Lookup("o/own"))
	assert.Equal(t, "ordinary", content(t, tr.Lookup("plain/.wh.")))

	assert.True(t, mustRead(t, file(".wh..wh..opq", "")).Root.Opaque())
	assert.True(t, mustRead(t, file("./.wh..wh..opq", "")).Root.Opaque())
	upper := mustRead(t, file(".wh.a", ""), file("a", "same layer"))
	below := mustRead(t, file("a", "lower"))
	require.NoError(t, below.Merge(upper))
	assert.Equal(t, "same layer", content(t, below.Lookup("a")))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	flood := map[string]string{}
	for i := range 300 {
		flood["SCHILY.xattr.user."+strings.Repeat("k", i%200+1)+string(rune('a'+i/200))] = "v"
	}
	pax := func(records map[string]string) entry {
		return entry{Header: tar.Header{Name: "x", Format: tar.FormatPAX, PAXRecords: records}}
	}
	device := func(major, minor int64) entry {
		return entry{Header: tar.Header{Name: "x", Typeflag: tar.TypeBlock, Devmajor: major, Devminor: minor}}
	}
	for name, c := range map[string]struct {
		want    error
		entries []entry
	}{
		"climbs":                {ErrMalformed, []entry{file("../etc/passwd", "")}},
		"climbs inside":         {ErrMalformed, []entry{file("a/../../b", "")}},
		"absolute climb":        {ErrMalformed, []entry{file("/../b", "")}},
		"name of 256 bytes":     {ErrMalformed, []entry{file(strings.Repeat("n", 256), "")}},
		"path of 4097 bytes":    {ErrLimit, []entry{file(strings.Repeat("abc/", 1024)+"x", "")}},
		"129 components":        {ErrLimit, []entry{file(strings.Repeat("d/", 128)+"x", "")}},
		"whiteout of ..":        {ErrMalformed, []entry{file("a/.wh...", "")}},
		"whiteout of .":         {ErrMalformed, []entry{file(".wh..", "")}},
		"file below a whiteout": {ErrMalformed, []entry{file(".wh.a/b", "")}},
		"root is a file":        {ErrMalformed, []entry{symlink("./", "/etc")}},
		"link outside":          {ErrLink, []entry{hardlink("x", "../../etc/passwd")}},
		"link to directory":     {ErrLink, []entry{dir("d"), hardlink("x", "d")}},
		"link to the root":      {ErrLink, []entry{hardlink("x", "/")}},
		"symlink to nowhere":    {ErrMalformed, []entry{symlink("x", "")}},
		"symlink of 4096 bytes": {ErrLimit, []entry{symlink("x", strings.Repeat("t", 4096))}},
		"xattr flood":           {ErrLimit, []entry{pax(flood)}},
		"xattr of 64 KiB":       {ErrLimit, []entry{pax(map[string]string{"SCHILY.xattr.user.k": strings.Repeat("v", 64<<10)})}},
		"xattr name 256 bytes":  {ErrLimit, []entry{pax(map[string]string{"SCHILY.xattr.user." + strings.Repeat("k", 251): ""})}},
		"major 4096":            {ErrMalformed, []entry{device(4096, 0)}},
		"minor 2^20":            {ErrMalformed, []entry{device(0, 1<<20)}},
		"uid 2^32-1":            {ErrMalformed, []entry{{Header: tar.Header{Name: "x", Uid: 1<<32 - 1}}}},
		"negative gid":          {ErrMalformed, []entry{{Header: tar.Header{Name: "x", Gid: -1, Format: tar.FormatGNU}}}},
	} {
		_, err := read(t, pack(t, c.entries...), DefaultLimits())
		assert.ErrorIs(t, err, c.want, name)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set     func(l *Limits)
		entries []entry
	}{
		"entries":              {func(l *Limits) { l.Entries = 2 }, []entry{file("a", ""), file("b", ""), file("c", "")}},
		"repeated entries":     {func(l *Limits) { l.Entries = 2 }, []entry{file("a", ""), file("a", ""), file("a", "")}},
		"implicit directories": {func(l *Limits) { l.Entries = 5 }, []entry{file("1/2/3/4/5", ""), file("a/b", "")}},
		"implicit whiteouts":   {func(l *Limits) { l.Entries = 3 }, []entry{file("1/2/3/4/.wh.5", "")}},
		"file bytes":           {func(l *Limits) { l.FileBytes = 3 }, []entry{file("a", "four")}},
		"layer bytes":          {func(l *Limits) { l.LayerBytes = 6 }, []entry{file("a", "four"), file("a", "four")}},
		"names":                {func(l *Limits) { l.MetadataBytes = 10 }, []entry{file("123456", ""), file("abcdef", "")}},
		"implicit names":       {func(l *Limits) { l.MetadataBytes = 10 }, []entry{file("123456/abcdef/x", "")}},
		"targets":              {func(l *Limits) { l.MetadataBytes = 10 }, []entry{symlink("a", "0123456789")}},
		"whiteouts":            {func(l *Limits) { l.MetadataBytes = 5 }, []entry{file(".wh.abcdef", "")}},
	} {
		raw, limits := pack(t, c.entries...), DefaultLimits()
		_, err := read(t, raw, limits)
		require.NoError(t, err, name)
		c.set(&limits)
		_, err = read(t, raw, limits)
		assert.ErrorIs(t, err, ErrLimit, name)
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	raw := pack(t, file("a", strings.Repeat("x", 2000)), file("b", "y"))
	for _, n := range []int{100, 512, 600, 2000, 2560 + 100, 2560 + 512} {
		_, err := read(t, raw[:n], DefaultLimits())
		assert.ErrorIs(t, err, ErrMalformed, "cut at %d", n)
	}
	_, err := read(t, bytes.Repeat([]byte("garbage "), 200), DefaultLimits())
	assert.ErrorIs(t, err, ErrMalformed)
}

func TestStreamErrorsPassThrough(t *testing.T) {
	t.Parallel()
	broken := errors.New("cable pulled")
	raw := pack(t, file("a", strings.Repeat("x", 5000)))
	for _, n := range []int{0, 100, 700, 3000} {
		_, err := Read(t.Context(), io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(broken)), &memory{}, DefaultLimits())
		assert.ErrorIs(t, err, broken)
		assert.NotErrorIs(t, err, ErrMalformed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Read(ctx, bytes.NewReader(raw), &memory{}, DefaultLimits())
	assert.ErrorIs(t, err, context.Canceled)
}

// fullDisk is a sink that takes what fits.
type fullDisk struct {
	memory
	room int64
}

var errFull = errors.New("no space left on device")

func (f *fullDisk) Append(r io.Reader, n int64) (int64, error) {
	if f.room -= n; f.room < 0 {
		return 0, errFull
	}
	return f.memory.Append(r, n)
}

func TestSinkErrors(t *testing.T) {
	t.Parallel()
	raw := pack(t, file("a", "1234"), file("b", "5678"))
	_, err := Read(t.Context(), bytes.NewReader(raw), &fullDisk{room: 7}, DefaultLimits())
	assert.ErrorIs(t, err, ErrSink)
	assert.ErrorIs(t, err, errFull)
	l, err := Read(t.Context(), bytes.NewReader(raw), &fullDisk{room: 8}, DefaultLimits())
	require.NoError(t, err)
	assert.EqualValues(t, 8, l.Bytes)
}

func TestReservedXattrs(t *testing.T) {
	t.Parallel()
	tr := mustRead(t, entry{Header: tar.Header{Name: "x", Format: tar.FormatPAX, PAXRecords: map[string]string{
		"SCHILY.xattr.trusted.gomsb.link": "y", "SCHILY.xattr.trusted.gomsb.implicit": "y", "SCHILY.xattr.trusted.kept": "y"}}})
	assert.Equal(t, []tree.Xattr{{Name: "trusted.kept", Value: []byte("y")}}, tr.Lookup("x").Xattrs)
}

func FuzzTar(f *testing.F) {
	f.Add(pack(f, file("a/b", "x"), hardlink("c", "a/b"), symlink("l", "c"), file("a/.wh.x", ""), dir("d")))
	f.Add(pack(f, entry{Header: tar.Header{Name: "p", Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"}}, body: "b"}))
	limits := DefaultLimits()
	limits.FileBytes, limits.LayerBytes, limits.Entries = 1<<20, 4<<20, 1000
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := read(t, raw, limits)
		if err != nil {
			return
		}
		merged := tree.New()
		if err := merged.Merge(l.Tree); err != nil {
			require.ErrorIs(t, err, ErrLink)
			return
		}
		require.NoError(t, merged.Walk(func(path string, n *tree.Inode) error {
			_, err := tree.Split(path)
			require.NoError(t, err)
			assert.LessOrEqual(t, len(n.Target), limits.TargetBytes)
			_, err = io.Copy(io.Discard, n.Reader())
			return err
		}))
	})
}
