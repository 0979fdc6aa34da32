//go:build linux

package passthrough

import (
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// outside makes a share next to a file that nobody may reach or make from it.
func outside(t *testing.T, change func(*Config)) *guest {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "share")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(top, "private"), 0o755))
	g := shareDir(t, dir, change)
	t.Cleanup(func() {
		list, err := os.ReadDir(top)
		require.NoError(t, err)
		assert.Len(t, list, 3, "nothing appeared next to the share, nothing is gone")
		b, err := os.ReadFile(filepath.Join(top, "secret"))
		require.NoError(t, err)
		assert.Equal(t, "secret", string(b))
		list, err = os.ReadDir(filepath.Join(top, "private"))
		require.NoError(t, err)
		assert.Empty(t, list)
	})
	return g
}

// TestNamesThatAreNoNames (N77): the case of libkrun issue 329, a guest kernel that sends
// a path where a name should be.
func TestNamesThatAreNoNames(t *testing.T) {
	t.Parallel()
	names := map[string]syscall.Errno{
		"..": unix.EINVAL, ".": unix.EINVAL, "../secret": unix.EINVAL, "../../etc/passwd": unix.EINVAL, "d/../../secret": unix.EINVAL,
		"/etc/passwd": unix.EINVAL, "/": unix.EINVAL, "d/f": unix.EINVAL, "d/": unix.EINVAL, "//": unix.EINVAL, "": unix.EINVAL, "./f": unix.EINVAL,
		"../private/new": unix.EINVAL, strings.Repeat("n", 256): unix.ENAMETOOLONG, strings.Repeat("n", 4000): unix.ENAMETOOLONG,
	}
	for _, stat := range []StatMode{StatStrict, StatRelaxed, StatOff} {
		g := outside(t, func(c *Config) { c.Stat = stat })
		d := g.mkdir(rootID, "d", 0o755)
		f := g.put(d.node, "f", "x")
		for name, want := range names {
			short := name[:min(len(name), 20)]
			for op, call := range map[string]func(dir uint64) syscall.Errno{
				"lookup": func(dir uint64) syscall.Errno { return g.failLookup(dir, name) },
				"create": func(dir uint64) syscall.Errno {
					_, errno := g.call(opCreate, dir, words(unix.O_RDWR, 0o644, 0, 0), text(name))
					return errno
				},
				"mknod": func(dir uint64) syscall.Errno {
					_, errno := g.mknod(dir, name, unix.S_IFREG|0o644, 0)
					return errno
				},
				"mkdir": func(dir uint64) syscall.Errno {
					_, errno := g.call(opMkdir, dir, words(0o755, 0), text(name))
					return errno
				},
				"symlink": func(dir uint64) syscall.Errno {
					_, errno := g.call(opSymlink, dir, text(name), text("target"))
					return errno
				},
				"link": func(dir uint64) syscall.Errno {
					_, errno := g.call(opLink, dir, longs(f.node), text(name))
					return errno
				},
				"unlink": func(dir uint64) syscall.Errno { return g.unlink(dir, name) },
				"rmdir": func(dir uint64) syscall.Errno {
					_, errno := g.call(opRmdir, dir, text(name))
					return errno
				},
				"rename from": func(dir uint64) syscall.Errno { return g.rename(dir, name, rootID, "x", 0) },
				"rename to":   func(dir uint64) syscall.Errno { return g.rename(d.node, "f", dir, name, 0) },
				"rename": func(dir uint64) syscall.Errno {
					_, errno := g.call(opRename, d.node, longs(dir), text("f"), text(name))
					return errno
				},
			} {
				for _, dir := range []uint64{rootID, d.node} {
					assert.Equal(t, want, call(dir), "%s of %q", op, short)
				}
			}
		}
		assert.Len(t, g.list(opReaddir, rootID, 4096), 1)
		assert.Len(t, g.list(opReaddir, d.node, 4096), 1)
		assert.Equal(t, "x", g.cat(f.node))
	}
}

// TestNamesWithoutAnEnd (N77).
func TestNamesWithoutAnEnd(t *testing.T) {
	t.Parallel()
	g := outside(t, nil)
	for op, body := range map[opcode][]byte{
		opLookup: []byte("name"), opUnlink: []byte("name"), opMkdir: append(words(0o755, 0), "name"...), opSymlink: append(text("name"), "target"...),
		opRename: append(longs(1), "old\x00new"...), opLink: append(longs(1), "name"...), opCreate: append(words(2, 0, 0, 0), "name"...),
		opGetxattr: append(words(10, 0), "user.x"...), opRemovexattr: []byte("user.x"), opMknod: append(words(unix.S_IFREG, 0, 0, 0), "name"...),
		opRename2: append(append(longs(1), words(0, 0)...), "old"...),
	} {
		_, errno := g.call(op, rootID, body)
		assert.Equal(t, unix.EINVAL, errno, op)
	}
	assert.Empty(t, g.list(opReaddir, rootID, 4096))
}

// TestLinksThatLeadOut (N78) are shown and never followed.
func TestLinksThatLeadOut(t *testing.T) {
	t.Parallel()
	for _, stat := range []StatMode{StatStrict, StatOff} {
		g := outside(t, func(c *Config) { c.Stat = stat })
		for name, target := range map[string]string{
			"root": "/", "etc": "/etc", "up": "..", "secret": "../secret", "magic": "/proc/self/fd/0", "cwd": "/proc/self/cwd", "private": "../private", "self": ".",
		} {
			require.NoError(t, os.Symlink(target, g.host(name)))
			l := g.lookup(rootID, name)
			assert.EqualValues(t, unix.S_IFLNK, l.mode&unix.S_IFMT)
			assert.Equal(t, target, string(g.ok(opReadlink, l.node)))
			for _, inside := range []string{"passwd", "secret", "x"} {
				assert.Equal(t, unix.ENOTDIR, g.failLookup(l.node, inside))
				_, errno := g.call(opCreate, l.node, words(unix.O_RDWR, 0o644, 0, 0), text(inside))
				assert.Equal(t, unix.ENOTDIR, errno)
				_, errno = g.call(opMkdir, l.node, words(0o755, 0), text(inside))
				assert.Equal(t, unix.ENOTDIR, errno)
			}
			for _, flags := range []uint32{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC, unix.O_PATH, unix.O_DIRECTORY} {
				assert.Equal(t, unix.ELOOP, g.failOpen(l.node, flags))
			}
			_, errno := g.call(opOpendir, l.node, words(0, 0))
			assert.Equal(t, unix.ENOTDIR, errno)
			_, errno = g.setattr(l.node, set{valid: setattrSize})
			assert.Equal(t, unix.EINVAL, errno)
			_, errno = g.chmod(l.node, 0o700)
			assert.Equal(t, unix.EOPNOTSUPP, errno)
			assert.Equal(t, unix.EPERM, g.setxattr(l.node, "user.x", "y", 0))
			// A name that is taken by a link is not made through it.
			_, errno = g.call(opCreate, rootID, words(unix.O_RDWR|unix.O_CREAT, 0o644, 0, 0), text(name))
			assert.Equal(t, unix.ELOOP, errno)
			_, errno = g.setattr(l.node, set{valid: setattrMtime, mtime: time.Unix(5, 0)})
			assert.Zero(t, errno)
			assert.EqualValues(t, 5, g.hostStat(name).Mtim.Sec, "of the link itself")
			h := g.entry(opLink, rootID, longs(l.node), text(name+"2"))
			assert.Equal(t, l.node, h.node)
		}
		var st unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(filepath.Dir(g.dir), "secret"), &st))
		assert.EqualValues(t, 1, st.Nlink)
	}
}

// TestDirectoryBecomesALink (N78, N86): the host replaces what the guest has looked up.
func TestDirectoryBecomesALink(t *testing.T) {
	t.Parallel()
	for _, used := range []bool{false, true} {
		g := outside(t, func(c *Config) { c.Descriptors = 1 })
		d := g.mkdir(rootID, "d", 0o755)
		f := g.put(d.node, "f", "mine")
		if used { // its descriptor is open, or was
			g.lookup(d.node, "f")
		} else {
			g.mkdir(g.mkdir(rootID, "e", 0o755).node, "x", 0o755)
		}
		require.NoError(t, os.Rename(g.host("d"), g.host("moved")))
		require.NoError(t, os.Symlink("..", g.host("d")))
		for range 3 {
			_, errno := g.call(opLookup, d.node, text("secret"))
			assert.Contains(t, []syscall.Errno{unix.ESTALE, unix.ENOENT}, errno)
			_, errno = g.call(opCreate, f.node, words(unix.O_RDWR, 0o644, 0, 0), text("new"))
			assert.Contains(t, []syscall.Errno{unix.ESTALE, unix.ENOTDIR}, errno)
		}
		m := g.lookup(rootID, "moved")
		assert.Equal(t, d.node, m.node, "the directory is known by its new name")
		assert.Equal(t, "mine", g.cat(g.lookup(m.node, "f").node))
	}
}

// TestMutator (N86) has a host process move files and links about under the guest's feet,
// and another guest of the same share: nothing of outside is ever seen.
func TestMutator(t *testing.T) {
	t.Parallel()
	g := outside(t, func(c *Config) { c.Descriptors = 2 })
	secret := filepath.Join(filepath.Dir(g.dir), "secret")
	host, err := os.OpenRoot(g.dir) // which keeps the mutator itself inside
	require.NoError(t, err)
	defer host.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			names := []string{"a", "b", "a/a", "a/b", "b/a", "b/b"}
			x, y := names[rand.IntN(len(names))], names[rand.IntN(len(names))]
			switch rand.IntN(7) {
			case 0:
				_ = host.Symlink(secret, x)
			case 1:
				_ = host.Symlink("..", x)
			case 2:
				_ = host.RemoveAll(x)
			case 3:
				_ = host.Mkdir(x, 0o755)
			case 4:
				_ = host.WriteFile(x+".new", []byte("mine"), 0o644)
				_ = host.Rename(x+".new", x)
			case 5:
				_ = unix.Renameat2(unix.AT_FDCWD, g.host("a"), unix.AT_FDCWD, g.host("b"), unix.RENAME_EXCHANGE)
			case 6:
				_ = host.Rename(x, y)
			}
		}
	})
	end := time.Now().Add(2 * time.Second)
	nodes := []uint64{rootID}
	for time.Now().Before(end) {
		dir, name := nodes[rand.IntN(len(nodes))], string(rune('a'+rand.IntN(2)))
		b, errno := g.call(opLookup, dir, text(name))
		if errno == 0 && len(nodes) < 64 {
			nodes = append(nodes, parseEntry(b).node)
		}
		n := nodes[rand.IntN(len(nodes))]
		if b, errno = g.call(opOpen, n, words(unix.O_RDWR, 0)); errno == 0 {
			fh := le.Uint64(b)
			content := g.read(n, fh, 0, 100)
			require.NotContains(t, content, "secret")
			g.release(n, fh)
		}
		for _, errno := range []syscall.Errno{
			func() syscall.Errno {
				_, errno := g.call(opCreate, n, words(unix.O_RDWR, 0o644, 0, 0), text(name))
				return errno
			}(),
			g.rename(n, "a", dir, "b", uint32(rand.IntN(3))), g.unlink(dir, name),
		} {
			require.NotEqual(t, unix.EIO, errno)
		}
		if errno := g.failLookup(n, "secret"); errno == 0 {
			t.Fatal("the directory above was reached")
		}
	}
	close(stop)
	wg.Wait()
}

// TestNodesThatAreNone (N79).
func TestNodesThatAreNone(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f := g.put(rootID, "f", "x")
	gone := g.put(rootID, "gone", "x")
	g.forget(gone.node, 1)
	for _, node := range []uint64{0, 2 + 1000, gone.node, math.MaxUint64, 1 << 63} {
		for _, op := range []opcode{
			opLookup, opGetattr, opSetattr, opReadlink, opSymlink, opMknod, opMkdir, opUnlink, opRmdir, opRename, opRename2, opLink, opOpen,
			opSetxattr, opGetxattr, opListxattr, opRemovexattr, opOpendir, opAccess, opCreate, opStatx, opTmpfile,
		} {
			_, errno := g.call(op, node, validBody(op, f.node))
			assert.Equal(t, unix.ESTALE, errno, "operation %d on node %d", op, node)
		}
		g.forget(node, math.MaxUint64)
		_, errno := g.call(opLink, rootID, longs(node), text("l"))
		assert.Equal(t, unix.ESTALE, errno)
		assert.Equal(t, unix.ESTALE, g.rename(rootID, "f", node, "x", 0))
	}
	t.Run("counts of look-ups cannot go below zero", func(t *testing.T) {
		for range 3 {
			g.forget(f.node, math.MaxUint64)
			assert.Equal(t, unix.ESTALE, g.failOpen(f.node, 0))
			f = g.lookup(rootID, "f")
			g.lookup(rootID, "f")
			g.forget(f.node, 1)
			assert.Equal(t, "x", g.cat(f.node))
		}
		g.forget(rootID, math.MaxUint64)
		assert.Equal(t, f.node, g.lookup(rootID, "f").node, "the root is always there")
	})
	t.Run("many at once", func(t *testing.T) {
		a, b := g.lookup(rootID, "f"), g.lookup(rootID, "gone")
		body := words(1000000, 0)
		for _, n := range []uint64{a.node, 99999, b.node, 1, 0} {
			body = append(body, longs(n, 1<<40)...)
		}
		assert.Empty(t, g.send(g.message(opBatchForget, 0, body, []byte("half a node")), 0), "it says more than there are")
		assert.Equal(t, unix.ESTALE, g.failOpen(a.node, 0))
		assert.Equal(t, unix.ESTALE, g.failOpen(b.node, 0))
	})
}

// validBody is the arguments of a well-formed request.
func validBody(op opcode, node uint64) []byte {
	switch op {
	case opLookup, opUnlink, opRmdir, opRemovexattr:
		return text("user.x")
	case opSymlink:
		return append(text("new"), text("target")...)
	case opMknod:
		return append(words(unix.S_IFREG|0o644, 0, 0, 0), text("new")...)
	case opMkdir:
		return append(words(0o755, 0), text("new")...)
	case opRename:
		return append(longs(rootID), "f\x00g\x00"...)
	case opRename2:
		return append(append(longs(rootID), words(0, 0)...), "f\x00g\x00"...)
	case opLink:
		return append(longs(node), text("new")...)
	case opSetattr:
		return append(append(words(setattrMode, 0), longs(0, 0, 0, 0, 0, 0)...), words(0, 0, 0, 0o600, 0, 0, 0, 0)...)
	case opCreate, opTmpfile:
		return append(words(unix.O_RDWR, 0o644, 0, 0), text("new")...)
	case opSetxattr:
		return append(append(words(1, 0), text("user.x")...), 'v')
	case opGetxattr, opListxattr:
		return append(words(100, 0), text("user.x")...)
	}
	return append(words(0, 0), longs(0, 0, 0, 0)...)
}

// TestHandlesThatAreNone (N80).
func TestHandlesThatAreNone(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	a, b := g.create(rootID, "a", 0o600), g.create(rootID, "b", 0o600)
	d := g.mkdir(rootID, "d", 0o755)
	dir := g.opendir(d.node)
	ro, _ := g.open(a.node, unix.O_RDONLY)
	closed, _ := g.open(a.node, unix.O_RDONLY)
	g.release(a.node, closed)
	type try struct {
		node, fh uint64
		want     syscall.Errno
	}
	tries := []try{
		{a.node, b.fh, unix.EBADF}, {b.node, a.fh, unix.EBADF}, {a.node, closed, unix.EBADF}, {a.node, 0, unix.EBADF}, {a.node, math.MaxUint64, unix.EBADF},
		{d.node, a.fh, unix.EBADF}, {a.node, dir, unix.EBADF}, {rootID, dir, unix.EBADF}, {0, a.fh, unix.EBADF},
	}
	body := map[opcode]func(fh uint64) []byte{
		opRead: func(fh uint64) []byte { return append(longs(fh, 0), append(words(10, 0), longs(0, 0)...)...) },
		opWrite: func(fh uint64) []byte {
			return append(append(longs(fh, 0), append(words(1, 0), longs(0, 0)...)...), 'x')
		},
		opRelease:   func(fh uint64) []byte { return append(longs(fh), longs(0, 0)...) },
		opFsync:     func(fh uint64) []byte { return longs(fh, 0) },
		opFallocate: func(fh uint64) []byte { return longs(fh, 0, 10, 0) },
		opLseek:     func(fh uint64) []byte { return append(longs(fh, 0), words(unix.SEEK_DATA, 0)...) },
		opReaddir:   func(fh uint64) []byte { return append(longs(fh, 0), append(words(4096, 0), longs(0, 0)...)...) },
	}
	body[opReaddirplus], body[opFsyncdir], body[opReleasedir] = body[opReaddir], body[opFsync], body[opRelease]
	for op, make := range body {
		for _, c := range tries {
			_, errno := g.call(op, c.node, make(c.fh))
			assert.Equal(t, c.want, errno, "operation %d of handle %d and node %d", op, c.fh, c.node)
		}
		switch op {
		case opReaddir, opReaddirplus:
			_, errno := g.call(op, a.node, make(a.fh))
			assert.Equal(t, unix.ENOTDIR, errno)
		case opRead, opWrite, opFallocate, opLseek:
			_, errno := g.call(op, d.node, make(dir))
			assert.Equal(t, unix.EISDIR, errno)
		case opRelease:
			_, errno := g.call(op, d.node, make(dir))
			assert.Equal(t, unix.EBADF, errno)
		case opReleasedir:
			_, errno := g.call(op, a.node, make(a.fh))
			assert.Equal(t, unix.EBADF, errno)
		}
	}
	for _, c := range tries {
		_, errno := g.call(opCopyFileRange, a.node, longs(a.fh, 0, c.node, c.fh, 0, 1, 0))
		assert.Equal(t, c.want, errno)
	}
	assert.Equal(t, unix.EBADF, g.write(a.node, ro, 0, "x"), "not open for writing")
	_, errno := g.call(opFallocate, a.node, longs(ro, 0, 10, 0))
	assert.Equal(t, unix.EBADF, errno)
	_, errno = g.call(opCopyFileRange, b.node, longs(b.fh, 0, a.node, ro, 0, 1, 0))
	assert.Equal(t, unix.EBADF, errno)
	require.Zero(t, g.write(b.node, b.fh, 0, "still good"))
}

// TestSizesThatLie (N76, N81).
func TestSizesThatLie(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f := g.create(rootID, "f", 0o600)
	require.Zero(t, g.write(f.node, f.fh, 0, "0123456789"))
	read := func(room int, off uint64, n uint32) ([]byte, syscall.Errno) {
		return g.callRoom(room, opRead, f.node, longs(f.fh, off), words(n, 0), longs(0, 0))
	}
	for _, n := range []uint32{10, 4096, 1<<32 - 1, 1 << 31} {
		b, errno := read(maxAnswer, 0, n)
		assert.Zero(t, errno)
		assert.Equal(t, "0123456789", string(b))
	}
	b, errno := read(outHeaderSize+4, 0, 1<<32-1)
	assert.Zero(t, errno)
	assert.Equal(t, "0123", string(b), "no more than there is room for")
	for _, off := range []uint64{1 << 63, math.MaxUint64, math.MaxInt64} {
		_, errno := read(maxAnswer, off, 4096)
		assert.Equal(t, unix.EINVAL, errno)
		assert.NotZero(t, g.write(f.node, f.fh, off, "x"))
	}
	for _, n := range []uint32{0, 4, 6, 1<<32 - 1, 1 << 31} {
		_, errno := g.call(opWrite, f.node, longs(f.fh, 0), words(n, 0), longs(0, 0), []byte("WRITE"))
		assert.Equal(t, unix.EINVAL, errno)
	}
	dir := g.opendir(rootID)
	for _, off := range []uint64{1 << 63, math.MaxUint64, 12345, 1 << 62} {
		_, errno := g.call(opReaddir, rootID, longs(dir, off), words(4096, 0), longs(0, 0))
		assert.NotEqual(t, unix.EIO, errno)
	}
	g.readdir(opReaddir, rootID, dir, 0, 4096)
	for _, c := range []set{{valid: setattrSize, size: 1 << 63}, {valid: setattrSize, size: math.MaxUint64}} {
		_, errno := g.setattr(f.node, c)
		assert.Equal(t, unix.EINVAL, errno)
	}
	assert.EqualValues(t, 10, g.getattr(f.node).size)
}

// TestHeadersThatLie (N76, N88b).
func TestHeadersThatLie(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.put(rootID, "f", "x")
	change := func(f func(m []byte)) syscall.Errno {
		m := g.message(opLookup, rootID, text("f"))
		f(m)
		b := g.send(m, maxAnswer)
		return syscall.Errno(-int32(le.Uint32(b[4:])))
	}
	for _, n := range []uint32{0, 1, 39, 43, 1000, 1<<32 - 1} {
		assert.Equal(t, unix.EINVAL, change(func(m []byte) { le.PutUint32(m, n) }), "length %d", n)
	}
	assert.Equal(t, unix.EINVAL, change(func(m []byte) { le.PutUint32(m, 40) }), "no name")
	assert.Zero(t, change(func(m []byte) { le.PutUint64(m[8:], 0) }), "request 0")
	for _, n := range []uint16{1, 8, 0xffff} {
		assert.Equal(t, unix.EOPNOTSUPP, change(func(m []byte) { le.PutUint16(m[36:], n) }), "extensions")
	}
	for _, op := range []uint32{0, 7, 19, 37, 40, 41, 48, 49, 53, 1000, 4096, 1<<32 - 1} {
		assert.Equal(t, unix.ENOSYS, change(func(m []byte) { le.PutUint32(m[4:], op) }), "operation %d", op)
	}
	t.Run("no room for an answer", func(t *testing.T) {
		for room := range outHeaderSize {
			assert.Empty(t, g.send(g.message(opLookup, rootID, text("f")), room))
		}
		for room := outHeaderSize; room < outHeaderSize+entryOutSize; room += 7 {
			b := g.send(g.message(opLookup, rootID, text("f")), room)
			assert.Len(t, b, outHeaderSize)
			assert.EqualValues(t, -int32(unix.EIO), int32(le.Uint32(b[4:])))
		}
	})
	t.Run("too short for its operation", func(t *testing.T) {
		for op := opcode(1); op < 60; op++ {
			for n := range 100 {
				m := g.message(op, rootID, make([]byte, n))
				_, _, _ = g.try(m, maxAnswer)
			}
		}
		g.begin()
		assert.Equal(t, "x", g.cat(g.lookup(rootID, "f").node))
	})
}

// TestBeforeInit serves nothing, nor after the end of a session.
func TestBeforeInit(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Root: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	g := &guest{t: t, s: s}
	assert.Equal(t, unix.EIO, g.failLookup(rootID, "f"))
	g.begin()
	f := g.create(rootID, "f", 0o600)
	g.ok(opDestroy, 0)
	assert.Equal(t, unix.EIO, g.failLookup(rootID, "f"))
	g.begin()
	_, errno := g.call(opRead, f.node, longs(f.fh, 0), words(10, 0), longs(0, 0))
	assert.Equal(t, unix.EBADF, errno, "what was open before is not any more")
	again := g.lookup(rootID, "f")
	assert.NotEqual(t, f.node, again.node, "a node that an old session knew means nothing")
	s.Reset()
	assert.Equal(t, unix.EIO, g.failLookup(rootID, "f"))
}

func TestInit(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	b := g.ok(opInit, 0, words(7, 41, 65536, 1<<32-1, 1<<32-1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	assert.EqualValues(t, 7, le.Uint32(b))
	flags := le.Uint32(b[12:])
	for name, bit := range map[string]uint32{
		"async read": initAsyncRead, "atomic truncation": initAtomicTrunc, "big writes": initBigWrites, "umask": initDontMask, "readdirplus": initReaddirplus,
		"parallel operations on directories": initParallelDirops, "pages": initMaxPages, "privileges": initHandleKillpriv2, "invalidation": initAutoInvalData,
	} {
		assert.NotZero(t, flags&bit, name)
	}
	for name, bit := range map[string]uint32{
		"locks": initPosixLocks | initFlockLocks, "export": 1 << 4, "write-back": 1 << 16, "ACLs": 1 << 20, "submounts": 1 << 27, "longer INIT": 1 << 30, "DAX": 1 << 26,
	} {
		assert.Zero(t, flags&bit, name)
	}
	assert.EqualValues(t, maxIO, le.Uint32(b[20:]))
	assert.EqualValues(t, maxPages, le.Uint16(b[28:]))
	assert.Zero(t, le.Uint32(g.ok(opInit, 0, words(7, 31, 65536, 0))[12:]), "nothing that the guest did not offer")
	b = g.ok(opInit, 0, words(8, 0, 0, 0))
	assert.EqualValues(t, 7, le.Uint32(b), "it may ask again with our version")
	for _, old := range [][]byte{words(7, 27, 0, 0), words(6, 99, 0, 0), words(0, 0, 0, 0)} {
		_, errno := g.call(opInit, 0, old)
		assert.Equal(t, unix.EPROTO, errno)
	}
}

// TestSpecialFilesOfTheHost (N85) are shown, never opened: that could block, or touch a
// device.
func TestSpecialFilesOfTheHost(t *testing.T) {
	t.Parallel()
	for _, stat := range []StatMode{StatStrict, StatOff} {
		g := share(t, func(c *Config) { c.Stat = stat })
		require.NoError(t, unix.Mkfifo(g.host("fifo"), 0o666))
		l, err := net.Listen("unix", g.host("sock"))
		require.NoError(t, err)
		defer l.Close()
		kinds := map[string]uint32{"fifo": unix.S_IFIFO, "sock": unix.S_IFSOCK}
		if unix.Mknod(g.host("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil {
			kinds["null"] = unix.S_IFCHR
			assert.EqualValues(t, unix.Mkdev(1, 3), g.lookup(rootID, "null").rdev)
		}
		for name, kind := range kinds {
			e := g.lookup(rootID, name)
			assert.Equal(t, kind, e.mode&unix.S_IFMT)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_TRUNC} {
					assert.Equal(t, unix.ENXIO, g.failOpen(e.node, flags))
				}
				_, errno := g.call(opCreate, rootID, words(unix.O_RDWR|unix.O_CREAT, 0o644, 0, 0), text(name))
				assert.Equal(t, unix.ENXIO, errno)
				_, errno = g.setattr(e.node, set{valid: setattrSize})
				assert.Equal(t, unix.EINVAL, errno)
				_, errno = g.call(opOpendir, e.node, words(0, 0))
				assert.Equal(t, unix.ENOTDIR, errno)
				_, errno = g.call(opReadlink, e.node)
				assert.Equal(t, unix.EINVAL, errno)
			}()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("the server waits for somebody at the other end")
			}
			require.Zero(t, g.unlink(rootID, name))
		}
	}
}
