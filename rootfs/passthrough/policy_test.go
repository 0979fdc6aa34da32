//go:build linux

package passthrough

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]Config{
		"no root":                     {},
		"NUL":                         {Root: "a\x00b"},
		"climbs":                      {Root: dir + "/../x"},
		"stat mode":                   {Root: dir, Stat: "never"},
		"permissions":                 {Root: dir, Perms: "public"},
		"mirror what is not virtual":  {Root: dir, Stat: StatOff, Perms: PermsMirror},
		"negative quota":              {Root: dir, Quota: -2},
		"negative nodes":              {Root: dir, Nodes: -1},
		"negative timeout":            {Root: dir, Timeout: -1},
		"only a path":                 {Root: dir, Only: "a/b"},
		"only the directory above":    {Root: dir, Only: ".."},
		"only a name that is too big": {Root: dir, Only: strings.Repeat("n", 256)},
	} {
		_, err := New(c)
		assert.ErrorIs(t, err, ErrConfig, name)
	}
}

func TestRoot(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	real := filepath.Join(top, "real")
	require.NoError(t, os.MkdirAll(filepath.Join(real, "deep/er"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(real, "file"), nil, 0o644))
	require.NoError(t, os.Symlink("real", filepath.Join(top, "link")))
	try := func(c Config) error {
		s, err := New(c)
		if err == nil {
			err = s.Close()
		}
		return err
	}
	assert.NoError(t, try(Config{Root: real}))
	assert.NoError(t, try(Config{Root: real + "/deep/./er/"}))
	for _, path := range []string{"link", "link/deep"} {
		err := try(Config{Root: filepath.Join(top, path)})
		assert.ErrorIs(t, err, ErrConfig)
		assert.ErrorContains(t, err, "follow-root-symlinks", "it says what to do")
		assert.NoError(t, try(Config{Root: filepath.Join(top, path), FollowSymlinks: true}))
	}
	assert.ErrorIs(t, try(Config{Root: real + "/file"}), unix.ENOTDIR)
	assert.ErrorIs(t, try(Config{Root: real + "/nothing"}), os.ErrNotExist)
	assert.ErrorIs(t, try(Config{Root: "/proc/self/fd"}), ErrConfig, "a magic link")
	assert.ErrorIs(t, try(Config{Root: "/proc"}), ErrNoAttributes)
	assert.NoError(t, try(Config{Root: "/proc", Stat: StatRelaxed}))
	assert.NoError(t, try(Config{Root: "/proc", Stat: StatOff}))
	xattrs, err := unix.Listxattr(real, make([]byte, 100))
	require.NoError(t, err)
	assert.Zero(t, xattrs, "nothing is left of the probe")
}

// TestReadOnly changes nothing at all, whatever the guest's kernel allows.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for _, stat := range []StatMode{StatStrict, StatRelaxed, StatOff} {
		dir := t.TempDir()
		for _, name := range []string{"f", "g"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644))
		}
		require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
		g := shareDir(t, dir, func(c *Config) { c.ReadOnly, c.Stat = true, stat })
		f, d := g.lookup(rootID, "f"), g.lookup(rootID, "d")
		before := g.hostStat("f")
		fh, _ := g.open(f.node, unix.O_RDONLY)
		assert.Equal(t, "x", g.read(f.node, fh, 0, 10))
		for _, flags := range []uint32{unix.O_WRONLY, unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC, unix.O_RDWR | unix.O_TRUNC} {
			assert.Equal(t, unix.EROFS, g.failOpen(f.node, flags))
		}
		for op := range opcode(60) {
			if !op.changes() {
				continue
			}
			for _, node := range []uint64{f.node, d.node, rootID} {
				_, errno := g.call(op, node, validBody(op, f.node))
				assert.Equal(t, unix.EROFS, errno, "operation %d", op)
			}
		}
		_, errno := g.setattr(f.node, set{valid: setattrMtime | setattrAtime | setattrFH, fh: fh})
		assert.Equal(t, unix.EROFS, errno)
		assert.Equal(t, unix.EROFS, g.write(f.node, fh, 0, "y"))
		_, errno = g.call(opAccess, f.node, words(unix.W_OK, 0))
		assert.Equal(t, unix.EROFS, errno)
		g.ok(opAccess, f.node, words(unix.R_OK, 0))
		g.ok(opFsync, f.node, longs(fh, 0))
		assert.Len(t, g.list(opReaddirplus, rootID, 4096), 3)
		after := g.hostStat("f")
		before.Atim, after.Atim = unix.Timespec{}, unix.Timespec{}
		assert.Equal(t, before, after)
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.uid, g.gid = 1000, 100
	f := g.create(rootID, "f", 0o640)
	for _, c := range []struct {
		uid, gid, mask uint32
		ok             bool
	}{
		{1000, 5, 6, true}, {1000, 5, 1, false}, {5, 100, 4, true}, {5, 100, 2, false}, {5, 5, 4, false}, {5, 5, 0, true},
		{0, 0, 6, true}, {0, 0, 1, false},
	} {
		g.uid, g.gid = c.uid, c.gid
		_, errno := g.call(opAccess, f.node, words(c.mask, 0))
		assert.Equal(t, c.ok, errno == 0, "%+v", c)
	}
	_, errno := g.call(opAccess, f.node, words(8, 0))
	assert.Equal(t, unix.EINVAL, errno)
}

// TestOnly shares one file of a directory.
func TestOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"shown", "hidden"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	require.NoError(t, os.Chmod(dir, 0o711))
	g := shareDir(t, dir, func(c *Config) { c.Only = "shown" })
	f := g.lookup(rootID, "shown")
	fh, _ := g.open(f.node, unix.O_RDWR)
	require.Zero(t, g.write(f.node, fh, 0, "SHOWN"))
	assert.Equal(t, unix.ENOENT, g.failLookup(rootID, "hidden"))
	assert.Equal(t, unix.ENOENT, g.failLookup(rootID, "d"))
	for _, op := range []opcode{opReaddir, opReaddirplus} {
		all := g.list(op, rootID, 4096)
		assert.Len(t, all, 1)
		assert.Contains(t, all, "shown")
	}
	assert.EqualValues(t, unix.S_IFDIR|0o755, g.getattr(rootID).mode, "the host's directory is nobody's business")
	for op := range opcode(60) {
		switch op {
		case opMknod, opMkdir, opSymlink, opUnlink, opRmdir, opRename, opRename2, opCreate, opTmpfile:
			_, errno := g.call(op, rootID, validBody(op, f.node))
			assert.Equal(t, unix.EACCES, errno, "operation %d", op)
		}
	}
	_, errno := g.call(opLink, rootID, longs(f.node), text("new"))
	assert.Equal(t, unix.EACCES, errno)
	for _, name := range []string{"shown", "hidden"} {
		assert.Equal(t, unix.EACCES, g.unlink(rootID, name))
		assert.Equal(t, unix.EACCES, g.rename(rootID, name, rootID, "x", 0))
	}
	_, errno = g.chmod(rootID, 0o777)
	assert.Equal(t, unix.EPERM, errno)
	assert.Equal(t, unix.EOPNOTSUPP, g.setxattr(rootID, "user.x", "y", 0))
	assert.Empty(t, g.ok(opListxattr, rootID, words(100, 0)))
	_, errno = g.chmod(f.node, 0o600)
	assert.Zero(t, errno)
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, list, 3)

	for name, want := range map[string]error{"nothing": os.ErrNotExist, "d": ErrConfig} {
		_, err := New(Config{Root: dir, Only: name})
		assert.ErrorIs(t, err, want, name)
	}
}

// TestOnlyFollowsItsName: the guest sees what the host puts in the place of the file, by
// the node that it has.
func TestOnlyFollowsItsName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("one"), 0o644))
	g := shareDir(t, dir, func(c *Config) { c.Only = "f" })
	f := g.lookup(rootID, "f")
	fh, _ := g.open(f.node, unix.O_RDONLY)
	for i := range 3 {
		content := fmt.Sprintf("version %d", i)
		g.hostFile("f.new", content)
		require.NoError(t, os.Rename(g.host("f.new"), g.host("f")))
		assert.Equal(t, content, g.cat(f.node))
		assert.EqualValues(t, len(content), g.getattr(f.node).size)
		assert.Equal(t, f.node, g.lookup(rootID, "f").node)
	}
	assert.Equal(t, "one", g.read(f.node, fh, 0, 100), "what is open stays what it was")
	require.NoError(t, os.Remove(g.host("f")))
	require.NoError(t, os.Mkdir(g.host("f"), 0o755))
	assert.Equal(t, unix.ESTALE, g.failOpen(f.node, unix.O_RDONLY))
	require.NoError(t, os.Remove(g.host("f")))
	require.NoError(t, os.Symlink("/etc/passwd", g.host("f")))
	assert.Equal(t, unix.ESTALE, g.failOpen(f.node, unix.O_RDONLY))
}

// used is what the quota has charged.
func (g *guest) used() int64 { return g.s.quota.used.Load() }

func (g *guest) later() { // lets the next count be
	g.s.quota.mu.Lock()
	defer g.s.quota.mu.Unlock()
	g.s.quota.next = time.Time{}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old"), make([]byte, 5000), 0o644))
	require.NoError(t, os.Link(filepath.Join(dir, "old"), filepath.Join(dir, "older")))
	g := shareDir(t, dir, func(c *Config) { c.Quota = 10000 })
	old := g.lookup(rootID, "old")
	fh, _ := g.open(old.node, unix.O_RDWR)
	require.Zero(t, g.write(old.node, fh, 0, strings.Repeat("x", 5000)))
	assert.Zero(t, g.used(), "what is there already costs nothing")
	require.Zero(t, g.write(old.node, fh, 4000, strings.Repeat("x", 2000)))
	assert.EqualValues(t, 1000, g.used())
	f := g.create(rootID, "f", 0o600)
	require.Zero(t, g.write(f.node, f.fh, 0, strings.Repeat("y", 8000)))
	assert.EqualValues(t, 9000, g.used())
	assert.Equal(t, unix.ENOSPC, g.write(f.node, f.fh, 8000, strings.Repeat("y", 1001)))
	assert.EqualValues(t, 9000, g.used())
	require.Zero(t, g.write(f.node, f.fh, 8000, strings.Repeat("y", 1000)))
	g.later()
	assert.Equal(t, unix.ENOSPC, g.write(f.node, f.fh, 9000, "y"), "to the byte")

	b := g.ok(opStatfs, rootID)
	assert.EqualValues(t, (5000+10000)/4096, le.Uint64(b))
	assert.Zero(t, le.Uint64(b[8:]))
	assert.EqualValues(t, 4096, le.Uint32(b[40:]))

	for name, grow := range map[string]func() error{
		"truncate": func() error {
			_, errno := g.setattr(f.node, set{valid: setattrSize, size: 9001})
			return errno
		},
		"fallocate": func() error {
			_, errno := g.call(opFallocate, f.node, longs(f.fh, 9000, 1, 0))
			return errno
		},
		"fallocate beyond the end": func() error {
			_, errno := g.call(opFallocate, f.node, longs(f.fh, 9000, 1<<40), words(unix.FALLOC_FL_KEEP_SIZE, 0))
			return errno
		},
		"copy": func() error {
			_, errno := g.call(opCopyFileRange, old.node, longs(fh, 0, f.node, f.fh, 9000, 1, 0))
			return errno
		},
		"append": func() error {
			return g.writeFlags(f.node, f.fh, 0, "y", 0, unix.O_APPEND|unix.O_RDWR)
		},
		"link": func() error {
			_, errno := g.call(opSymlink, rootID, text("l"), text("t"))
			return errno
		},
	} {
		g.later()
		assert.Equal(t, unix.ENOSPC, grow(), name)
	}
	assert.NoFileExists(t, g.host("l"))

	require.Zero(t, g.unlink(rootID, "f"))
	assert.Equal(t, unix.ENOSPC, g.write(old.node, fh, 6000, "z"), "everything was counted a moment ago")
	g.later()
	require.Zero(t, g.write(old.node, fh, 6000, strings.Repeat("z", 9000)), "what was deleted is free again")
	assert.EqualValues(t, 10000, g.used())
	g.later()
	assert.Equal(t, unix.ENOSPC, g.write(old.node, fh, 15000, "z"))
	_, errno := g.setattr(old.node, set{valid: setattrSize})
	require.Zero(t, errno)
	g.later()
	require.Zero(t, g.write(old.node, fh, 0, strings.Repeat("z", 15000)), "the guest may fill what it has emptied, too")
}

// TestFullShare takes no more than it gives back.
func TestFullShare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old"), make([]byte, 5000), 0o644))
	g := shareDir(t, dir, func(c *Config) { c.Quota = NoGrowth })
	b := g.ok(opStatfs, rootID)
	assert.EqualValues(t, 5000/4096, le.Uint64(b))
	assert.Zero(t, le.Uint64(b[8:]))
	f := g.create(rootID, "f", 0o600)
	assert.Equal(t, unix.ENOSPC, g.write(f.node, f.fh, 0, "y"))
	old := g.lookup(rootID, "old")
	fh, _ := g.open(old.node, unix.O_RDWR)
	require.Zero(t, g.write(old.node, fh, 0, strings.Repeat("x", 5000)))
	_, errno := g.setattr(old.node, set{valid: setattrSize, size: 4000})
	require.Zero(t, errno)
	g.later()
	require.Zero(t, g.write(f.node, f.fh, 0, strings.Repeat("y", 1000)))
	g.later()
	assert.Equal(t, unix.ENOSPC, g.write(f.node, f.fh, 1000, "y"))
}

// TestQuotaGivesBack what was not used in the end.
func TestQuotaGivesBack(t *testing.T) {
	t.Parallel()
	g := share(t, func(c *Config) { c.Quota = 1 << 20 })
	f := g.create(rootID, "f", 0o600)
	require.Zero(t, g.write(f.node, f.fh, 0, "0123456789"))
	_, errno := g.call(opCopyFileRange, f.node, longs(f.fh, 5, f.node, f.fh, 10, 1000, 0))
	require.Zero(t, errno)
	assert.EqualValues(t, g.getattr(f.node).size, g.used(), "a copy that found less than it was asked for")
	_, errno = g.call(opFallocate, f.node, longs(f.fh, 0, 0, 0))
	assert.Equal(t, unix.EINVAL, errno)
	assert.EqualValues(t, g.getattr(f.node).size, g.used())
	_, errno = g.call(opSymlink, rootID, text("f"), text("target"))
	assert.Equal(t, unix.EEXIST, errno)
	assert.EqualValues(t, g.getattr(f.node).size, g.used())
}

// TestQuotaCounts everything below the root, however it is spread, or says that it
// cannot.
func TestQuotaCounts(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	path := ""
	for i := range 20 {
		path = filepath.Join(path, fmt.Sprint("d", i))
		g.hostFile(filepath.Join(path, "f"), strings.Repeat("x", 100))
	}
	require.NoError(t, os.Link(g.host("d0/f"), g.host("again")))
	require.NoError(t, os.Symlink("/", g.host("out")))
	n, ok := g.s.countShare()
	assert.True(t, ok)
	assert.EqualValues(t, 2000, n)
	for range maxCountDepth {
		path = filepath.Join(path, "d")
	}
	require.NoError(t, os.MkdirAll(g.host(path), 0o755))
	_, ok = g.s.countShare()
	assert.False(t, ok, "a tree that is too deep to look at")
	only := shareDir(t, g.dir, func(c *Config) { c.Only = "again" })
	n, ok = only.s.countShare()
	assert.True(t, ok)
	assert.EqualValues(t, 100, n)
}

// TestSyncfs asks the host only if something was written.
func TestSyncfs(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	assert.False(t, g.s.dirty.Load())
	g.ok(opSyncfs, rootID, longs(0))
	g.put(rootID, "f", "x")
	assert.True(t, g.s.dirty.Load())
	g.ok(opSyncfs, rootID, longs(0))
	assert.False(t, g.s.dirty.Load())
}

func TestStatx(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.uid = 77
	f := g.put(rootID, "f", "hello")
	b := g.ok(opStatx, f.node, words(0, 0), longs(0), words(0, unix.STATX_BASIC_STATS|unix.STATX_BTIME))
	require.Len(t, b, statxOutSize)
	st := b[32:]
	assert.EqualValues(t, unix.STATX_BASIC_STATS, le.Uint32(st)&unix.STATX_BASIC_STATS)
	assert.EqualValues(t, 77, le.Uint32(st[20:]))
	assert.EqualValues(t, unix.S_IFREG|0o644, le.Uint16(st[28:]))
	assert.Equal(t, f.ino, le.Uint64(st[32:]))
	assert.EqualValues(t, 5, le.Uint64(st[40:]))
	if le.Uint32(st)&unix.STATX_BTIME != 0 {
		assert.WithinDuration(t, time.Now(), time.Unix(int64(le.Uint64(st[80:])), 0), time.Hour)
	}
	assert.Equal(t, f.mtime.Unix(), int64(le.Uint64(st[112:])))
}
