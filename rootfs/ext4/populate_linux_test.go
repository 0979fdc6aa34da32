package ext4

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPopulated(t *testing.T) {
	t.Parallel()
	want := hostile(t)
	path := create(t, Options{Size: 256 << 20, Tree: want})
	clean(t, path)
	compare(t, want, path)
}

// compare holds a tree against what debugfs reads from the image: attributes inode by
// inode, names and content by extracting all.
func compare(t *testing.T, want *tree.Tree, path string) {
	t.Helper()
	compareAttributes(t, want, path)
	root := t.TempDir()
	run(t, "debugfs", "-R", "rdump / "+root, path)
	names := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(at string, _ os.DirEntry, err error) error {
		names[strings.TrimPrefix(at, root)] = true
		return err
	}))
	require.NoError(t, want.Walk(func(name string, n *tree.Inode) error {
		at := filepath.Join(root, name)
		switch n.Type() {
		case tree.TypeRegular:
			content, err := io.ReadAll(n.Reader())
			require.NoError(t, err)
			got, err := os.ReadFile(at)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(content, got), "content of %q", name)
		case tree.TypeSymlink:
			target, err := os.Readlink(at)
			require.NoError(t, err)
			assert.Equal(t, n.Target, target, name)
		case tree.TypeDir:
		default:
			return nil // not extracted
		}
		delete(names, strings.TrimSuffix(name, "/"))
		return nil
	}))
	assert.Empty(t, names)
}

var (
	statHead   = regexp.MustCompile(`Inode: (\d+)\s+Type: (.*?)\s+Mode:\s+(\d+)`)
	statOwner  = regexp.MustCompile(`User:\s*(-?\d+)\s+Group:\s*(-?\d+).*Size: (\d+)`)
	statLinks  = regexp.MustCompile(`Links: (\d+)`)
	statTime   = regexp.MustCompile(`mtime: 0x([0-9a-f]{8}):([0-9a-f]{8})`)
	statDevice = regexp.MustCompile(`major/minor number: 0*(\d+):0*(\d+)`)
)

var statTypes = map[string]uint32{
	"regular": tree.TypeRegular, "directory": tree.TypeDir, "symlink": tree.TypeSymlink, "FIFO": tree.TypeFIFO,
	"character special": tree.TypeChar, "block special": tree.TypeBlock, "socket": tree.TypeSocket,
}

func compareAttributes(t *testing.T, want *tree.Tree, path string) {
	t.Helper()
	p, err := newPlan(want)
	require.NoError(t, err)
	var commands strings.Builder
	for _, s := range p.slots {
		fmt.Fprintf(&commands, "stat <%d>\n", s.number)
	}
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte(commands.String()), 0o600))
	parts := strings.Split(run(t, "debugfs", "-f", script, path), "debugfs: stat ")[1:]
	require.Len(t, parts, len(p.slots))
	number := func(s string, base int) uint32 {
		n, err := strconv.ParseInt(s, base, 64)
		require.NoError(t, err)
		return uint32(n)
	}
	for i, part := range parts {
		n, at := p.slots[i].node, p.path(i)
		head := statHead.FindStringSubmatch(part)
		require.NotNil(t, head, part)
		assert.Equal(t, p.slots[i].number, number(head[1], 10))
		assert.Equal(t, n.Mode, statTypes[head[2]]|number(head[3], 8), "mode of %q", at)
		owner := statOwner.FindStringSubmatch(part)
		assert.Equal(t, []uint32{n.UID, n.GID}, []uint32{number(owner[1], 10), number(owner[2], 10)}, "owner of %q", at)
		if n.Type() == tree.TypeRegular {
			assert.Equal(t, uint32(n.Size), number(owner[3], 10), "size of %q", at)
		}
		assert.Equal(t, min(p.slots[i].links, maxLinks), number(statLinks.FindStringSubmatch(part)[1], 10), "links of %q", at)
		sec, extra := encodeTime(n.MTime)
		mtime := statTime.FindStringSubmatch(part)
		assert.Equal(t, []uint32{sec, extra}, []uint32{number(mtime[1], 16), number(mtime[2], 16)}, "time of %q", at)
		if n.Type() == tree.TypeChar || n.Type() == tree.TypeBlock {
			device := statDevice.FindStringSubmatch(part)
			assert.Equal(t, []uint32{n.Major, n.Minor}, []uint32{number(device[1], 10), number(device[2], 10)}, "device %q", at)
		}
		compareXattrs(t, &p.slots[i], at, path, part)
	}
}

func compareXattrs(t *testing.T, s *slot, at, path, stat string) {
	t.Helper()
	count := 0
	for _, x := range s.node.Xattrs {
		if !StorableXattr(x.Name) {
			continue
		}
		count++
		want := x.Value
		if strings.HasPrefix(x.Name, "system.") {
			want, _ = encodeACL(x.Value)
		}
		assert.Contains(t, stat, fmt.Sprintf("  %s (%d)", x.Name, len(want)), at)
		if len(want) == 0 {
			continue
		}
		got := filepath.Join(t.TempDir(), "value")
		run(t, "debugfs", "-R", fmt.Sprintf("ea_get -r -f %s <%d> %s", got, s.number, x.Name), path)
		value, err := os.ReadFile(got)
		require.NoError(t, err)
		assert.Equal(t, hex.EncodeToString(want), hex.EncodeToString(value), "xattr %s of %q", x.Name, at)
	}
	if s.opaque {
		count++
		assert.Contains(t, stat, `  trusted.overlay.opaque (1) = "y"`, at)
	}
	assert.Equal(t, count, strings.Count(stat, "\n  "), "xattrs of %q: %s", at, stat)
}

// TestUpperHidesLower stores what an overlay needs to hide lower files.
func TestUpperHidesLower(t *testing.T) {
	t.Parallel()
	patches := tree.New()
	require.NoError(t, patches.AddFile("etc/new", 0o644, []byte("new")))
	require.NoError(t, patches.AddFile("var/lib/app/state", 0o644, nil))
	patches.Root.SetWhiteout("gone")
	patches.Root.SetWhiteout("never\xff")
	patches.Lookup("etc").SetWhiteout("old")
	patches.Lookup("etc").SetWhiteout("new") // the file hides it already
	patches.Lookup("var/lib").SetWhiteout("app")
	patches.Lookup("var").SetOpaque()
	full := Upper(patches)
	path := create(t, Options{Size: MinSize, Tree: full})
	clean(t, path)
	compareAttributes(t, full, path)
	p, err := newPlan(full)
	require.NoError(t, err)
	var hides []string
	for i, s := range p.slots {
		switch {
		case s.opaque:
			hides = append(hides, "opaque "+p.path(i))
		case s.node.Type() == tree.TypeChar:
			hides = append(hides, "device "+p.path(i))
		}
	}
	assert.ElementsMatch(t, []string{
		"device /upper/gone", "device /upper/never\xff", "device /upper/etc/old", "opaque /upper/var", "opaque /upper/var/lib/app",
	}, hides)
	// The tree itself stays as it was.
	_, marked := patches.Lookup("var").Xattr(opaqueXattr)
	assert.False(t, marked)
}

func TestDirectoriesOfAllSizes(t *testing.T) {
	t.Parallel()
	tr := tree.New()
	for _, dir := range []struct {
		name          string
		names, length int
	}{
		{"one-block", 200, 10}, {"two-blocks", 300, 10}, {"many", 30_000, 3}, {"two-levels", 9_000, 250}, {"longest", 300, 255},
	} {
		d := tree.NewDir(0o755)
		tr.Root.Set(dir.name, d)
		for i := range dir.names {
			name := fmt.Sprintf("%d", i)
			d.Set(name+strings.Repeat("-", max(0, dir.length-len(name))), &tree.Inode{Mode: tree.TypeFIFO})
		}
	}
	path := create(t, Options{Size: 1 << 30, Tree: tr})
	clean(t, path)
	for dir, want := range map[string]string{"/many": "Indirect levels: 0", "/two-levels": "Indirect levels: 1"} {
		assert.Contains(t, run(t, "debugfs", "-R", "htree "+dir, path), want)
	}
	out, err := tool(t, "debugfs", "-R", "htree /one-block", path)
	assert.NoError(t, err)
	assert.Contains(t, out, "Not a hash-indexed directory")
}

// TestCollidingNames lets two names of one hash fall into different blocks.
func TestCollidingNames(t *testing.T) {
	t.Parallel()
	var seed [4]uint32
	for i := range seed {
		seed[i] = le.Uint32(testUUID[4*i:])
	}
	hashes, twins := map[uint32]string{}, [2]string{}
	for i := 0; twins[0] == ""; i++ {
		name := fmt.Sprintf("%08d", i)
		h := nameHash(name, &seed)
		if other, found := hashes[h]; found && h > 1<<24 {
			twins = [2]string{other, name}
		}
		hashes[h] = name
	}
	hash := nameHash(twins[0], &seed)
	lower := leafSize/direntSize(twins[0]) - 1 // as many fill a block together with one twin
	tr, above := tree.New(), 500
	for h, name := range hashes {
		switch {
		case h == hash:
		case h < hash && lower > 0:
			lower--
			tr.Root.Set(name, file(name, 0o600))
		case h > hash && above > 0:
			above--
			tr.Root.Set(name, file(name, 0o600))
		}
	}
	require.Zero(t, lower)
	for _, name := range twins {
		tr.Root.Set(name, file(name, 0o600))
	}
	path := create(t, Options{Size: 256 << 20, Tree: tr})
	clean(t, path)
	assert.Contains(t, run(t, "debugfs", "-R", "htree /", path), fmt.Sprintf("Hash 0x%08x", hash|1))
	for _, name := range twins {
		assert.Equal(t, name, strings.TrimSpace(strings.SplitN(run(t, "debugfs", "-R", "cat /"+name, path), "\n", 2)[1]))
	}
}

// TestNameHash compares with debugfs.
func TestNameHash(t *testing.T) {
	t.Parallel()
	seed := [4]uint32{0x0162736d, 0x05440302, 0x09080786, 0x0d0c0b0a}
	for _, name := range []string{"a", "foo", strings.Repeat("n", 31), strings.Repeat("n", 32), strings.Repeat("n", 33), strings.Repeat("xyz", 85)} {
		got := run(t, "debugfs", "-R", "dx_hash -h half_md4 -s 6d736201-0203-4405-8607-08090a0b0c0d "+name)
		assert.Contains(t, got, fmt.Sprintf("is 0x%x ", nameHash(name, &seed)), name)
		got = run(t, "debugfs", "-R", "dx_hash -h half_md4 "+name)
		assert.Contains(t, got, fmt.Sprintf("is 0x%x ", nameHash(name, new([4]uint32))), name)
	}
}

// TestManySubdirectories exceeds what a link count can say.
func TestManySubdirectories(t *testing.T) {
	t.Parallel()
	tr := tree.New()
	d := tree.NewDir(0o755)
	tr.Root.Set("d", d)
	for i := range maxLinks {
		d.Set(strconv.Itoa(i), tree.NewDir(0))
	}
	path := create(t, Options{Size: 2 << 30, Tree: tr})
	clean(t, path)
	assert.Contains(t, run(t, "debugfs", "-R", "stat /d", path), "Links: 1 ")
}

// TestLargeFiles stores one file over several groups and one with more extents than
// fit into two levels of its tree.
func TestLargeFiles(t *testing.T) {
	t.Parallel()
	tr := tree.New()
	add := func(name string, size int64, content io.ReaderAt) {
		require.NoError(t, tr.Add(name, &tree.Inode{Mode: tree.TypeRegular | 0o644, Size: size, Content: content}))
	}
	add("groups", 300<<20, pattern{})
	add("sparse", 200<<20+1, stripes{})
	path := create(t, Options{Size: 1 << 30, Tree: tr})
	clean(t, path)
	for name, depth := range map[string]string{"groups": "0/ 1", "sparse": "0/ 2"} {
		assert.Contains(t, run(t, "debugfs", "-R", "dump_extents /"+name, path), depth, name)
		root := t.TempDir()
		run(t, "debugfs", "-R", fmt.Sprintf("dump /%s %s/f", name, root), path)
		got, err := os.Open(filepath.Join(root, "f"))
		require.NoError(t, err)
		assert.True(t, sameContent(t, tr.Lookup(name).Reader(), got), name)
		require.NoError(t, got.Close())
	}
	// Half of the sparse file and a seventh of the other are holes.
	assert.Less(t, allocated(t, path), int64(370<<20))
}

func sameContent(t *testing.T, a, b io.Reader) bool {
	t.Helper()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) || err != errB {
			return false
		}
		if err != nil {
			return true
		}
	}
}

// stripes is content of which every second 64 KiB are zero.
type stripes struct{}

func (stripes) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = byte((off + int64(i)) >> 16 & 1)
	}
	return len(p), nil
}
