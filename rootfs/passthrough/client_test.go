//go:build linux

package passthrough

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// guest is a model of the FUSE client in the guest's kernel. Its requests and answers are
// cut into segments as the kernel's driver cuts them.
type guest struct {
	t      testing.TB
	s      *Server
	dir    string // of the host
	uid    uint32
	gid    uint32
	unique atomic.Uint64
	// impatient makes each first try one that does not wait for a disk.
	impatient bool
}

// share makes a server over a fresh directory and begins a session.
func share(t testing.TB, change func(*Config)) *guest {
	t.Helper()
	dir := t.TempDir()
	return shareDir(t, dir, change)
}

func shareDir(t testing.TB, dir string, change func(*Config)) *guest {
	t.Helper()
	cfg := Config{Root: dir}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	g := &guest{t: t, s: s, dir: dir}
	g.begin()
	return g
}

// allFlags is what Linux 6.12 offers.
const allFlags = 0x7ffffffb

func (g *guest) begin() {
	g.t.Helper()
	b, errno := g.call(opInit, 0, words(7, 41, 131072, allFlags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	require.Zero(g.t, errno)
	require.Len(g.t, b, initOutSize)
}

// message makes the bytes of a request.
func (g *guest) message(op opcode, node uint64, body ...[]byte) []byte {
	length := inHeaderSize
	for _, b := range body {
		length += len(b)
	}
	m := make([]byte, inHeaderSize, length)
	le.PutUint32(m[0:], uint32(length))
	le.PutUint32(m[4:], uint32(op))
	le.PutUint64(m[8:], g.unique.Add(1))
	le.PutUint64(m[16:], node)
	le.PutUint32(m[24:], g.uid)
	le.PutUint32(m[28:], g.gid)
	for _, b := range body {
		m = append(m, b...)
	}
	return m
}

// segments cuts b at random places.
func segments(b []byte) (segs [][]byte) {
	for len(b) > 0 {
		n := 1 + rand.IntN(len(b))
		segs = append(segs, b[:n:n])
		b = b[n:]
	}
	return segs
}

const maxAnswer = 1<<16 + outHeaderSize

// send hands raw bytes to the server and returns its raw answer.
func (g *guest) send(m []byte, room int) []byte {
	n, again, out := g.try(m, room)
	require.False(g.t, again)
	return out[:n]
}

func (g *guest) try(m []byte, room int) (uint32, bool, []byte) {
	g.t.Helper()
	var header [inHeaderSize]byte
	copy(header[:], m)
	out := make([]byte, room)
	n, again := uint32(0), true
	if g.impatient {
		n, again = g.s.Serve(&header, segments(m), segments(out), false)
	}
	if again {
		n, again = g.s.Serve(&header, segments(m), segments(out), true)
	}
	require.LessOrEqual(g.t, int(n), room)
	return n, again, out
}

// call carries out a request and returns the answer after its header.
func (g *guest) call(op opcode, node uint64, body ...[]byte) ([]byte, syscall.Errno) {
	g.t.Helper()
	return g.callRoom(maxAnswer, op, node, body...)
}

func (g *guest) callRoom(room int, op opcode, node uint64, body ...[]byte) ([]byte, syscall.Errno) {
	g.t.Helper()
	m := g.message(op, node, body...)
	b := g.send(m, room)
	require.GreaterOrEqual(g.t, len(b), outHeaderSize, "an answer to %d", op)
	require.EqualValues(g.t, len(b), le.Uint32(b), "the length in the header")
	require.Equal(g.t, le.Uint64(m[8:]), le.Uint64(b[8:]), "the answer to this request")
	errno := syscall.Errno(-int32(le.Uint32(b[4:])))
	if errno != 0 {
		require.Len(g.t, b, outHeaderSize)
		require.Less(g.t, errno, syscall.Errno(512))
	}
	return b[outHeaderSize:], errno
}

// ok is call of a request that must succeed.
func (g *guest) ok(op opcode, node uint64, body ...[]byte) []byte {
	g.t.Helper()
	b, errno := g.call(op, node, body...)
	require.Zero(g.t, errno, "operation %d", op)
	return b
}

// words and longs encode numbers of 32 and 64 bits.
func words(v ...uint32) (b []byte) {
	for _, x := range v {
		b = le.AppendUint32(b, x)
	}
	return b
}

func longs(v ...uint64) (b []byte) {
	for _, x := range v {
		b = le.AppendUint64(b, x)
	}
	return b
}

func text(s string) []byte { return append([]byte(s), 0) }

// entry is an answer to LOOKUP and its kin.
type entry struct {
	node                  uint64
	entryValid, attrValid time.Duration
	attr
	fh    uint64 // of CREATE
	flags uint32
}

type attr struct {
	ino, size, blocks   uint64
	atime, mtime, ctime time.Time
	mode, nlink         uint32
	uid, gid, rdev      uint32
}

func parseAttr(b []byte) attr {
	at := func(sec, nsec int) time.Time {
		return time.Unix(int64(le.Uint64(b[sec:])), int64(le.Uint32(b[nsec:])))
	}
	return attr{
		ino: le.Uint64(b), size: le.Uint64(b[8:]), blocks: le.Uint64(b[16:]),
		atime: at(24, 48), mtime: at(32, 52), ctime: at(40, 56),
		mode: le.Uint32(b[60:]), nlink: le.Uint32(b[64:]), uid: le.Uint32(b[68:]), gid: le.Uint32(b[72:]), rdev: le.Uint32(b[76:]),
	}
}

func parseEntry(b []byte) entry {
	e := entry{
		node:       le.Uint64(b),
		entryValid: time.Duration(le.Uint64(b[16:]))*time.Second + time.Duration(le.Uint32(b[32:])),
		attrValid:  time.Duration(le.Uint64(b[24:]))*time.Second + time.Duration(le.Uint32(b[36:])),
		attr:       parseAttr(b[40:]),
	}
	if len(b) >= entryOutSize+openOutSize {
		e.fh, e.flags = le.Uint64(b[entryOutSize:]), le.Uint32(b[entryOutSize+8:])
	}
	return e
}

func (g *guest) entry(op opcode, node uint64, body ...[]byte) entry {
	g.t.Helper()
	return parseEntry(g.ok(op, node, body...))
}

func (g *guest) lookup(dir uint64, name string) entry {
	g.t.Helper()
	return g.entry(opLookup, dir, text(name))
}

func (g *guest) failLookup(dir uint64, name string) syscall.Errno {
	g.t.Helper()
	_, errno := g.call(opLookup, dir, text(name))
	return errno
}

func (g *guest) getattr(node uint64) attr {
	g.t.Helper()
	return parseAttr(g.ok(opGetattr, node, words(0, 0), longs(0))[16:])
}

func (g *guest) create(dir uint64, name string, mode uint32) entry {
	g.t.Helper()
	return g.entry(opCreate, dir, words(unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, unix.S_IFREG|mode, 0, 0), text(name))
}

func (g *guest) mkdir(dir uint64, name string, mode uint32) entry {
	g.t.Helper()
	return g.entry(opMkdir, dir, words(mode, 0), text(name))
}

func (g *guest) mknod(dir uint64, name string, mode, rdev uint32) ([]byte, syscall.Errno) {
	g.t.Helper()
	return g.call(opMknod, dir, words(mode, rdev, 0, 0), text(name))
}

func (g *guest) open(node uint64, flags uint32) (fh uint64, out uint32) {
	g.t.Helper()
	b := g.ok(opOpen, node, words(flags, 0))
	require.Len(g.t, b, openOutSize)
	return le.Uint64(b), le.Uint32(b[8:])
}

func (g *guest) failOpen(node uint64, flags uint32) syscall.Errno {
	g.t.Helper()
	_, errno := g.call(opOpen, node, words(flags, 0))
	return errno
}

func (g *guest) release(node, fh uint64) {
	g.t.Helper()
	g.ok(opRelease, node, longs(fh), words(0, 0), longs(0))
}

func (g *guest) write(node, fh, off uint64, p string) syscall.Errno {
	g.t.Helper()
	return g.writeFlags(node, fh, off, p, 0, 0)
}

func (g *guest) writeFlags(node, fh, off uint64, p string, flags, open uint32) syscall.Errno {
	g.t.Helper()
	b, errno := g.call(opWrite, node, longs(fh, off), words(uint32(len(p)), flags), longs(0), words(open, 0), []byte(p))
	if errno == 0 {
		require.EqualValues(g.t, len(p), le.Uint32(b))
	}
	return errno
}

func (g *guest) read(node, fh, off uint64, n uint32) string {
	g.t.Helper()
	return string(g.ok(opRead, node, longs(fh, off), words(n, 0), longs(0), words(0, 0)))
}

// put makes a file with a content and closes it.
func (g *guest) put(dir uint64, name, content string) entry {
	g.t.Helper()
	e := g.create(dir, name, 0o644)
	require.Zero(g.t, g.write(e.node, e.fh, 0, content))
	g.release(e.node, e.fh)
	return e
}

// cat reads a file.
func (g *guest) cat(node uint64) string {
	g.t.Helper()
	fh, _ := g.open(node, unix.O_RDONLY)
	defer g.release(node, fh)
	return g.read(node, fh, 0, 65536)
}

func (g *guest) unlink(dir uint64, name string) syscall.Errno {
	g.t.Helper()
	_, errno := g.call(opUnlink, dir, text(name))
	return errno
}

func (g *guest) rename(from uint64, old string, to uint64, new string, flags uint32) syscall.Errno {
	g.t.Helper()
	_, errno := g.call(opRename2, from, longs(to), words(flags, 0), text(old), text(new))
	return errno
}

func (g *guest) forget(node, n uint64) {
	g.t.Helper()
	require.Empty(g.t, g.send(g.message(opForget, node, longs(n)), 0))
}

// set changes attributes; zero fields that valid does not name are not looked at.
type set struct {
	valid          uint32
	fh, size       uint64
	atime, mtime   time.Time
	mode, uid, gid uint32
}

func (g *guest) setattr(node uint64, s set) (attr, syscall.Errno) {
	g.t.Helper()
	at, mt := s.atime, s.mtime
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	if mt.IsZero() {
		mt = time.Unix(0, 0)
	}
	b, errno := g.call(opSetattr, node, words(s.valid, 0), longs(s.fh, s.size, 0, uint64(at.Unix()), uint64(mt.Unix()), 0),
		words(uint32(at.Nanosecond()), uint32(mt.Nanosecond()), 0, s.mode, 0, s.uid, s.gid, 0))
	if errno != 0 {
		return attr{}, errno
	}
	return parseAttr(b[16:]), 0
}

func (g *guest) chmod(node uint64, mode uint32) (attr, syscall.Errno) {
	g.t.Helper()
	return g.setattr(node, set{valid: setattrMode, mode: mode})
}

func (g *guest) chown(node uint64, uid, gid uint32) (attr, syscall.Errno) {
	g.t.Helper()
	return g.setattr(node, set{valid: setattrUID | setattrGID, uid: uid, gid: gid})
}

// dirent is an entry of READDIR or, with its node, of READDIRPLUS.
type dirent struct {
	name string
	ino  uint64
	off  uint64
	kind uint32
	entry
}

func parseDirents(t testing.TB, b []byte, plus bool) (list []dirent) {
	for len(b) > 0 {
		var d dirent
		if plus {
			d.entry = parseEntry(b)
			b = b[entryOutSize:]
		}
		n := int(le.Uint32(b[16:]))
		d.ino, d.off, d.kind = le.Uint64(b), le.Uint64(b[8:]), le.Uint32(b[20:])
		d.name = string(b[direntSize : direntSize+n])
		padded := (direntSize + n + 7) &^ 7
		require.LessOrEqual(t, padded, len(b))
		b = b[padded:]
		list = append(list, d)
	}
	return list
}

func (g *guest) opendir(node uint64) uint64 {
	g.t.Helper()
	return le.Uint64(g.ok(opOpendir, node, words(0, 0)))
}

func (g *guest) releasedir(node, fh uint64) {
	g.t.Helper()
	g.ok(opReleasedir, node, longs(fh), words(0, 0), longs(0))
}

func (g *guest) readdir(op opcode, node, fh, off uint64, n uint32) []dirent {
	g.t.Helper()
	b := g.ok(op, node, longs(fh, off), words(n, 0), longs(0), words(0, 0))
	require.LessOrEqual(g.t, len(b), int(n))
	return parseDirents(g.t, b, op == opReaddirplus)
}

// list reads a whole directory in steps of n bytes, without "." and "..".
func (g *guest) list(op opcode, node uint64, n uint32) map[string]dirent {
	g.t.Helper()
	fh := g.opendir(node)
	defer g.releasedir(node, fh)
	all := map[string]dirent{}
	for off := uint64(0); ; {
		part := g.readdir(op, node, fh, off, n)
		if len(part) == 0 {
			return all
		}
		for _, d := range part {
			off = d.off
			if d.name == "." || d.name == ".." {
				continue
			}
			require.NotContains(g.t, all, d.name, "listed twice")
			all[d.name] = d
		}
	}
}

// host is the path of a file on the host.
func (g *guest) host(name string) string { return filepath.Join(g.dir, name) }

func (g *guest) hostFile(name, content string) {
	g.t.Helper()
	require.NoError(g.t, os.MkdirAll(filepath.Dir(g.host(name)), 0o755))
	require.NoError(g.t, os.WriteFile(g.host(name), []byte(content), 0o644))
}

func (g *guest) hostStat(name string) unix.Stat_t {
	g.t.Helper()
	var st unix.Stat_t
	require.NoError(g.t, unix.Lstat(g.host(name), &st))
	return st
}

// openFDs is how many descriptors the process has.
func openFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}
