package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// memory is a scripted agent with one directory of files in memory. Handles index names.
type memory struct {
	mu      sync.Mutex
	files   map[string][]byte
	handles map[uint64]string
	writes  map[uint32]*memoryWrite
	last    uint64
	ops     []proto.FSOp
	longest int // largest piece asked for
}

type memoryWrite struct {
	name string
	off  uint64
}

func newMemory() *memory {
	return &memory{files: map[string][]byte{}, handles: map[uint64]string{}, writes: map[uint32]*memoryWrite{}}
}

func (d *memory) script(g *guest, m proto.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch m.Type {
	case proto.TypeFSRequest:
		op := decode[proto.FSRequest](g, m).Op
		d.ops = append(d.ops, op)
		d.do(g, m.ID, op)
	case proto.TypeFSData:
		d.write(g, m)
	}
}

func (d *memory) ok(g *guest, id uint32, r *proto.FSResult) {
	g.send(id, proto.TypeFSResponse, proto.FSResponse{OK: true, Data: r})
}

func (d *memory) fail(g *guest, id uint32, text string) {
	g.send(id, proto.TypeFSResponse, proto.FSResponse{Error: &text})
}

func (d *memory) do(g *guest, id uint32, op proto.FSOp) {
	entry := func(name string) proto.FSEntry {
		return proto.FSEntry{Path: name, Kind: proto.EntryFile, Size: uint64(len(d.files[name])), Mtime: ptr[int64](1700000000)}
	}
	switch op := op.(type) {
	case proto.FSStat:
		if _, ok := d.files[op.Path]; !ok {
			d.fail(g, id, "stat: "+proto.ErrnoText(2))
			return
		}
		d.ok(g, id, &proto.FSResult{Kind: proto.ResultStat, Entry: entry(op.Path)})
	case proto.FSFStat:
		d.ok(g, id, &proto.FSResult{Kind: proto.ResultStat, Entry: entry(d.handles[op.Handle])})
	case proto.FSList, proto.FSReadDir:
		d.ok(g, id, &proto.FSResult{Kind: proto.ResultList, Entries: []proto.FSEntry{entry("/a")}})
	case proto.FSRealPath:
		d.ok(g, id, &proto.FSResult{Kind: proto.ResultPath, Path: op.Path})
	case proto.FSReadLink:
		d.ok(g, id, &proto.FSResult{Kind: proto.ResultPath, Path: "target"})
	case proto.FSOpenFile:
		if _, ok := d.files[op.Path]; !ok && !op.Options.Create {
			d.fail(g, id, "open: "+proto.ErrnoText(2))
			return
		}
		if op.Options.Truncate {
			d.files[op.Path] = nil
		}
		d.last++
		d.handles[d.last] = op.Path
		d.ok(g, id, &proto.FSResult{Kind: proto.ResultHandle, Handle: d.last})
	case proto.FSOpenDir:
		d.ok(g, id, &proto.FSResult{Kind: proto.ResultHandle, Handle: 1000})
	case proto.FSCloseHandle:
		delete(d.handles, op.Handle)
		d.ok(g, id, nil)
	case proto.FSRead:
		d.read(g, id, op)
	case proto.FSWrite:
		d.writes[id] = &memoryWrite{d.handles[op.Handle], op.Offset}
	default:
		d.ok(g, id, nil)
	}
}

func (d *memory) read(g *guest, id uint32, op proto.FSRead) {
	file := d.files[d.handles[op.Handle]]
	file = file[min(op.Offset, uint64(len(file))):]
	if op.Len == nil {
		g.t.Error("client read without a length")
		return
	}
	d.longest = max(d.longest, int(*op.Len))
	file = file[:min(*op.Len, uint64(len(file)))]
	for len(file) > 0 { // in uneven messages
		n := min(len(file), 100_000)
		g.data(id, proto.TypeFSData, string(file[:n]))
		file = file[n:]
	}
	d.ok(g, id, nil)
}

func (d *memory) write(g *guest, m proto.Message) {
	w := d.writes[m.ID]
	p, err := proto.DecodeData(m.Payload)
	switch {
	case err != nil:
		g.t.Errorf("fs.data: %v", err)
	case w == nil:
		d.fail(g, m.ID, "unknown write session")
	case w.name == "/full" && len(p) > 0:
		delete(d.writes, m.ID)
		d.fail(g, m.ID, "write: "+proto.ErrnoText(28))
	case len(p) == 0:
		delete(d.writes, m.ID)
		d.ok(g, m.ID, nil)
	default:
		file := d.files[w.name]
		file = append(file[:min(w.off, uint64(len(file)))], p...)
		w.off += uint64(len(p))
		d.files[w.name] = file
	}
}

func (d *memory) open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.handles) + len(d.writes)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestFileRoundTrip(t *testing.T) {
	d := newMemory()
	c := connect(t, Options{}, d.script)
	ctx := testContext(t)
	for _, size := range []int{0, 1, 512 << 10, 3<<20 + 7, 10 << 20} {
		want := randomBytes(size)
		require.NoError(t, c.WriteFile(ctx, "/f", want, nil))
		got, err := c.ReadFile(ctx, "/f")
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), size)
	}
	assert.Zero(t, d.open())
	assert.LessOrEqual(t, d.longest, 512<<10)

	_, err := c.ReadFile(ctx, "/none")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	var failed *FSError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, FSError{Op: "OpenFile", Path: "/none", Errno: 2, Message: "open: No such file or directory (os error 2)"}, *failed)
}

func TestReadFileLimit(t *testing.T) {
	d := newMemory()
	d.files["/f"] = make([]byte, 2<<20)
	c := connect(t, Options{MaxCollect: 1 << 20}, d.script)
	_, err := c.ReadFile(testContext(t), "/f")
	assert.ErrorIs(t, err, ErrTooLarge)
	assert.Zero(t, d.open())
}

func TestFileStreams(t *testing.T) {
	d := newMemory()
	c := connect(t, Options{}, d.script)
	ctx := testContext(t)
	w, err := c.OpenWriter(ctx, "/f", ptr[uint32](0o600))
	require.NoError(t, err)
	for _, part := range []string{"one ", "two ", "three"} {
		n, err := w.Write([]byte(part))
		require.NoError(t, err)
		assert.Len(t, part, n)
	}
	n, err := io.Copy(w, strings.NewReader(" four"))
	require.NoError(t, err)
	assert.EqualValues(t, 5, n)
	require.NoError(t, w.Close(ctx))
	assert.ErrorIs(t, w.Close(ctx), ErrClosed)
	_, err = w.Write([]byte("x"))
	assert.ErrorIs(t, err, ErrClosed)

	r, err := c.OpenReader(ctx, "/f")
	require.NoError(t, err)
	b, err := r.Recv(ctx)
	require.NoError(t, err)
	assert.Equal(t, "one two three four", string(b))
	for range 2 {
		_, err = r.Recv(ctx)
		assert.Equal(t, io.EOF, err)
	}
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())

	r, err = c.OpenReader(ctx, "/f")
	require.NoError(t, err)
	small := make([]byte, 4)
	_, err = io.ReadFull(r, small)
	require.NoError(t, err)
	assert.Equal(t, "one ", string(small))
	var rest bytes.Buffer
	m, err := r.WriteTo(&rest)
	require.NoError(t, err)
	assert.EqualValues(t, rest.Len(), m)
	assert.Equal(t, "two three four", rest.String())
	require.NoError(t, r.Close())
	assert.Zero(t, d.open())

	f, err := c.OpenFile(ctx, "/f", proto.FSOpenOptions{Read: true, Write: true})
	require.NoError(t, err)
	k, err := f.ReadAt(ctx, small, 4)
	require.NoError(t, err)
	assert.Equal(t, "two ", string(small[:k]))
	k, err = f.ReadAt(ctx, small, 16)
	assert.Equal(t, io.EOF, err)
	assert.Equal(t, "ur", string(small[:k]))
	w, err = f.Writer(ctx, 4)
	require.NoError(t, err)
	_, err = w.Write([]byte("TWO"))
	require.NoError(t, err)
	require.NoError(t, w.Close(ctx))
	entry, err := f.Stat(ctx)
	require.NoError(t, err)
	assert.EqualValues(t, 7, entry.Size)
	require.NoError(t, f.SetStat(ctx, proto.FSAttrs{Mode: ptr[uint32](0o644)}))
	require.NoError(t, f.Close(ctx))
	assert.Zero(t, d.open())
}

func TestWriteErrorSurfaces(t *testing.T) {
	d := newMemory()
	c := connect(t, Options{}, d.script)
	ctx := testContext(t)
	err := c.WriteFile(ctx, "/full", make([]byte, 32<<20), nil)
	var failed *FSError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, 28, failed.Errno)
	assert.Equal(t, "write: No space left on device (os error 28)", failed.Message)
	assert.Zero(t, d.open())
}

func TestReaderSurvivesCancelledRecv(t *testing.T) {
	d := newMemory()
	d.files["/f"] = []byte("content")
	c := connect(t, Options{}, d.script)
	r, err := c.OpenReader(testContext(t), "/f")
	require.NoError(t, err)
	d.mu.Lock() // the guest does not answer
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	_, err = r.Recv(ctx)
	cancel()
	d.mu.Unlock()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	b, err := r.Recv(testContext(t))
	require.NoError(t, err)
	assert.Equal(t, "content", string(b))
	require.NoError(t, r.Close())
}

type cancelling struct{ cancel context.CancelFunc }

func (c cancelling) Write(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

func TestCopyToCancelled(t *testing.T) {
	d := newMemory()
	d.files["/f"] = make([]byte, 8<<20)
	c := connect(t, Options{}, d.script)
	ctx, cancel := context.WithCancel(testContext(t))
	r, err := c.OpenReader(ctx, "/f")
	require.NoError(t, err)
	n, err := r.CopyTo(ctx, cancelling{cancel})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Less(t, n, int64(8<<20))
	require.NoError(t, r.Close())
	assert.Zero(t, d.open())
}

func TestFileOperations(t *testing.T) {
	d := newMemory()
	d.files["/a"] = []byte("x")
	c := connect(t, Options{}, d.script)
	ctx := testContext(t)
	entry, err := c.Stat(ctx, "/a")
	require.NoError(t, err)
	assert.Equal(t, "/a", entry.Path)
	assert.Equal(t, time.Unix(1700000000, 0), ModTime(entry))
	assert.True(t, ModTime(Entry{}).IsZero())
	_, err = c.Lstat(ctx, "/none")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	entries, err := c.List(ctx, "/")
	require.NoError(t, err)
	assert.Len(t, entries, 1)
	path, err := c.RealPath(ctx, "/x")
	require.NoError(t, err)
	assert.Equal(t, "/x", path)
	path, err = c.ReadLink(ctx, "/l")
	require.NoError(t, err)
	assert.Equal(t, "target", path)
	require.NoError(t, c.Mkdir(ctx, "/d", ptr[uint32](0o700)))
	require.NoError(t, c.Remove(ctx, "/a"))
	require.NoError(t, c.RemoveDir(ctx, "/d", true))
	require.NoError(t, c.Rename(ctx, "/a", "/b"))
	require.NoError(t, c.Copy(ctx, "/a", "/b"))
	require.NoError(t, c.Symlink(ctx, "/a", "/l"))
	require.NoError(t, c.Chmod(ctx, "/a", 0o600))
	require.NoError(t, c.LsetStat(ctx, "/a", proto.FSAttrs{UID: ptr[uint32](1)}))
	dir, err := c.OpenDir(ctx, "/")
	require.NoError(t, err)
	_, err = dir.ReadDir(ctx, 5)
	require.NoError(t, err)
	_, err = dir.ReadDir(ctx, 0)
	require.NoError(t, err)
	require.NoError(t, dir.Close(ctx))
	d.mu.Lock()
	defer d.mu.Unlock()
	assert.Equal(t, []proto.FSOp{
		proto.FSStat{Path: "/a", FollowSymlink: true},
		proto.FSStat{Path: "/none"},
		proto.FSList{Path: "/"},
		proto.FSRealPath{Path: "/x"},
		proto.FSReadLink{Path: "/l"},
		proto.FSMkdir{Path: "/d", Mode: ptr[uint32](0o700)},
		proto.FSRemove{Path: "/a"},
		proto.FSRemoveDir{Path: "/d", Recursive: true},
		proto.FSRename{Src: "/a", Dst: "/b"},
		proto.FSCopy{Src: "/a", Dst: "/b"},
		proto.FSSymlink{Target: "/a", LinkPath: "/l"},
		proto.FSSetStat{Path: "/a", FollowSymlink: true, Attrs: proto.FSAttrs{Mode: ptr[uint32](0o600)}},
		proto.FSSetStat{Path: "/a", Attrs: proto.FSAttrs{UID: ptr[uint32](1)}},
		proto.FSOpenDir{Path: "/"},
		proto.FSReadDir{Handle: 1000, Limit: ptr[uint32](5)},
		proto.FSReadDir{Handle: 1000},
		proto.FSCloseHandle{Handle: 1000},
	}, d.ops)
}

func TestFSErrorIs(t *testing.T) {
	for text, want := range map[string]error{
		"stat: " + proto.ErrnoText(2):  fs.ErrNotExist,
		"open: " + proto.ErrnoText(13): fs.ErrPermission,
		"open: " + proto.ErrnoText(1):  fs.ErrPermission,
		"open: " + proto.ErrnoText(17): fs.ErrExist,
		"no number: not found":         fs.ErrNotExist,
		"Permission denied":            fs.ErrPermission,
	} {
		errno, _ := proto.ParseErrno(text)
		err := error(&FSError{Message: text, Errno: errno})
		for _, target := range []error{fs.ErrNotExist, fs.ErrPermission, fs.ErrExist} {
			assert.Equal(t, target == want, errors.Is(err, target), "%s is %v", text, target)
		}
	}
}

// TestLyingFiles is P11 for single files: more data than asked for, wrong results, no
// progress.
func TestLyingFiles(t *testing.T) {
	var answer func(g *guest, id uint32)
	c := connect(t, Options{}, func(g *guest, m proto.Message) {
		if m.Type != proto.TypeFSRequest {
			return
		}
		ok := func(r *proto.FSResult) { g.send(m.ID, proto.TypeFSResponse, proto.FSResponse{OK: true, Data: r}) }
		switch decode[proto.FSRequest](g, m).Op.(type) {
		case proto.FSOpenFile:
			ok(&proto.FSResult{Kind: proto.ResultHandle, Handle: 1<<64 - 1})
		case proto.FSRead:
			answer(g, m.ID)
		case proto.FSStat:
			ok(&proto.FSResult{Kind: proto.ResultPath, Path: "../../etc/passwd"})
		default:
			ok(nil)
		}
	})
	ctx := testContext(t)
	answer = func(g *guest, id uint32) { g.data(id, proto.TypeFSData, strings.Repeat("x", 600<<10)) }
	_, err := c.ReadFile(ctx, "/f")
	assert.ErrorIs(t, err, ErrProtocol)
	answer = func(g *guest, id uint32) {
		g.data(id, proto.TypeFSData, "")
		g.send(id, proto.TypeFSResponse, proto.FSResponse{})
	}
	_, err = c.ReadFile(ctx, "/f")
	assert.EqualError(t, err, `guest file "/f": operation failed`)
	_, err = c.Stat(ctx, "/f")
	assert.ErrorIs(t, err, ErrProtocol)
	_, err = c.List(ctx, "/f")
	assert.ErrorIs(t, err, ErrProtocol)
}
