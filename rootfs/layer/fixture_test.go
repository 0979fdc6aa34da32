package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/require"
)

// entry is a member of a test archive; the zero type is a regular file.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{Header: tar.Header{Name: name, Mode: 0o644}, body: body}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeDir}}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Mode: 0o777, Typeflag: tar.TypeSymlink, Linkname: target}}
}

func hardlink(name, target string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}}
}

// pack writes a tar stream.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.body))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1, 0)
		}
		require.NoError(t, w.WriteHeader(&h), h.Name)
		_, err := io.WriteString(w, e.body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// memory is a sink.
type memory struct{ bytes.Buffer }

func (m *memory) Append(r io.Reader, n int64) (int64, error) {
	off := int64(m.Len())
	_, err := io.CopyN(m, r, n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return off, err
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(p, off)
}

func read(t testing.TB, raw []byte, limits Limits) (*Layer, error) {
	t.Helper()
	return Read(t.Context(), bytes.NewReader(raw), &memory{}, limits)
}

func mustRead(t testing.TB, entries ...entry) *tree.Tree {
	t.Helper()
	l, err := read(t, pack(t, entries...), DefaultLimits())
	require.NoError(t, err)
	return l.Tree
}

func content(t testing.TB, n *tree.Inode) string {
	t.Helper()
	require.NotNil(t, n)
	data, err := io.ReadAll(n.Reader())
	require.NoError(t, err)
	return string(data)
}
