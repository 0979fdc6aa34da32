//go:build linux

package passthrough

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestFiles makes, reads, changes and removes a file.
func TestFiles(t *testing.T) {
	t.Parallel()
	for _, mode := range []StatMode{StatStrict, StatRelaxed, StatOff} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			g := share(t, func(c *Config) { c.Stat = mode })
			assert.Equal(t, unix.ENOENT, g.failLookup(rootID, "a"))
			e := g.create(rootID, "a", 0o640)
			assert.EqualValues(t, unix.S_IFREG|0o640, e.mode)
			assert.EqualValues(t, 1, e.nlink)
			assert.Equal(t, DefaultTimeout, e.entryValid)
			assert.Equal(t, DefaultTimeout, e.attrValid)
			require.Zero(t, g.write(e.node, e.fh, 0, "hello world"))
			require.Zero(t, g.write(e.node, e.fh, 6, "there"))
			assert.Equal(t, "hello there", g.read(e.node, e.fh, 0, 100))
			assert.Equal(t, "there", g.read(e.node, e.fh, 6, 5))
			assert.Empty(t, g.read(e.node, e.fh, 100, 5))
			g.release(e.node, e.fh)
			b, err := os.ReadFile(g.host("a"))
			require.NoError(t, err)
			assert.Equal(t, "hello there", string(b))
			again := g.lookup(rootID, "a")
			assert.Equal(t, e.node, again.node)
			assert.EqualValues(t, 11, again.size)
			assert.Equal(t, "hello there", g.cat(e.node))
			a, errno := g.setattr(e.node, set{valid: setattrSize, size: 5})
			require.Zero(t, errno)
			assert.EqualValues(t, 5, a.size)
			assert.Equal(t, "hello", g.cat(e.node))
			at, mt := time.Unix(1000, 5), time.Unix(-2000, 6)
			a, errno = g.setattr(e.node, set{valid: setattrAtime | setattrMtime, atime: at, mtime: mt})
			require.Zero(t, errno)
			assert.True(t, at.Equal(a.atime))
			assert.True(t, mt.Equal(a.mtime))
			require.Zero(t, g.unlink(rootID, "a"))
			assert.Equal(t, unix.ENOENT, g.failLookup(rootID, "a"))
			assert.EqualValues(t, 0, g.getattr(e.node).nlink, "the guest may still use it")
			g.forget(e.node, 2)
			_, errno = g.call(opGetattr, e.node, words(0, 0), longs(0))
			assert.Equal(t, unix.ESTALE, errno)
		})
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	for _, mode := range []StatMode{StatStrict, StatRelaxed, StatOff} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			g := share(t, func(c *Config) { c.Stat = mode })
			d := g.mkdir(rootID, "d", 0o750)
			assert.EqualValues(t, unix.S_IFDIR|0o750, d.mode)
			e := g.put(d.node, "f", "x")
			_, errno := g.call(opMkdir, rootID, words(0o755, 0), text("d"))
			assert.Equal(t, unix.EEXIST, errno)
			_, errno = g.call(opRmdir, rootID, text("d"))
			assert.Equal(t, unix.ENOTEMPTY, errno)
			assert.Equal(t, unix.ENOTDIR, g.failLookup(e.node, "x"))
			_, errno = g.call(opRmdir, d.node, text("f"))
			assert.Equal(t, unix.ENOTDIR, errno)
			assert.Equal(t, unix.EISDIR, g.unlink(rootID, "d"))
			require.Zero(t, g.unlink(d.node, "f"))
			g.ok(opRmdir, rootID, text("d"))
			_, err := os.Lstat(g.host("d"))
			assert.ErrorIs(t, err, os.ErrNotExist)
			assert.Equal(t, unix.ENOENT, g.failLookup(d.node, "x"), "a directory that is gone has nothing")
		})
	}
}

func TestReaddir(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	want := map[string]bool{}
	for i := range 700 {
		name := strings.Repeat("n", i%200) + "-" + string(rune('a'+i%26)) + strings.Repeat("x", i/26%40)
		if want[name] {
			continue
		}
		want[name] = true
		if i%3 == 0 {
			g.mkdir(rootID, name, 0o700)
		} else {
			g.put(rootID, name, "y")
		}
	}
	for _, op := range []opcode{opReaddir, opReaddirplus} {
		for _, n := range []uint32{512, 4096, 65536} {
			got := g.list(op, rootID, n)
			require.Len(t, got, len(want))
			for name, d := range got {
				require.True(t, want[name])
				if op == opReaddirplus {
					require.Equal(t, d.kind, d.mode>>12)
					require.Equal(t, d.ino, d.attr.ino)
					require.NotZero(t, d.node)
				}
			}
		}
	}
	t.Run("offsets stay good", func(t *testing.T) {
		fh := g.opendir(rootID)
		all := []dirent{}
		for off := uint64(0); ; off = all[len(all)-1].off {
			part := g.readdir(opReaddir, rootID, fh, off, 1024)
			if len(part) == 0 {
				break
			}
			all = append(all, part...)
		}
		for _, i := range []int{100, 3, 400, 0, len(all) - 2} {
			part := g.readdir(opReaddir, rootID, fh, all[i].off, 1024)
			require.Equal(t, all[i+1].name, part[0].name)
		}
		require.Equal(t, all[0].name, g.readdir(opReaddir, rootID, fh, 0, 1024)[0].name)
		g.releasedir(rootID, fh)
	})
	t.Run("no room for one entry", func(t *testing.T) {
		fh := g.opendir(rootID)
		_, errno := g.call(opReaddir, rootID, longs(fh, 0), words(16, 0), longs(0), words(0, 0))
		assert.Equal(t, unix.EINVAL, errno)
		g.releasedir(rootID, fh)
	})
}

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, mode := range []StatMode{StatStrict, StatRelaxed, StatOff} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			g := share(t, func(c *Config) { c.Stat = mode })
			const target = "../../etc/passwd"
			l := g.entry(opSymlink, rootID, text("l"), text(target))
			assert.EqualValues(t, unix.S_IFLNK|0o777, l.mode)
			assert.Equal(t, target, string(g.ok(opReadlink, l.node)))
			assert.EqualValues(t, len(target), l.size)
			assert.Equal(t, mode == StatStrict, g.hostStat("l").Mode&unix.S_IFMT == unix.S_IFREG)
			_, errno := g.call(opSymlink, rootID, text("l"), text("x"))
			assert.Equal(t, unix.EEXIST, errno)
			_, errno = g.call(opSymlink, rootID, text("m"), text(""))
			assert.Equal(t, unix.ENOENT, errno)
			long := strings.Repeat("t", maxTarget)
			assert.Equal(t, long, string(g.ok(opReadlink, g.entry(opSymlink, rootID, text("n"), text(long)).node)))

			f := g.put(rootID, "f", "content")
			h := g.entry(opLink, rootID, longs(f.node), text("h"))
			assert.Equal(t, f.node, h.node)
			assert.EqualValues(t, 2, h.nlink)
			require.Zero(t, g.unlink(rootID, "f"))
			assert.Equal(t, "content", g.cat(h.node), "by its other name")
			require.Zero(t, g.unlink(rootID, "h"))
			_, errno = g.call(opReadlink, h.node)
			assert.Equal(t, unix.EINVAL, errno)
		})
	}
}

func TestRename(t *testing.T) {
	t.Parallel()
	for _, mode := range []StatMode{StatStrict, StatRelaxed, StatOff} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			g := share(t, func(c *Config) { c.Stat = mode })
			a, d := g.put(rootID, "a", "A"), g.mkdir(rootID, "d", 0o755)
			b := g.put(d.node, "b", "B")
			require.Zero(t, g.rename(rootID, "a", d.node, "a2", 0))
			assert.Equal(t, "A", g.cat(a.node), "a node follows its file")
			assert.Equal(t, unix.EEXIST, g.rename(d.node, "a2", d.node, "b", renameNoReplace))
			require.Zero(t, g.rename(d.node, "a2", d.node, "b", renameExchange))
			assert.Equal(t, "A", g.cat(g.lookup(d.node, "b").node))
			assert.Equal(t, "A", g.cat(a.node))
			assert.Equal(t, "B", g.cat(b.node))
			require.Zero(t, g.rename(d.node, "b", d.node, "a2", 0))
			assert.Equal(t, "A", g.cat(a.node))
			assert.Equal(t, "B", g.cat(b.node), "what was replaced is still there for the guest")
			assert.Equal(t, unix.ENOENT, g.failLookup(d.node, "b"))
			assert.Equal(t, unix.EINVAL, g.rename(rootID, "d", d.node, "x", 0))
			assert.Equal(t, unix.ENOENT, g.rename(rootID, "nothing", rootID, "x", 0))
			assert.Equal(t, unix.EINVAL, g.rename(rootID, "d", rootID, "e", 8))
			assert.Equal(t, unix.EINVAL, g.rename(rootID, "d", rootID, "e", renameExchange|renameNoReplace))
			require.Zero(t, g.rename(rootID, "d", rootID, "e", 0))
			assert.Equal(t, "A", g.cat(g.lookup(d.node, "a2").node))
			g.ok(opRename, rootID, longs(rootID), text("e"), text("d"))
			assert.Equal(t, d.node, g.lookup(rootID, "d").node)

			errno := g.rename(d.node, "a2", rootID, "moved", renameWhiteout)
			if mode == StatOff {
				assert.Equal(t, unix.EINVAL, errno)
				return
			}
			require.Zero(t, errno)
			w := g.lookup(d.node, "a2")
			assert.EqualValues(t, unix.S_IFCHR, w.mode)
			assert.Zero(t, w.rdev)
			assert.Equal(t, "A", g.cat(a.node))
			assert.Len(t, g.list(opReaddirplus, d.node, 4096), 1)
		})
	}
}

func TestIO(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f, dst := g.create(rootID, "f", 0o600), g.create(rootID, "dst", 0o600)
	require.Zero(t, g.write(f.node, f.fh, 1<<20, "data"))
	seek := func(off uint64, whence uint32) uint64 {
		return le.Uint64(g.ok(opLseek, f.node, longs(f.fh, off), words(whence, 0)))
	}
	assert.EqualValues(t, 1<<20, seek(0, unix.SEEK_DATA))
	assert.EqualValues(t, 0, seek(0, unix.SEEK_HOLE))
	_, errno := g.call(opLseek, f.node, longs(f.fh, 1<<21), words(unix.SEEK_DATA, 0))
	assert.Equal(t, unix.ENXIO, errno)
	_, errno = g.call(opLseek, f.node, longs(f.fh, 0), words(unix.SEEK_END, 0))
	assert.Equal(t, unix.EINVAL, errno)

	b := g.ok(opCopyFileRange, f.node, longs(f.fh, 1<<20, dst.node, dst.fh, 3, 100, 0))
	assert.EqualValues(t, 4, le.Uint32(b))
	assert.Equal(t, "\x00\x00\x00data", g.read(dst.node, dst.fh, 0, 10))

	fallocate := func(off, n uint64, mode uint32) syscall.Errno {
		_, errno := g.call(opFallocate, f.node, longs(f.fh, off, n), words(mode, 0))
		return errno
	}
	require.Zero(t, fallocate(0, 2<<20, 0))
	assert.EqualValues(t, 2<<20, g.getattr(f.node).size)
	require.Zero(t, fallocate(0, 4<<20, unix.FALLOC_FL_KEEP_SIZE))
	assert.EqualValues(t, 2<<20, g.getattr(f.node).size)
	require.Zero(t, fallocate(1<<20, 4096, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE))
	assert.Equal(t, "\x00\x00\x00\x00", g.read(f.node, f.fh, 1<<20, 4))
	assert.Equal(t, unix.EOPNOTSUPP, fallocate(0, 4096, unix.FALLOC_FL_COLLAPSE_RANGE))
	assert.Equal(t, unix.EFBIG, fallocate(1<<63-1, 4096, 0))

	for _, only := range []uint32{0, fsyncDataOnly} {
		g.ok(opFsync, f.node, longs(f.fh), words(only, 0))
	}
	d := g.opendir(rootID)
	g.ok(opFsyncdir, rootID, longs(d), words(0, 0))
	g.ok(opSyncfs, rootID, longs(0))
	_, errno = g.call(opIoctl, f.node, longs(f.fh), words(0, 0), longs(0), words(0, 0))
	assert.Equal(t, unix.ENOTTY, errno)
	_, errno = g.call(opFlush, f.node, longs(f.fh), words(0, 0), longs(0))
	assert.Equal(t, unix.ENOSYS, errno, "the guest need not ask at each close")
}

// TestImpatientReads give the same as patient ones, whether the host has the data at hand
// or not.
func TestImpatientReads(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.impatient = true
	content := strings.Repeat("0123456789", 30000)
	g.hostFile("f", content)
	f := g.lookup(rootID, "f")
	fh, _ := g.open(f.node, unix.O_RDONLY)
	file, err := os.Open(g.host("f"))
	require.NoError(t, err)
	defer file.Close()
	for range 3 {
		require.NoError(t, file.Sync())
		require.NoError(t, unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)) // out of the cache
		for _, c := range [][2]int{{0, 10}, {4000, 60000}, {250000, 65536}, {299990, 100}, {300000, 10}, {400000, 10}, {0, 65536}} {
			off := min(c[0], len(content))
			want := content[off:min(off+c[1], len(content))]
			assert.Equal(t, want, g.read(f.node, fh, uint64(c[0]), uint32(c[1])))
		}
	}
	w := g.create(rootID, "w", 0o600)
	assert.EqualValues(t, "", g.read(w.node, w.fh, 0, 100))
	require.Zero(t, g.write(w.node, w.fh, 0, "x"))
	assert.Equal(t, "x", g.read(w.node, w.fh, 0, 100))
}

func TestAppend(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f := g.put(rootID, "log", "one\n")
	fh, _ := g.open(f.node, unix.O_WRONLY|unix.O_APPEND)
	h, err := os.OpenFile(g.host("log"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer h.Close()
	_, err = h.WriteString("host\n")
	require.NoError(t, err)
	require.Zero(t, g.writeFlags(f.node, fh, 4, "two\n", 0, unix.O_WRONLY|unix.O_APPEND), "the guest does not know of the host's line yet")
	require.Zero(t, g.writeFlags(f.node, fh, 0, "ONE", writeCache, unix.O_WRONLY|unix.O_APPEND))
	assert.Equal(t, "ONE\nhost\ntwo\n", g.cat(f.node), "what the page cache writes back has its place")
}

// TestOpenAfterUnlink uses a file that has no name any more in all ways.
func TestOpenAfterUnlink(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f := g.create(rootID, "f", 0o600)
	require.Zero(t, g.write(f.node, f.fh, 0, "still here"))
	require.Zero(t, g.unlink(rootID, "f"))
	assert.Equal(t, "still here", g.read(f.node, f.fh, 0, 100))
	assert.Equal(t, "still here", g.cat(f.node), "opened again, as by /proc/self/fd")
	a, errno := g.chmod(f.node, 0o4711)
	require.Zero(t, errno)
	assert.EqualValues(t, unix.S_IFREG|0o4711, a.mode)
	assert.Zero(t, a.nlink)
	a, errno = g.setattr(f.node, set{valid: setattrSize | setattrFH, fh: f.fh, size: 5})
	require.Zero(t, errno)
	assert.EqualValues(t, 5, a.size)
	g.release(f.node, f.fh)
	g.forget(f.node, 1)
	assert.Equal(t, unix.ESTALE, g.failOpen(f.node, unix.O_RDONLY))
}

func TestTmpfile(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	e := g.entry(opTmpfile, rootID, words(unix.O_RDWR, unix.S_IFREG|0o644, 0o022, 0), text("/"))
	assert.EqualValues(t, unix.S_IFREG|0o644, e.mode)
	assert.Zero(t, e.nlink)
	require.Zero(t, g.write(e.node, e.fh, 0, "nameless"))
	assert.Empty(t, g.list(opReaddir, rootID, 4096))
	l := g.entry(opLink, rootID, longs(e.node), text("named"))
	assert.Equal(t, e.node, l.node)
	assert.Equal(t, "nameless", g.cat(g.lookup(rootID, "named").node))
	_, errno := g.call(opTmpfile, rootID, words(unix.O_RDONLY, 0o644, 0, 0), text("/"))
	assert.Equal(t, unix.EINVAL, errno)
}

// TestKeepCache lets the guest keep what it has read of a file, until that changes.
func TestKeepCache(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.hostFile("f", "one")
	f := g.lookup(rootID, "f")
	flags := func() uint32 {
		fh, out := g.open(f.node, unix.O_RDONLY)
		g.release(f.node, fh)
		return out
	}
	assert.Zero(t, flags(), "the first time")
	assert.Zero(t, flags(), "it may be changing right now")
	time.Sleep(2 * settled)
	assert.Zero(t, flags(), "the first time that it is known not to be")
	assert.EqualValues(t, openKeepCache, flags())
	assert.EqualValues(t, openKeepCache, flags())
	g.hostFile("f", "two")
	assert.Zero(t, flags())
	time.Sleep(2 * settled)
	assert.Zero(t, flags())
	assert.EqualValues(t, openKeepCache, flags())
	now := time.Now()
	require.NoError(t, os.WriteFile(g.host("f"), []byte("6by"), 0o644))
	require.NoError(t, os.Chtimes(g.host("f"), now, now.Add(-time.Hour)))
	assert.Zero(t, flags(), "the time of the change cannot be forged")
}
