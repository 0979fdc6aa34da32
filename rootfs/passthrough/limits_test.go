//go:build linux

package passthrough

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stats counts what a session has.
func (g *guest) stats() (nodes, open, handles int) {
	t := &g.s.table
	t.lock()
	defer t.unlock()
	for _, n := range t.byID {
		if n.fd >= 0 {
			open++
		}
	}
	return len(t.byID), open, len(t.byHandle)
}

// TestNodesAreBounded (N87).
func TestNodesAreBounded(t *testing.T) {
	t.Parallel()
	g := share(t, func(c *Config) { c.Nodes = 10 })
	for i := range 20 {
		g.hostFile(fmt.Sprint(i), "x")
	}
	var known []entry
	for i := range 9 {
		known = append(known, g.lookup(rootID, fmt.Sprint(i)))
	}
	assert.Equal(t, unix.ENFILE, g.failLookup(rootID, "10"))
	_, errno := g.call(opCreate, rootID, words(unix.O_RDWR, 0o644, 0, 0), text("new"))
	assert.Equal(t, unix.ENFILE, errno)
	assert.NoFileExists(t, g.host("new"), "nothing is left of it")
	assert.Len(t, g.list(opReaddirplus, rootID, 65536), 20, "all are listed")
	assert.Equal(t, known[3].node, g.lookup(rootID, "3").node)
	g.forget(known[0].node, 1000)
	g.forget(known[1].node, 1000)
	g.lookup(rootID, "10")
	nodes, _, _ := g.stats()
	assert.LessOrEqual(t, nodes, 10)
}

// TestHandlesAreBounded and give their descriptors back.
func TestHandlesAreBounded(t *testing.T) {
	t.Parallel()
	g := share(t, func(c *Config) { c.Handles = 8 })
	f := g.put(rootID, "f", "x")
	var list []uint64
	for range 4 {
		fh, _ := g.open(f.node, unix.O_RDONLY)
		list = append(list, fh)
		g.opendir(rootID)
	}
	assert.Equal(t, unix.ENFILE, g.failOpen(f.node, unix.O_RDONLY))
	_, errno := g.call(opOpendir, rootID, words(0, 0))
	assert.Equal(t, unix.ENFILE, errno)
	_, errno = g.call(opCreate, rootID, words(unix.O_RDWR, 0o644, 0, 0), text("g"))
	assert.Equal(t, unix.ENFILE, errno)
	g.release(f.node, list[0])
	fh, _ := g.open(f.node, unix.O_RDONLY)
	assert.NotContains(t, list, fh, "a number is not used twice")
}

// TestDescriptorsAreBounded: files beyond the budget are found again by their names,
// wherever the guest has moved them.
func TestDescriptorsAreBounded(t *testing.T) {
	t.Parallel()
	const budget = 6
	g := share(t, func(c *Config) { c.Descriptors = budget })
	type file struct {
		dir, node uint64
		name      string
	}
	var dirs []uint64
	var files []file
	at := uint64(rootID)
	for i := range 30 { // a deep tree
		at = g.mkdir(at, fmt.Sprintf("d%d", i), 0o755).node
		dirs = append(dirs, at)
		e := g.put(at, "f", fmt.Sprint(len(files)))
		files = append(files, file{at, e.node, "f"})
	}
	for step := range 2000 {
		i := rand.IntN(len(files))
		f := &files[i]
		switch rand.IntN(4) {
		case 0:
			require.Equal(t, fmt.Sprint(i), g.cat(f.node))
		case 1:
			to, name := dirs[rand.IntN(len(dirs))], fmt.Sprintf("n%d", step)
			require.Zero(t, g.rename(f.dir, f.name, to, name, 0))
			f.dir, f.name = to, name
		case 2:
			a, errno := g.chmod(f.node, uint32(step)&0o777)
			require.Zero(t, errno)
			require.EqualValues(t, step&0o777, a.mode&0o7777)
		case 3:
			require.Equal(t, f.node, g.lookup(f.dir, f.name).node)
		}
		_, open, _ := g.stats()
		require.LessOrEqual(t, open, budget+2)
	}
}

// TestOrphansAreBounded: files without a name that the guest does not forget keep a
// descriptor each, up to the budget.
func TestOrphansAreBounded(t *testing.T) {
	t.Parallel()
	g := share(t, func(c *Config) { c.Descriptors = 4 })
	for i := range 50 {
		g.put(rootID, fmt.Sprint(i), "x")
		require.Zero(t, g.unlink(rootID, fmt.Sprint(i)))
	}
	nodes, open, _ := g.stats()
	assert.Equal(t, 51, nodes)
	assert.LessOrEqual(t, open, 6)
}

// TestNothingLeaks after many of everything, and after the end.
func TestNothingLeaks(t *testing.T) {
	// Not in parallel: it counts the descriptors of the process, when the Go runtime has
	// its own.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	before := openFDs(t)
	s, err := New(Config{Root: t.TempDir()})
	require.NoError(t, err)
	g := &guest{t: t, s: s, dir: s.cfg.Root}
	g.begin()
	round := func(i int) {
		d := g.mkdir(rootID, fmt.Sprintf("d%d", i), 0o755)
		e := g.create(d.node, "f", 0o644)
		require.Zero(t, g.write(e.node, e.fh, 0, "x"))
		require.Zero(t, g.setxattr(e.node, "user.x", "y", 0))
		l := g.entry(opSymlink, d.node, text("l"), text("f"))
		g.ok(opReadlink, l.node)
		g.entry(opLink, d.node, longs(e.node), text("h"))
		listed := g.list(opReaddirplus, d.node, 4096)
		require.Len(t, listed, 3)
		require.Zero(t, g.rename(d.node, "h", d.node, "h2", renameWhiteout))
		tmp := g.entry(opTmpfile, d.node, words(unix.O_RDWR, 0o600, 0, 0), text("/"))
		g.release(tmp.node, tmp.fh)
		g.forget(tmp.node, 1)
		for _, name := range []string{"f", "l", "h", "h2"} {
			require.Zero(t, g.unlink(d.node, name))
		}
		g.ok(opRmdir, rootID, text(fmt.Sprintf("d%d", i)))
		g.release(e.node, e.fh)
		for _, n := range []uint64{e.node, l.node, d.node, listed["f"].node, listed["l"].node} {
			g.forget(n, 1000)
		}
	}
	round(0)
	after := openFDs(t)
	for i := range 200 {
		round(i)
	}
	assert.Equal(t, after, openFDs(t))
	nodes, _, handles := g.stats()
	assert.Equal(t, 1, nodes)
	assert.Zero(t, handles)
	assert.Zero(t, g.s.table.orphans)
	assert.Empty(t, g.s.table.ring)

	for i := range 50 {
		e := g.create(rootID, fmt.Sprint(i), 0o644)
		if i%2 == 0 {
			require.Zero(t, g.unlink(rootID, fmt.Sprint(i)))
		}
		g.opendir(rootID)
		_ = e
	}
	g.begin()
	nodes, _, handles = g.stats()
	assert.Equal(t, [2]int{1, 0}, [2]int{nodes, handles}, "a new session has nothing of the old one")
	assert.Equal(t, after, openFDs(t))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	assert.Equal(t, before, openFDs(t))
}

// TestListingTakesNoMemory for good, however often it is done.
func TestListingTakesNoMemory(t *testing.T) {
	g := share(t, nil)
	for i := range 100 {
		g.hostFile(fmt.Sprint(i), "x")
	}
	loop := func(n int) {
		for range n {
			fh := g.opendir(rootID)
			for _, d := range g.readdir(opReaddirplus, rootID, fh, 0, 65536) {
				g.forget(d.node, 1)
			}
			g.releasedir(rootID, fh)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	loop(100)
	before := heap()
	loop(1000)
	assert.Less(t, heap(), before+256<<10)
}

// TestServeAllocatesNothing on the way of the requests that there are most of.
func TestServeAllocatesNothing(t *testing.T) {
	if raceEnabled {
		return // the race detector allocates
	}
	g := share(t, nil)
	f := g.create(rootID, "f", 0o644)
	require.Zero(t, g.write(f.node, f.fh, 0, strings.Repeat("x", 8192)))
	out := [][]byte{make([]byte, 16), make([]byte, 4096), make([]byte, 4096)}
	for name, m := range map[string][]byte{
		"lookup":  g.message(opLookup, rootID, text("f")),
		"missing": g.message(opLookup, rootID, text("g")),
		"getattr": g.message(opGetattr, f.node, words(0, 0), longs(0)),
		"setattr": g.message(opSetattr, f.node, validBody(opSetattr, 0)),
		"read":    g.message(opRead, f.node, longs(f.fh, 0), words(8192, 0), longs(0, 0)),
		"write":   g.message(opWrite, f.node, longs(f.fh, 0), words(4096, 0), longs(0, 0), make([]byte, 4096)),
		"xattr":   g.message(opGetxattr, f.node, words(0, 0), text("security.capability")),
		"forget":  g.message(opForget, 12345, longs(1)),
		"statfs":  g.message(opStatfs, rootID),
	} {
		var header [inHeaderSize]byte
		copy(header[:], m)
		in := [][]byte{m}
		assert.Zero(t, testing.AllocsPerRun(100, func() { g.s.Serve(&header, in, out, true) }), name)
	}
}

// TestManyAtOnce runs everything beside everything, for the race detector.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	g := share(t, func(c *Config) { c.Descriptors, c.Quota = 3, 1<<40 })
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range 150 {
				name := fmt.Sprint(rand.IntN(4))
				dir := uint64(rootID)
				if b, errno := g.call(opMkdir, rootID, words(0o755, 0), text("d"+name)); errno == 0 {
					dir = parseEntry(b).node
				} else if b, errno := g.call(opLookup, rootID, text("d"+name)); errno == 0 {
					dir = parseEntry(b).node
				}
				if b, errno := g.call(opCreate, dir, words(unix.O_RDWR, 0o644, 0, 0), text(name)); errno == 0 {
					e := parseEntry(b)
					_, _ = g.call(opWrite, e.node, longs(e.fh, 0), words(3, 0), longs(0, 0), []byte("abc"))
					_, _ = g.chmod(e.node, 0o600)
					_, _ = g.call(opRelease, e.node, longs(e.fh, 0, 0))
					g.forget(e.node, 1)
				}
				_ = g.rename(dir, name, rootID, fmt.Sprintf("d%d", w), 0)
				_, _ = g.call(opRmdir, rootID, text("d"+name))
				_ = g.unlink(dir, name)
				if i%10 == 0 {
					if b, errno := g.call(opOpendir, dir, words(0, 0)); errno == 0 {
						fh := le.Uint64(b)
						_, _ = g.call(opReaddirplus, dir, longs(fh, 0), words(4096, 0), longs(0, 0))
						_, _ = g.call(opReleasedir, dir, longs(fh, 0, 0))
					}
					_, _ = g.call(opStatfs, rootID)
				}
				if w == 0 && i%50 == 49 {
					g.begin() // a session ends while requests of it are under way
				}
			}
		})
	}
	wg.Wait()
	g.begin()
	nodes, open, handles := g.stats()
	assert.Equal(t, [3]int{1, 1, 0}, [3]int{nodes, open, handles})
}

// TestProcessOutOfDescriptors makes room by closing those of nodes.
func TestProcessOutOfDescriptors(t *testing.T) {
	// Not in parallel: it changes a limit of the process.
	g := share(t, func(c *Config) { c.Descriptors = 1000 })
	var nodes []uint64
	for i := range 200 {
		nodes = append(nodes, g.mkdir(rootID, fmt.Sprint(i), 0o755).node)
		g.getattr(nodes[i])
	}
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	f, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer f.Close()
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) }()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(f.Fd()), Max: was.Max}))
	for _, n := range nodes {
		e := g.create(n, "f", 0o644)
		g.release(e.node, e.fh)
	}
}
