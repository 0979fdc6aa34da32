//go:build linux

package passthrough

import (
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// restored is a copy of the guest on another server of the same directory.
func (g *guest) restored(change func(*Config)) *guest {
	g.t.Helper()
	state, err := g.s.SaveState()
	require.NoError(g.t, err)
	cfg := Config{Root: g.dir}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	require.NoError(g.t, err)
	g.t.Cleanup(func() { require.NoError(g.t, s.Close()) })
	require.NoError(g.t, s.RestoreState(state))
	c := &guest{t: g.t, s: s, dir: g.dir}
	c.unique.Store(g.unique.Load())
	return c
}

func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	conf := func(c *Config) { c.Quota, c.MapOwner = 1<<20, true }
	g := share(t, conf)
	g.s.SetOwner(Owner{UID: 5, GID: 6})
	d := g.mkdir(g.mkdir(rootID, "a", 0o755).node, "b", 0o755)
	f := g.create(d.node, "f", 0o4755)
	require.Zero(t, g.write(f.node, f.fh, 0, "content"))
	ro, _ := g.open(f.node, unix.O_RDONLY)
	dir := g.opendir(rootID)
	list := g.readdir(opReaddir, rootID, dir, 0, 64)
	l := g.entry(opSymlink, d.node, text("l"), text("f"))
	lost := g.create(d.node, "lost", 0o600)
	require.Zero(t, g.unlink(d.node, "lost"))
	moved := g.put(rootID, "moved", "x")
	require.NoError(t, os.Rename(g.host("moved"), g.host("away")))
	g.hostFile("moved", "another one")

	c := g.restored(conf)
	for _, g := range []*guest{c, g} { // and both go on
		assert.Equal(t, "content", g.read(f.node, f.fh, 0, 100))
		assert.Equal(t, "content", g.read(f.node, ro, 0, 100))
		assert.Equal(t, unix.EBADF, g.write(f.node, ro, 0, "x"))
		require.Zero(t, g.write(f.node, f.fh, 0, "CONTENT"))
		assert.EqualValues(t, unix.S_IFREG|0o4755, g.getattr(f.node).mode)
		assert.Equal(t, f.node, g.lookup(d.node, "f").node)
		assert.Equal(t, "f", string(g.ok(opReadlink, l.node)))
		rest := g.readdir(opReaddir, rootID, dir, list[len(list)-1].off, 4096)
		assert.NotEmpty(t, rest)
		assert.NotEqual(t, list[0].name, rest[0].name, "where the listing was")
		g.hostFile("mine", "x")
		e := g.lookup(rootID, "mine")
		assert.EqualValues(t, 5, e.uid)
		g.forget(e.node, 1)
		require.Zero(t, g.write(f.node, f.fh, 0, "content"))
	}
	assert.Equal(t, g.used(), c.used())
	_, errno := c.call(opGetattr, lost.node, words(0, 0), longs(0))
	assert.Equal(t, unix.ESTALE, errno, "what had no name any more is lost")
	_, errno = c.call(opRead, lost.node, longs(lost.fh, 0), words(10, 0), longs(0, 0))
	assert.Equal(t, unix.EBADF, errno)
	_, errno = c.call(opGetattr, moved.node, words(0, 0), longs(0))
	assert.Equal(t, unix.ESTALE, errno, "it is not what was there")
	assert.NotEqual(t, moved.node, c.lookup(rootID, "moved").node)
	assert.Equal(t, moved.node, c.lookup(rootID, "away").node)
	fresh := c.create(rootID, "fresh", 0o600)
	assert.Greater(t, fresh.node, moved.node, "numbers go on")
	assert.Greater(t, fresh.fh, lost.fh)
}

// In an overlay, the device of a file need not be that of its directory.
func TestSaveFilesOfOtherDevices(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	f, d := g.create(rootID, "f", 0o644), g.mkdir(rootID, "d", 0o755)
	table := &g.s.table
	n := table.byID[f.node]
	delete(table.byFile, n.file)
	n.file.dev += 12345
	table.byFile[n.file] = n
	c := g.restored(nil)
	assert.Equal(t, n.file, c.s.table.byID[f.node].file)
	assert.Equal(t, table.root.file.dev, c.s.table.byID[d.node].file.dev)
}

func TestSaveWithoutASession(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Root: t.TempDir()})
	require.NoError(t, err)
	g := &guest{t: t, s: s, dir: s.cfg.Root}
	c := g.restored(nil)
	assert.Equal(t, unix.EIO, c.failLookup(rootID, "x"))
	require.NoError(t, s.Close())
}

func TestSaveWithLocks(t *testing.T) {
	t.Parallel()
	g := share(t, locking)
	f := g.create(rootID, "f", 0o600)
	errno, _, _ := g.lk(lk{opSetlk, f.node, f.fh, 1, 0, 9, unix.F_WRLCK, false})
	require.Zero(t, errno)
	_, err := g.s.SaveState()
	assert.ErrorIs(t, err, ErrLocks)
}

// TestRestoreRefuses what cannot be, and is as good as new afterwards.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	g := share(t, nil)
	d := g.mkdir(rootID, "d", 0o755)
	f := g.create(d.node, "f", 0o644)
	good, err := g.s.SaveState()
	require.NoError(t, err)
	fresh := share(t, nil)
	for n := range len(good) {
		require.ErrorIs(t, fresh.s.RestoreState(good[:n]), ErrState, "%d bytes", n)
	}
	assert.ErrorIs(t, fresh.s.RestoreState(append(good[:len(good):len(good)], 0)), ErrState)
	change := func(off int, v ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[off:], v)
		return b
	}
	const nodes = 8 + 4*8 + 8
	for name, b := range map[string][]byte{
		"version":         change(0, 1),
		"flags":           change(4, 0xff),
		"next node":       change(8, 0, 0, 0, 0, 0, 0, 0, 0),
		"next handle":     change(16, 0, 0, 0, 0, 0, 0, 0, 0),
		"negative quota":  change(31, 0x80),
		"count of nodes":  change(nodes, 0xff, 0xff, 0xff, 0xff),
		"the root":        change(nodes+4, 1),
		"unknown parent":  change(nodes+12, 99),
		"own parent":      change(nodes+12, good[nodes+4]),
		"number too high": change(nodes+4, 0xff, 0xff),
		"name with slash": change(nodes+4+stateNode, '/'),
		"name with NUL":   change(nodes+4+stateNode, 0),
		"name is a dot":   change(nodes+4+stateNode, '.'),
	} {
		assert.ErrorIs(t, fresh.s.RestoreState(b), ErrState, name)
	}
	n, _, _ := fresh.stats()
	assert.Equal(t, 1, n)
	fresh.begin()
	fresh.put(rootID, "works", "x")

	// A state of another directory finds nothing of what it knew, and nothing else.
	require.NoError(t, fresh.s.RestoreState(good))
	assert.Equal(t, unix.ESTALE, fresh.failLookup(d.node, "f"))
	_, errno := fresh.call(opRead, f.node, longs(f.fh, 0), words(10, 0), longs(0, 0))
	assert.Equal(t, unix.EBADF, errno)
	fresh.forget(d.node, math.MaxUint64)
}
