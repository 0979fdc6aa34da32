package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// describe lists all that a tree of changes says.
func describe(t testing.TB, tr *tree.Tree) []string {
	t.Helper()
	var all []string
	first := map[*tree.Inode]string{}
	require.NoError(t, tr.Walk(func(path string, n *tree.Inode) error {
		if _, seen := first[n]; !seen {
			first[n] = path
		}
		data, err := io.ReadAll(n.Reader())
		require.NoError(t, err)
		line := fmt.Sprintf("%q is %q %o %d:%d dev %d:%d time %v size %d to %q xattrs %q implicit %v opaque %v hides %q content %q", path, first[n], n.Mode, n.UID, n.GID, n.Major, n.Minor,
			n.MTime, n.Size, n.Target, n.Xattrs, n.Implicit, n.Opaque(), n.Whiteouts(), data)
		all = append(all, line)
		return nil
	}))
	return all
}

func TestWriteInvertsRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long-name/", 12) + strings.Repeat("n", 255)
	pax := func(name string, records map[string]string) entry {
		return entry{Header: tar.Header{Name: name, Mode: 0o4755, Format: tar.FormatPAX, PAXRecords: records, ModTime: time.Unix(-5, 123456789)}, body: "x"}
	}
	for name, entries := range map[string][]entry{
		"nothing": nil,
		"root":    {{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1751, Uid: 3, Gid: 4}}},
		"files": {file("implicit/a", "1"), dir("d"), file("d/b", strings.Repeat("2", 5000)), symlink("s", strings.Repeat("t", 4000)), file(long, "long"),
			file("\xff\xfe bytes\n", "b"), file("ünï", "u")},
		"links":     {file("a", "x"), hardlink("b", "a"), hardlink("0", "a"), hardlink("lower", "usr/bin/perl"), symlink("s", "a"), hardlink("s2", "s")},
		"whiteouts": {file("d/.wh.gone", ""), file("d/kept", ""), file(".wh.same", ""), file("same", "new"), dir("same2"), file(".wh.same2", ""), file("o/.wh..wh..opq", ""), file("o/x", ""), file(".wh..wh..opq", "")},
		"attributes": {pax("ping", map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.user.a b": "c\nd=e", "SCHILY.xattr.user.empty": "e"}),
			{Header: tar.Header{Name: "owner", Uid: 1<<32 - 2, Gid: 1 << 31, Mode: 0o7777, ModTime: time.Unix(1<<34, 0)}}},
		"devices": {{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}}, {Header: tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 4095, Devminor: 1<<20 - 1}},
			{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}}, {Header: tar.Header{Name: "socket", Typeflag: typeSocket, Mode: 0o755}}},
	} {
		want := mustRead(t, entries...)
		var one, two bytes.Buffer
		require.NoError(t, Write(t.Context(), &one, want), name)
		require.NoError(t, Write(t.Context(), &two, want), name)
		assert.True(t, bytes.Equal(one.Bytes(), two.Bytes()), "%s: two writes differ", name)
		got, err := read(t, one.Bytes(), DefaultLimits())
		require.NoError(t, err, name)
		assert.Equal(t, describe(t, want), describe(t, got.Tree), name)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	odd := tree.New()
	require.NoError(t, odd.Add("x", &tree.Inode{Mode: 0o170000}))
	assert.ErrorIs(t, Write(t.Context(), io.Discard, odd), tree.ErrShape)
	short := tree.New()
	require.NoError(t, short.Add("x", &tree.Inode{Mode: tree.TypeRegular, Size: 10, Content: strings.NewReader("short")}))
	assert.Error(t, Write(t.Context(), io.Discard, short))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, Write(ctx, io.Discard, tree.New()), context.Canceled)
}
