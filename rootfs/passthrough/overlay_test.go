//go:build linux

package passthrough

import (
	"encoding/hex"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const overlayName = "user.msb.override_stat"

func (g *guest) overlay(name string) string {
	g.t.Helper()
	b := make([]byte, 64)
	n, err := unix.Getxattr(g.host(name), overlayName, b)
	if err == unix.ENODATA {
		return ""
	}
	require.NoError(g.t, err)
	return hex.EncodeToString(b[:n])
}

func (g *guest) setHostOverlay(name string, b []byte) {
	g.t.Helper()
	require.NoError(g.t, unix.Setxattr(g.host(name), overlayName, b, 0))
}

// TestOverlayFormat writes and reads the attribute as other releases do.
func TestOverlayFormat(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.uid, g.gid = 1000, 0x01020304
	e := g.put(rootID, "f", "x")
	assert.Equal(t, "01000000e803000004030201a481000000000000", g.overlay("f"))
	assert.EqualValues(t, 1000, e.uid)
	g.mkdir(rootID, "d", 0o1777)
	assert.Equal(t, "01000000e803000004030201ff43000000000000", g.overlay("d"))
	_, errno := g.mknod(rootID, "tty", unix.S_IFCHR|0o620, 0x0401)
	require.Zero(t, errno)
	assert.Equal(t, "01000000e803000004030201902100000104"+"0000", g.overlay("tty"))
	g.hostFile("theirs", "x")
	g.setHostOverlay("theirs", []byte{1, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0xed, 0x89, 0, 0, 0, 0, 0, 0})
	got := g.lookup(rootID, "theirs")
	assert.Equal(t, [3]uint32{5, 6, unix.S_IFREG | 0o4755}, [3]uint32{got.uid, got.gid, got.mode})
	g.setHostOverlay("theirs", []byte{1, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0xed, 1, 0, 0, 0, 0, 0, 0})
	assert.EqualValues(t, unix.S_IFREG|0o755, g.getattr(got.node).mode, "without a type it is the host's")
}

// TestWithoutNewSystemCalls does the same on a kernel that does not have them.
func TestWithoutNewSystemCalls(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.s.xattrAt = false
	g.uid = 7
	e := g.mkdir(rootID, "d", 0o711)
	assert.Equal(t, [2]uint32{7, unix.S_IFDIR | 0o711}, [2]uint32{e.uid, e.mode})
	f := g.put(e.node, "f", "x")
	again := g.lookup(e.node, "f")
	assert.Equal(t, [2]uint32{7, f.mode}, [2]uint32{again.uid, again.mode})
	assert.EqualValues(t, 7, g.list(opReaddirplus, e.node, 4096)["f"].uid)
}

// TestOverlayThatIsDamaged is an error, not a guess.
func TestOverlayThatIsDamaged(t *testing.T) {
	t.Parallel()
	good := []byte{1, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0xed, 0x81, 0, 0, 0, 0, 0, 0}
	with := func(i int, v byte) []byte {
		b := append([]byte(nil), good...)
		b[i] = v
		return b
	}
	for name, c := range map[string]struct {
		value []byte
		dir   bool
	}{
		"empty":                 {[]byte{}, false},
		"short":                 {good[:19], false},
		"long":                  {append(append([]byte(nil), good...), 0), false},
		"far too long":          {make([]byte, 200), false},
		"another version":       {with(0, 2), false},
		"of podman":             {[]byte("0:0:0755"), false},
		"directory for a file":  {with(13, 0x41), false},
		"no type that there is": {with(13, 0xf1), false},
		"file for a directory":  {good, true},
		"link for a directory":  {with(13, 0xa1), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for mode, want := range map[StatMode]syscall.Errno{StatStrict: unix.EIO, StatRelaxed: unix.EIO, StatOff: 0} {
				g := share(t, func(c *Config) { c.Stat = mode })
				if c.dir {
					require.NoError(t, os.Mkdir(g.host("x"), 0o755))
				} else {
					g.hostFile("x", "x")
				}
				g.setHostOverlay("x", c.value)
				assert.Equal(t, want, g.failLookup(rootID, "x"), mode)
				all := g.list(opReaddirplus, rootID, 4096)
				require.Contains(t, all, "x", "it is listed")
				assert.Equal(t, want != 0, all["x"].node == 0, "but the guest has to look it up")
			}
		})
	}
}

func TestChangeOwnerAndMode(t *testing.T) {
	t.Parallel()
	type step struct {
		valid, mode, uid, gid uint32
		want                  [3]uint32 // uid, gid, mode
	}
	const mode, uid, gid, reg = setattrMode, setattrUID, setattrGID, unix.S_IFREG
	for name, steps := range map[string][]step{
		"modes": {
			{mode, 0o4755, 0, 0, [3]uint32{0, 0, reg | 0o4755}},
			{mode, 0, 0, 0, [3]uint32{0, 0, reg}},
			{mode, 0o177777, 0, 0, [3]uint32{0, 0, reg | 0o7777}},
		},
		"owners": {
			{uid, 0, 1000, 7, [3]uint32{1000, 0, reg | 0o644}},
			{gid, 0, 5, 1001, [3]uint32{1000, 1001, reg | 0o644}},
			{uid | gid, 0, 0, 0, [3]uint32{0, 0, reg | 0o644}},
			{uid, 0, 1<<32 - 2, 0, [3]uint32{1<<32 - 2, 0, reg | 0o644}},
		},
		"a new owner has no privileges": {
			{mode, 0o6755, 0, 0, [3]uint32{0, 0, reg | 0o6755}},
			{uid, 0, 5, 0, [3]uint32{5, 0, reg | 0o755}},
			{mode, 0o6745, 0, 0, [3]uint32{5, 0, reg | 0o6745}},
			{gid, 0, 0, 6, [3]uint32{5, 6, reg | 0o2745}},
			{uid | mode, 0o4711, 7, 0, [3]uint32{7, 6, reg | 0o4711}},
		},
		"a cut by a user without privileges": {
			{mode, 0o6755, 0, 0, [3]uint32{0, 0, reg | 0o6755}},
			{setattrSize, 0, 0, 0, [3]uint32{0, 0, reg | 0o6755}},
			{setattrSize | setattrKillPrivs, 0, 0, 0, [3]uint32{0, 0, reg | 0o755}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := share(t, nil)
			e := g.put(rootID, "f", "x")
			for i, s := range steps {
				a, errno := g.setattr(e.node, set{valid: s.valid, mode: s.mode, uid: s.uid, gid: s.gid})
				require.Zero(t, errno)
				assert.Equal(t, s.want, [3]uint32{a.uid, a.gid, a.mode}, i)
				a = g.getattr(e.node)
				assert.Equal(t, s.want, [3]uint32{a.uid, a.gid, a.mode}, i)
				assert.EqualValues(t, 0o600, g.hostStat("f").Mode&0o7777, "the host's is as it was")
			}
		})
	}
}

// TestWriteKillsPrivileges of programs, when the guest says that the writer has none.
func TestWriteKillsPrivileges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, after uint32 }{{0o4755, 0o755}, {0o2755, 0o755}, {0o2745, 0o2745}, {0o6711, 0o711}, {0o755, 0o755}} {
		for _, stat := range []StatMode{StatStrict, StatRelaxed} {
			g := share(t, func(c *Config) { c.Stat = stat })
			e := g.put(rootID, "f", "x")
			mode := func() uint32 { return g.getattr(e.node).mode & 0o7777 }
			fh, _ := g.open(e.node, unix.O_WRONLY)
			_, errno := g.chmod(e.node, c.before)
			require.Zero(t, errno)
			require.Zero(t, g.write(e.node, fh, 0, "y"))
			assert.Equal(t, c.before, mode())
			require.Zero(t, g.writeFlags(e.node, fh, 0, "y", writeKillPrivs, 0))
			assert.Equal(t, c.after, mode())

			_, errno = g.chmod(e.node, c.before)
			require.Zero(t, errno)
			g.ok(opOpen, e.node, words(unix.O_WRONLY|unix.O_TRUNC, 0))
			assert.Equal(t, c.before, mode())
			g.ok(opOpen, e.node, words(unix.O_WRONLY|unix.O_TRUNC, openInKillPrivs))
			assert.Equal(t, c.after, mode())
		}
	}
}

// TestSetGroupIDDirectories hand their group on.
func TestSetGroupIDDirectories(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	d := g.mkdir(rootID, "d", 0o755)
	_, errno := g.setattr(d.node, set{valid: setattrMode | setattrGID, mode: 0o2775, gid: 50})
	require.Zero(t, errno)
	g.uid, g.gid = 1000, 1000
	f, sub := g.put(d.node, "f", ""), g.mkdir(d.node, "sub", 0o700)
	assert.Equal(t, [3]uint32{1000, 50, unix.S_IFREG | 0o644}, [3]uint32{f.uid, f.gid, f.mode})
	assert.Equal(t, [3]uint32{1000, 50, unix.S_IFDIR | 0o2700}, [3]uint32{sub.uid, sub.gid, sub.mode})
	l := g.entry(opSymlink, d.node, text("l"), text("x"))
	assert.EqualValues(t, 50, l.gid)
	fresh := shareDir(t, g.dir, nil)
	again := fresh.put(fresh.lookup(rootID, "d").node, "g", "")
	assert.EqualValues(t, 50, again.gid, "another server knows it, too")
	_, errno = g.chmod(d.node, 0o775)
	require.Zero(t, errno)
	assert.EqualValues(t, 1000, g.put(d.node, "h", "").gid)
}

func TestUmask(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	assert.EqualValues(t, unix.S_IFREG|0o640, g.entry(opCreate, rootID, words(unix.O_RDWR, unix.S_IFREG|0o666, 0o027, 0), text("f")).mode)
	assert.EqualValues(t, unix.S_IFDIR|0o750, g.entry(opMkdir, rootID, words(0o777, 0o027), text("d")).mode)
	assert.EqualValues(t, unix.S_IFIFO|0o640, g.entry(opMknod, rootID, words(unix.S_IFIFO|0o666, 0, 0o027, 0), text("p")).mode)
}

// TestHostPermissions of files that the guest makes and changes.
func TestHostPermissions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stat                       StatMode
		perms                      PermMode
		file, dir, changed, opened uint32
	}{
		"private":         {StatStrict, PermsPrivate, 0o600, 0o700, 0o600, 0o700},
		"mirror":          {StatStrict, PermsMirror, 0o664, 0o755, 0o655, 0o705},
		"relaxed private": {StatRelaxed, PermsPrivate, 0o600, 0o700, 0o600, 0o700},
		"relaxed mirror":  {StatRelaxed, PermsMirror, 0o664, 0o755, 0o655, 0o705},
		"off":             {StatOff, PermsPrivate, 0o664, 0o755, 0o655, 0o705},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := share(t, func(cfg *Config) { cfg.Stat, cfg.Perms = c.stat, c.perms })
			f, d := g.create(rootID, "f", 0o664), g.mkdir(rootID, "d", 0o755)
			assert.Equal(t, c.file, g.hostStat("f").Mode&0o7777)
			assert.Equal(t, c.dir, g.hostStat("d").Mode&0o7777)
			_, errno := g.chmod(f.node, 0o6055)
			require.Zero(t, errno)
			_, errno = g.chmod(d.node, 0o005)
			require.Zero(t, errno)
			assert.Equal(t, c.changed, g.hostStat("f").Mode&0o7777, "never more than the guest said, never less than the server needs, and no privileges")
			assert.Equal(t, c.opened, g.hostStat("d").Mode&0o7777)
			g.put(d.node, "inside", "the server still can")
		})
	}
}

func TestStatOff(t *testing.T) {
	t.Parallel()
	g := share(t, func(c *Config) { c.Stat = StatOff })
	g.uid, g.gid = 1000, 1000
	e := g.put(rootID, "f", "x")
	assert.EqualValues(t, os.Geteuid(), e.uid, "files belong to whom they belong")
	assert.Empty(t, g.overlay("f"))
	_, errno := g.chown(e.node, 1000, 1000)
	assert.Equal(t, unix.EPERM, errno)
	_, errno = g.chown(e.node, uint32(os.Geteuid()), uint32(os.Getegid()))
	assert.Zero(t, errno, "nothing changes")
	for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK} {
		_, errno = g.mknod(rootID, "x", kind|0o600, 0)
		assert.Equal(t, unix.EOPNOTSUPP, errno)
	}
	_, errno = g.mknod(rootID, "x", unix.S_IFREG|0o600, 0)
	assert.Zero(t, errno)
	for name, d := range g.list(opReaddir, rootID, 4096) {
		assert.EqualValues(t, unix.DT_REG, d.kind, name)
	}
}

// TestSpecialFiles are special for the guest only (N88).
func TestSpecialFiles(t *testing.T) {
	t.Parallel()
	for _, stat := range []StatMode{StatStrict, StatRelaxed} {
		g := share(t, func(c *Config) { c.Stat = stat })
		for name, kind := range map[string]uint32{"chr": unix.S_IFCHR, "blk": unix.S_IFBLK, "fifo": unix.S_IFIFO, "sock": unix.S_IFSOCK} {
			rdev := uint32(unix.Mkdev(8, 1))
			b, errno := g.mknod(rootID, name, kind|0o660, rdev)
			require.Zero(t, errno)
			e := parseEntry(b)
			if kind == unix.S_IFIFO || kind == unix.S_IFSOCK {
				rdev = 0
			}
			assert.Equal(t, [2]uint32{kind | 0o660, rdev}, [2]uint32{e.mode, e.rdev})
			e = g.lookup(rootID, name)
			assert.Equal(t, [2]uint32{kind | 0o660, rdev}, [2]uint32{e.mode, e.rdev})
			assert.EqualValues(t, unix.S_IFREG|0o600, g.hostStat(name).Mode)
			assert.EqualValues(t, kind>>12, g.list(opReaddirplus, rootID, 4096)[name].kind)
			assert.EqualValues(t, unix.DT_UNKNOWN, g.list(opReaddir, rootID, 4096)[name].kind)
		}
		for _, kind := range []uint32{0, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFMT} {
			_, errno := g.mknod(rootID, "x", kind|0o600, 0)
			assert.Equal(t, unix.EINVAL, errno)
		}
	}
}

// TestOwnersOfHostFiles maps the user of this process to the guest's, and all others to
// nobody, unless a file says otherwise.
func TestOwnersOfHostFiles(t *testing.T) {
	t.Parallel()
	g := share(t, func(c *Config) { c.MapOwner = true })
	g.hostFile("mine", "x")
	g.hostFile("said", "x")
	g.setHostOverlay("said", []byte{1, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0xa4, 0x81, 0, 0, 0, 0, 0, 0})
	e := g.lookup(rootID, "mine")
	assert.Zero(t, e.attrValid, "not for long")
	g.s.SetOwner(Owner{UID: 1234, GID: 5678})
	e = g.lookup(rootID, "mine")
	assert.Equal(t, DefaultTimeout, e.attrValid)
	assert.Equal(t, [2]uint32{1234, 5678}, [2]uint32{e.uid, e.gid})
	said := g.lookup(rootID, "said")
	assert.Equal(t, [2]uint32{9, 8}, [2]uint32{said.uid, said.gid})
	a, errno := g.chmod(e.node, 0o600)
	require.Zero(t, errno)
	assert.Equal(t, [2]uint32{1234, 5678}, [2]uint32{a.uid, a.gid}, "what is stored is what the guest saw")
	g.s.hostUID++ // now it is somebody else's
	g.hostFile("other", "x")
	o := g.lookup(rootID, "other")
	assert.Equal(t, [2]uint32{nobody, nobody}, [2]uint32{o.uid, o.gid})
	assert.Equal(t, [2]uint32{1234, 5678}, [2]uint32{g.lookup(rootID, "mine").uid, g.lookup(rootID, "mine").gid})

	off := shareDir(t, g.dir, func(c *Config) { c.MapOwner, c.Stat, c.Owner = true, StatOff, &Owner{UID: 1, GID: 1} })
	assert.EqualValues(t, os.Geteuid(), off.lookup(rootID, "other").uid)
}

// TestReadOnlyHostFile can have its owner changed although its own user may not write it.
func TestReadOnlyHostFile(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	g.hostFile("f", "x")
	require.NoError(t, os.Chmod(g.host("f"), 0o444))
	e := g.lookup(rootID, "f")
	a, errno := g.chown(e.node, 5, 6)
	require.Zero(t, errno)
	assert.Equal(t, [3]uint32{5, 6, unix.S_IFREG | 0o444}, [3]uint32{a.uid, a.gid, a.mode})
	assert.EqualValues(t, 0o444, g.hostStat("f").Mode&0o7777)
}

// TestHostLinks are links for the guest, whose owner is nobody's business.
func TestHostLinks(t *testing.T) {
	t.Parallel()
	for _, stat := range []StatMode{StatStrict, StatRelaxed} {
		g := share(t, func(c *Config) { c.Stat = stat })
		require.NoError(t, os.Symlink("/etc/passwd", g.host("l")))
		l := g.lookup(rootID, "l")
		assert.EqualValues(t, unix.S_IFLNK|0o777, l.mode)
		assert.Equal(t, "/etc/passwd", string(g.ok(opReadlink, l.node)))
		assert.Equal(t, unix.ELOOP, g.failOpen(l.node, unix.O_RDONLY))
		_, errno := g.chown(l.node, 5, 5)
		assert.Zero(t, errno)
		assert.EqualValues(t, os.Geteuid(), g.getattr(l.node).uid)
		_, errno = g.call(opGetxattr, l.node, words(100, 0), text("user.x"))
		assert.Equal(t, unix.ENODATA, errno)
	}
}
