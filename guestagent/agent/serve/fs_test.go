//go:build linux

package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func TestFileRoundTrip(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	dir := t.TempDir()
	big := make([]byte, 3<<20+12345)
	_, _ = rand.NewChaCha8([32]byte{}).Read(big)
	for name, data := range map[string][]byte{"empty": {}, "small": []byte("hello"), "big": big} {
		path := filepath.Join(dir, name)
		require.NoError(t, c.WriteFile(ctx, path, data, ptr(uint32(0o600))))
		got, err := c.ReadFile(ctx, path)
		require.NoError(t, err)
		assert.Equal(t, sha256.Sum256(data), sha256.Sum256(got), name)
		st, err := c.Stat(ctx, path)
		require.NoError(t, err)
		assert.EqualValues(t, len(data), st.Size)
		assert.EqualValues(t, 0o100600, st.Mode)
		assert.Equal(t, proto.EntryFile, st.Kind)
		assert.Equal(t, path, st.Path)
		assert.WithinDuration(t, time.Now(), time.Unix(*st.Mtime, 0), time.Minute)
	}
}

func TestFileStatKinds(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "file"), "x")
	require.NoError(t, os.Symlink("file", filepath.Join(dir, "link")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	for name, kind := range map[string]proto.EntryKind{
		"": proto.EntryDir, "file": proto.EntryFile, "link": proto.EntrySymlink, "fifo": proto.EntryOther,
	} {
		st, err := c.Lstat(ctx, filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, kind, st.Kind, name)
	}
	st, err := c.Stat(ctx, filepath.Join(dir, "link"))
	require.NoError(t, err)
	assert.Equal(t, proto.EntryFile, st.Kind)
}

func TestFileListing(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	dir := t.TempDir()
	var want []string
	for n := range 700 {
		path := filepath.Join(dir, fmt.Sprintf("file-%03d", n))
		writeFile(t, path, "x")
		want = append(want, path)
	}
	names := func(entries []proto.FSEntry) []string {
		var out []string
		for _, e := range entries {
			out = append(out, e.Path)
		}
		slices.Sort(out)
		return out
	}
	all, err := c.List(ctx, dir)
	require.NoError(t, err)
	assert.Equal(t, want, names(all))
	root, err := c.List(ctx, "/")
	require.NoError(t, err)
	assert.Contains(t, names(root), "/etc", "no doubled slash")

	f, err := c.OpenDir(ctx, dir)
	require.NoError(t, err)
	var parts []proto.FSEntry
	for n := 0; ; n++ {
		batch, err := f.ReadDir(ctx, uint32([]int{0, 1, 300}[n%3]))
		require.NoError(t, err)
		if len(batch) == 0 {
			break
		}
		assert.LessOrEqual(t, len(batch), []int{128, 1, 300}[n%3])
		parts = append(parts, batch...)
	}
	assert.Equal(t, want, names(parts))
	st, err := f.Stat(ctx)
	require.NoError(t, err)
	assert.Equal(t, proto.EntryDir, st.Kind)
	require.NoError(t, f.Close(ctx))
}

// A name that is not UTF-8 is shown with replacement characters.
func TestFileListingOfOddNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a\xffb"), "x")
	all, err := start(t, Config{}).List(testContext(t), dir)
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, filepath.Join(dir, "a\uFFFDb"), all[0].Path)
}

// A directory that does not fit one message is an error, not silence.
func TestFileListingTooLong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := strings.Repeat("n", 240)
	for n := range 13000 {
		require.NoError(t, unix.Mknod(filepath.Join(dir, fmt.Sprintf("%s%06d", long, n)), unix.S_IFREG|0o600, 0))
	}
	c := start(t, Config{})
	_, err := c.List(testContext(t), dir)
	require.ErrorContains(t, err, "readdir: too many entries")
	f, err := c.OpenDir(testContext(t), dir)
	require.NoError(t, err)
	total := 0
	for {
		batch, err := f.ReadDir(testContext(t), 100000)
		require.NoError(t, err)
		if len(batch) == 0 {
			break
		}
		total += len(batch)
	}
	assert.Equal(t, 13000, total)
	require.NoError(t, f.Close(testContext(t)))
}

func TestFilePaths(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	writeFile(t, filepath.Join(dir, "file"), "data")

	require.NoError(t, c.Mkdir(ctx, dir+"/a/b/c", nil))
	require.NoError(t, c.Mkdir(ctx, dir+"/a/b/c", ptr(uint32(0o1700))), "an existing one is fine")
	st, err := c.Stat(ctx, dir+"/a/b/c")
	require.NoError(t, err)
	assert.EqualValues(t, 0o41700, st.Mode)

	require.NoError(t, c.Symlink(ctx, "a/b", dir+"/link"))
	target, err := c.ReadLink(ctx, dir+"/link")
	require.NoError(t, err)
	assert.Equal(t, "a/b", target)
	for path, want := range map[string]string{
		dir + "/link/c":         dir + "/a/b/c",
		dir + "/./link/../file": dir + "/a/file",
		dir + "/link/new":       dir + "/a/b/new",
		dir + "/link/new/":      dir + "/a/b/new",
		"/":                     "/",
		"etc":                   "/etc",
		"nowhere":               "/nowhere",
	} {
		got, err := c.RealPath(ctx, path)
		require.NoError(t, err, path)
		assert.Equal(t, want, got, path)
	}
	require.NoError(t, c.Copy(ctx, dir+"/file", dir+"/copy"))
	require.NoError(t, c.Rename(ctx, dir+"/copy", dir+"/moved"))
	got, err := os.ReadFile(dir + "/moved")
	require.NoError(t, err)
	assert.Equal(t, "data", string(got))
	require.NoError(t, c.Remove(ctx, dir+"/moved"))

	require.NoError(t, c.RemoveDir(ctx, dir+"/link", true), "a link is removed, not followed")
	assert.DirExists(t, dir+"/a/b/c")
	writeFile(t, dir+"/a/b/f", "x")
	require.NoError(t, c.RemoveDir(ctx, dir+"/a/b/c", false))
	require.NoError(t, c.RemoveDir(ctx, dir+"/a", true))
	assert.NoDirExists(t, dir+"/a")
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	dir := t.TempDir()
	file, link, sub := dir+"/file", dir+"/link", dir+"/sub"
	writeFile(t, file, "x")
	require.NoError(t, os.Symlink("file", link))
	require.NoError(t, os.MkdirAll(sub+"/x", 0o755))
	require.NoError(t, unix.Mkfifo(dir+"/fifo", 0o644))
	const gone = "No such file or directory (os error 2)"
	open := func(path string, o proto.FSOpenOptions) error {
		_, err := c.OpenFile(ctx, path, o)
		return err
	}
	get := func(_ any, err error) error { return err }
	for name, test := range map[string]struct {
		err  error
		text string
	}{
		"stat":           {get(c.Stat(ctx, dir+"/no")), "stat: " + gone},
		"under a file":   {get(c.Stat(ctx, file+"/no")), "stat: Not a directory (os error 20)"},
		"long name":      {get(c.Stat(ctx, dir+"/"+strings.Repeat("n", 300))), "stat: Filename too long (os error 36)"},
		"realpath":       {get(c.RealPath(ctx, dir+"/no/no")), "realpath: " + gone},
		"realpath dots":  {get(c.RealPath(ctx, dir+"/no/..")), "realpath: " + gone},
		"list":           {get(c.List(ctx, dir+"/no")), "readdir: opendir: " + gone},
		"list a file":    {get(c.List(ctx, file)), "readdir: opendir: Not a directory (os error 20)"},
		"opendir":        {get(c.OpenDir(ctx, dir+"/no")), "opendir: " + gone},
		"readlink":       {get(c.ReadLink(ctx, file)), "readlink: Invalid argument (os error 22)"},
		"symlink":        {c.Symlink(ctx, "x", file), "symlink: File exists (os error 17)"},
		"mkdir":          {c.Mkdir(ctx, file, nil), "mkdir: File exists (os error 17)"},
		"mkdir below":    {c.Mkdir(ctx, file+"/x", nil), "mkdir: Not a directory (os error 20)"},
		"mkdir nothing":  {c.Mkdir(ctx, "", nil), "mkdir: " + gone},
		"remove":         {c.Remove(ctx, dir+"/no"), "remove: " + gone},
		"remove dir":     {c.Remove(ctx, sub), "remove: Is a directory (os error 21)"},
		"rmdir full":     {c.RemoveDir(ctx, sub, false), "remove_dir: Directory not empty (os error 39)"},
		"rmdir file":     {c.RemoveDir(ctx, file, false), "remove_dir: Not a directory (os error 20)"},
		"rm -r file":     {c.RemoveDir(ctx, file, true), "remove_dir: Not a directory (os error 20)"},
		"rm -r nothing":  {c.RemoveDir(ctx, dir+"/no", true), "remove_dir: " + gone},
		"copy":           {c.Copy(ctx, dir+"/no", dir+"/x"), "copy: " + gone},
		"copy dir":       {c.Copy(ctx, sub, dir+"/x"), "copy: the source path is neither a regular file nor a symlink to a regular file"},
		"copy fifo":      {c.Copy(ctx, dir+"/fifo", dir+"/x"), "copy: the source path is neither a regular file"},
		"copy onto self": {c.Copy(ctx, link, file), "copy: source and destination are the same file"},
		"copy to dir":    {c.Copy(ctx, file, sub), "copy: Is a directory (os error 21)"},
		"rename":         {c.Rename(ctx, dir+"/no", dir+"/x"), "rename: " + gone},
		"rename devices": {c.Rename(ctx, file, "/proc/x"), "rename: Cross-device link (os error 18)"},
		"open":           {open(dir+"/no", proto.FSOpenOptions{Read: true}), "open: " + gone},
		"open nothing":   {open(file, proto.FSOpenOptions{}), "open: Invalid argument (os error 22)"},
		"open truncate":  {open(file, proto.FSOpenOptions{Read: true, Truncate: true}), "open: Invalid argument (os error 22)"},
		"open create":    {open(file, proto.FSOpenOptions{Read: true, Create: true}), "open: Invalid argument (os error 22)"},
		"open append":    {open(file, proto.FSOpenOptions{Append: true, Truncate: true}), "open: Invalid argument (os error 22)"},
		"open new":       {open(file, proto.FSOpenOptions{Write: true, CreateNew: true}), "open: File exists (os error 17)"},
		"open dir":       {open(sub, proto.FSOpenOptions{Write: true}), "open: Is a directory (os error 21)"},
		"open text":      {open("/proc/self/exe", proto.FSOpenOptions{Write: true}), "open: Text file busy (os error 26)"},
		"NUL":            {get(c.Stat(ctx, "a\x00b")), "stat: Invalid argument (os error 22)"},
		"setstat":        {c.SetStat(ctx, dir+"/no", proto.FSAttrs{Mode: ptr(uint32(0o600))}), "setstat: chmod: " + gone},
		"setstat size":   {c.SetStat(ctx, dir+"/no", proto.FSAttrs{Size: ptr(uint64(1))}), "setstat: open for truncate: " + gone},
		"size too big":   {c.SetStat(ctx, file, proto.FSAttrs{Size: ptr(uint64(1 << 63))}), "setstat: set_len: Invalid argument"},
		"setstat owner":  {c.SetStat(ctx, dir+"/no", proto.FSAttrs{UID: ptr(uint32(1))}), "setstat: chown: " + gone},
		"setstat times":  {c.SetStat(ctx, dir+"/no", proto.FSAttrs{Mtime: ptr(int64(1))}), "setstat: stat before utimensat: " + gone},
		"setstat both":   {c.SetStat(ctx, dir+"/no", proto.FSAttrs{Mtime: ptr(int64(1)), Atime: ptr(int64(1))}), "setstat: utimensat: " + gone},
		"mode of a link": {c.LsetStat(ctx, link, proto.FSAttrs{Mode: ptr(uint32(0o600))}), "setstat: chmod on symlink without following is not supported"},
		"lstat":          {c.LsetStat(ctx, dir+"/no", proto.FSAttrs{Mode: ptr(uint32(0o600))}), "setstat: lstat before chmod: " + gone},
	} {
		assert.ErrorContains(t, test.err, test.text, name)
	}
}

func TestFileAttributes(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	dir := t.TempDir()
	path, link := dir+"/file", dir+"/link"
	writeFile(t, path, "0123456789")
	require.NoError(t, os.Symlink("file", link))
	require.NoError(t, c.SetStat(ctx, path, proto.FSAttrs{
		Mode: ptr(uint32(0o100751)), UID: ptr(uint32(10)), GID: ptr(uint32(20)), Size: ptr(uint64(4)),
		Atime: ptr(int64(1000)), Mtime: ptr(int64(-2000)),
	}))
	check := func(path string, want proto.FSEntry) {
		t.Helper()
		st, err := c.Lstat(ctx, path)
		require.NoError(t, err)
		want.Path, want.Kind, want.Modified = path, st.Kind, want.Mtime
		assert.Equal(t, want, st)
	}
	check(path, proto.FSEntry{Size: 4, Mode: 0o100751, UID: 10, GID: 20, Atime: ptr(int64(1000)), Mtime: ptr(int64(-2000))})
	require.NoError(t, c.SetStat(ctx, link, proto.FSAttrs{UID: ptr(uint32(11)), Mtime: ptr(int64(3000))}))
	check(path, proto.FSEntry{Size: 4, Mode: 0o100751, UID: 11, GID: 20, Atime: ptr(int64(1000)), Mtime: ptr(int64(3000))})
	require.NoError(t, c.LsetStat(ctx, link, proto.FSAttrs{UID: ptr(uint32(12)), GID: ptr(uint32(13)), Atime: ptr(int64(5)), Mtime: ptr(int64(6))}))
	check(link, proto.FSEntry{Size: 4, Mode: 0o120777, UID: 12, GID: 13, Atime: ptr(int64(5)), Mtime: ptr(int64(6))})
	require.NoError(t, c.LsetStat(ctx, path, proto.FSAttrs{Mode: ptr(uint32(0o640))}))

	f, err := c.OpenFile(ctx, path, proto.FSOpenOptions{Read: true, Write: true})
	require.NoError(t, err)
	require.NoError(t, f.SetStat(ctx, proto.FSAttrs{
		Mode: ptr(uint32(0o600)), UID: ptr(uint32(1)), Size: ptr(uint64(9)), Atime: ptr(int64(7)),
	}))
	st, err := f.Stat(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 0o100600, st.Mode)
	assert.EqualValues(t, 1, st.UID)
	assert.EqualValues(t, 20, st.GID)
	assert.EqualValues(t, 9, st.Size)
	assert.EqualValues(t, 7, *st.Atime)
	require.NoError(t, f.Close(ctx))
}

func TestFileHandleRules(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	r := g.raw(t)
	dir := t.TempDir()
	path := dir + "/file"
	writeFile(t, path, "0123456789")
	id := uint32(100)
	call := func(base uint32, op proto.FSOp) proto.FSResponse {
		t.Helper()
		id++
		r.send(base+id, proto.TypeFSRequest, proto.FSRequest{Op: op})
		var p proto.FSResponse
		r.next(base+id, proto.TypeFSResponse, &p)
		return p
	}
	fails := func(text string, base uint32, op proto.FSOp) {
		t.Helper()
		p := call(base, op)
		require.False(t, p.OK)
		assert.Equal(t, text, *p.Error)
		assert.Nil(t, p.Data)
	}
	ro := call(0, proto.FSOpenFile{Path: path, Options: proto.FSOpenOptions{Read: true}}).Data.Handle
	wo := call(0, proto.FSOpenFile{Path: path, Options: proto.FSOpenOptions{Append: true}}).Data.Handle
	dh := call(0, proto.FSOpenDir{Path: dir}).Data.Handle
	assert.EqualValues(t, 1, ro)
	assert.EqualValues(t, 2, wo)
	other := proto.SlotRange(1).Start
	fails("invalid handle: 99", 0, proto.FSFStat{Handle: 99})
	fails("handle 1 is owned by a different relay client", other, proto.FSFStat{Handle: ro})
	fails("handle 1 is owned by a different relay client", other, proto.FSCloseHandle{Handle: ro})
	fails("handle 1 is a file", 0, proto.FSReadDir{Handle: ro})
	fails("handle 3 is a directory", 0, proto.FSRead{Handle: dh})
	fails("handle 3 is a directory", 0, proto.FSWrite{Handle: dh})
	fails("handle 3 is a directory", 0, proto.FSFSetStat{Handle: dh})
	fails("handle 2 is not open for reading", 0, proto.FSRead{Handle: wo})
	fails("handle 1 is not open for writing", 0, proto.FSWrite{Handle: ro})
	fails("seek: Invalid argument (os error 22)", 0, proto.FSRead{Handle: ro, Offset: 1 << 63})
	fails("fsetstat: set_len: Invalid argument (os error 22)", 0, proto.FSFSetStat{Handle: ro, Attrs: proto.FSAttrs{Size: ptr(uint64(1))}})
	require.True(t, call(0, proto.FSCloseHandle{Handle: ro}).OK)
	fails("invalid handle: 1", 0, proto.FSCloseHandle{Handle: ro})

	// The client leaves: its handles are closed, those of others are not.
	theirs := call(other, proto.FSOpenDir{Path: dir}).Data.Handle
	r.send(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: proto.SlotRange(0).End})
	fails("invalid handle: 2", 0, proto.FSFStat{Handle: wo})
	require.True(t, call(other, proto.FSFStat{Handle: theirs}).OK)
}

func TestFileHandleLimit(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	var last *client.File
	for range 1024 {
		f, err := c.OpenDir(ctx, "/")
		require.NoError(t, err)
		last = f
	}
	_, err := c.OpenDir(ctx, "/")
	require.ErrorContains(t, err, "too many open filesystem handles for relay client: 1024")
	require.NoError(t, last.Close(ctx))
	_, err = c.OpenDir(ctx, "/")
	require.NoError(t, err)
}

func TestFileRead(t *testing.T) {
	t.Parallel()
	r := boot(t, Config{}).raw(t)
	path := t.TempDir() + "/file"
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	writeFile(t, path, string(data))
	r.send(1, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSOpenFile{Path: path, Options: proto.FSOpenOptions{Read: true}}})
	r.next(1, proto.TypeFSResponse, nil)
	read := func(offset uint64, length *uint64) []byte {
		t.Helper()
		r.send(2, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSRead{Handle: 1, Offset: offset, Len: length}})
		var all []byte
		for {
			f, err := r.in.ReadFrame()
			require.NoError(t, err)
			m, err := proto.ParseMessage(f)
			require.NoError(t, err)
			if m.Type == proto.TypeFSResponse {
				var p proto.FSResponse
				require.NoError(t, m.Decode(&p))
				require.True(t, p.OK)
				return all
			}
			p, err := proto.DecodeData(m.Payload)
			require.NoError(t, err)
			require.NotEmpty(t, p, "no empty message marks the end")
			all = append(all, p...)
		}
	}
	assert.Equal(t, data, read(0, nil))
	assert.Equal(t, data[5:], read(5, nil))
	assert.Equal(t, data[5:15], read(5, ptr(uint64(10))))
	assert.Empty(t, read(0, ptr(uint64(0))))
	assert.Empty(t, read(uint64(len(data)), nil))
	assert.Empty(t, read(1<<62, nil))
	assert.Equal(t, data[3:], read(3, ptr(uint64(1<<63))))
}

func TestFileReadOfDevices(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	version, err := c.ReadFile(ctx, "/proc/version")
	require.NoError(t, err)
	assert.Contains(t, string(version), "Linux")
	require.NoError(t, c.WriteFile(ctx, "/dev/null", []byte("x"), nil))
	f, err := c.OpenFile(ctx, "/dev/zero", proto.FSOpenOptions{Read: true})
	require.NoError(t, err)
	buf := []byte("xxxx")
	n, err := f.ReadAt(ctx, buf, 7)
	require.NoError(t, err)
	assert.Equal(t, make([]byte, 4), buf[:n])
	require.NoError(t, f.Close(ctx))
}

func TestFileWrite(t *testing.T) {
	t.Parallel()
	r := boot(t, Config{}).raw(t)
	path := t.TempDir() + "/file"
	writeFile(t, path, "0123456789")
	open := func(o proto.FSOpenOptions) uint64 {
		t.Helper()
		r.send(1, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSOpenFile{Path: path, Options: o}})
		var p proto.FSResponse
		r.next(1, proto.TypeFSResponse, &p)
		require.True(t, p.OK)
		return p.Data.Handle
	}
	write := func(h, offset uint64, length *uint64, parts ...string) proto.FSResponse {
		t.Helper()
		r.send(2, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSWrite{Handle: h, Offset: offset, Len: length}})
		for _, p := range append(parts, "") {
			r.send(2, proto.TypeFSData, proto.Data{Data: []byte(p)})
		}
		var p proto.FSResponse
		r.next(2, proto.TypeFSResponse, &p)
		return p
	}
	content := func() string {
		t.Helper()
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(b)
	}
	h := open(proto.FSOpenOptions{Write: true})
	require.True(t, write(h, 2, ptr(uint64(4)), "ab", "cd").OK)
	assert.Equal(t, "01abcd6789", content())
	require.True(t, write(h, 0, nil).OK)
	assert.Equal(t, "01abcd6789", content())
	p := write(h, 0, ptr(uint64(9)), "xy")
	require.False(t, p.OK)
	assert.Equal(t, "write length mismatch: expected 9, wrote 2", *p.Error)
	require.True(t, write(open(proto.FSOpenOptions{Append: true}), 0, nil, "end").OK)
	assert.Equal(t, "xyabcd6789end", content())
	require.True(t, write(open(proto.FSOpenOptions{Write: true, Create: true, Truncate: true}), 3, nil, "z").OK)
	assert.Equal(t, "\x00\x00\x00z", content())

	// Data after an error, or for nobody.
	r.send(5, proto.TypeFSData, proto.Data{Data: []byte("x")})
	r.next(5, proto.TypeFSResponse, &p)
	assert.Equal(t, "unknown write session: 5", *p.Error)
}

func TestFileWriteErrors(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	ctx := testContext(t)
	f, err := c.OpenFile(ctx, "/dev/full", proto.FSOpenOptions{Write: true})
	require.NoError(t, err)
	w, err := f.Writer(ctx, 0)
	require.NoError(t, err)
	_, err = io.Copy(w, io.LimitReader(zeros{}, 1<<20))
	if err == nil {
		err = w.Close(ctx)
	}
	require.ErrorContains(t, err, "write: No space left on device (os error 28)")
	require.NoError(t, c.Ping(ctx))
	require.NoError(t, f.Close(ctx))

	fifo := t.TempDir() + "/fifo"
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	f, err = c.OpenFile(ctx, fifo, proto.FSOpenOptions{Read: true, Write: true})
	require.NoError(t, err)
	_, err = f.ReadAt(ctx, make([]byte, 1), 0)
	require.ErrorContains(t, err, "seek: Invalid seek (os error 29)")
	require.NoError(t, f.Close(ctx))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A path that hangs holds up nobody else.
func TestFileHang(t *testing.T) {
	t.Parallel()
	c := start(t, Config{})
	fifo := t.TempDir() + "/fifo"
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	opened := make(chan error, 1)
	go func() {
		_, err := c.OpenFile(testContext(t), fifo, proto.FSOpenOptions{Read: true})
		opened <- err
	}()
	for range 20 {
		require.NoError(t, c.Ping(testContext(t)))
		_, err := c.Stat(testContext(t), "/")
		require.NoError(t, err)
	}
	var w int
	require.Eventually(t, func() bool {
		var err error
		w, err = unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, <-opened)
	require.NoError(t, unix.Close(w))
}

// Two clients cannot get at the same handle, and a client that leaves ends its streams.
func TestFileStreamsOfADepartedClient(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	r := g.raw(t)
	path := t.TempDir() + "/file"
	require.NoError(t, os.Truncate(touch(t, path), 1<<40))
	r.send(1, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSOpenFile{Path: path, Options: proto.FSOpenOptions{Read: true, Write: true}}})
	r.next(1, proto.TypeFSResponse, nil)
	r.send(2, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSRead{Handle: 1}})
	r.next(2, proto.TypeFSData, nil)
	r.send(3, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSWrite{Handle: 1}}) // waits for the read
	require.Eventually(t, func() bool { return g.activity.files.Load() == 2 }, time.Minute, time.Millisecond)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	go func() { // keeps reading what is under way
		for ctx.Err() == nil {
			if _, err := r.in.ReadFrame(); err != nil {
				return
			}
		}
	}()
	r.send(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: 10})
	require.Eventually(t, func() bool { return g.activity.files.Load() == 0 }, time.Minute, time.Millisecond)
}

func touch(t *testing.T, path string) string {
	t.Helper()
	writeFile(t, path, "")
	return path
}

// An id that is used again ends the stream that had it.
func TestFileStreamsReplaced(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	r := g.raw(t)
	path := touch(t, t.TempDir()+"/file")
	r.send(1, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSOpenFile{Path: path, Options: proto.FSOpenOptions{Read: true, Write: true}}})
	r.next(1, proto.TypeFSResponse, nil)
	r.send(2, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSWrite{Handle: 1}})
	r.send(2, proto.TypeFSData, proto.Data{Data: []byte("old")})
	r.send(2, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSWrite{Handle: 1}})
	r.send(2, proto.TypeFSData, proto.Data{Data: []byte("new")})
	r.send(2, proto.TypeFSData, proto.Data{})
	var p proto.FSResponse
	r.next(2, proto.TypeFSResponse, &p)
	assert.True(t, p.OK, "the first one let go of the handle")
	require.Eventually(t, func() bool { return g.activity.files.Load() == 0 }, time.Minute, time.Millisecond)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "new", string(b))
	r.send(3, proto.TypePing, proto.Empty{})
	r.next(3, proto.TypePong, nil)
}
