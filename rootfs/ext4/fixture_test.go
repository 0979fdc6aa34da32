package ext4

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/require"
)

var testUUID = [16]byte{0x6d, 0x73, 0x62, 1, 2, 3, 0x44, 5, 0x86, 7, 8, 9, 10, 11, 12, 13}

func create(t testing.TB, o Options) string {
	t.Helper()
	if o.UUID == [16]byte{} {
		o.UUID = testUUID
	}
	path := filepath.Join(t.TempDir(), "image")
	require.NoError(t, Create(path, o))
	return path
}

func file(data string, mode uint32) *tree.Inode {
	return &tree.Inode{Mode: tree.TypeRegular | mode, Size: int64(len(data)), Content: strings.NewReader(data)}
}

// hostile returns a tree with every kind of file and attributes at their limits.
func hostile(t testing.TB) *tree.Tree {
	t.Helper()
	tr := tree.New()
	tr.Root.Describe(&tree.Inode{Mode: tree.TypeDir | 0o1751, UID: 7, GID: 8, MTime: tree.Time{Sec: 5, Nsec: 6}})
	add := func(path string, n *tree.Inode) { require.NoError(t, tr.Add(path, n)) }
	add("empty", file("", 0o644))
	add("setuid", &tree.Inode{Mode: tree.TypeRegular | 0o6755, UID: 1 << 31, GID: 1<<32 - 2, Size: 3,
		Content: strings.NewReader("xxabcxx"), Offset: 2, MTime: tree.Time{Sec: -1 << 31, Nsec: 999999999}})
	add("early", &tree.Inode{Mode: tree.TypeRegular | 0o644, MTime: tree.Time{Sec: -62135596800, Nsec: 5}})
	add("late", &tree.Inode{Mode: tree.TypeRegular | 0o644, MTime: tree.Time{Sec: maxSeconds, Nsec: 7}})
	for _, n := range []int{1, 4095, 4096, 4097, 8192, 300_000} {
		add(fmt.Sprintf("size/%d", n), file(strings.Repeat("q", n-1)+"\n", 0o600))
	}
	add("holes/zeros", file(string(make([]byte, 5000)), 0o600))
	add("holes/middle", file("a"+string(make([]byte, 500_000))+"z", 0o600))
	add("holes/tail", file("a"+string(make([]byte, 500_000)), 0o600))
	hard := file("linked", 0o640)
	add("hard/a", hard)
	add("hard/b", hard)
	add("zz-other-dir/c", hard)
	for _, n := range []int{1, 59, 60, 4095} {
		require.NoError(t, tr.AddSymlink(fmt.Sprintf("link/%d", n), strings.Repeat("y", n)))
	}
	add("dev/char", &tree.Inode{Mode: tree.TypeChar | 0o666, Major: 1, Minor: 3})
	add("dev/block", &tree.Inode{Mode: tree.TypeBlock | 0o660, Major: 4095, Minor: 1<<20 - 1, GID: 6})
	add("dev/whiteout", &tree.Inode{Mode: tree.TypeChar})
	add("dev/fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o600})
	add("dev/sock", &tree.Inode{Mode: tree.TypeSocket | 0o755})
	for i := range 700 {
		add(fmt.Sprintf("many/%s%03d", strings.Repeat("n", i%200), i), file(fmt.Sprint(i), 0o444))
	}
	for _, name := range []string{"!", "-", "...", "\x01", "\xff\xfe", strings.Repeat("m", 255), "sp ace", "é", "A", "a"} {
		add("names/"+name, file(name, 0o400))
	}
	add(strings.Repeat("d/", 120)+"bottom", file("deep", 0o644))
	withXattrs(t, tr)
	return tr
}

func withXattrs(t testing.TB, tr *tree.Tree) {
	t.Helper()
	capability := []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	ping := file("ping", 0o755)
	ping.SetXattr("security.capability", capability)
	ping.SetXattr("user.empty", nil)
	ping.SetXattr("user.note", []byte("x\x00y"))
	ping.SetXattr("trusted.t", []byte("t"))
	require.NoError(t, tr.Add("x/ping", ping))
	dir := tree.NewDir(0o700)
	dir.SetXattr("system.posix_acl_default", acl)
	dir.SetXattr("user.dir", []byte("d"))
	require.NoError(t, tr.Add("x/dir", dir))
	big := file("b", 0o644)
	for i := range 12 {
		big.SetXattr(fmt.Sprintf("user.%s%d", strings.Repeat("k", i*12), i), bytes.Repeat([]byte{byte(i)}, i*30))
	}
	require.NoError(t, tr.Add("x/big", big))
	sym := &tree.Inode{Mode: tree.TypeSymlink | 0o777, Target: strings.Repeat("y", 3000)}
	sym.SetXattr("trusted.sym", bytes.Repeat([]byte("s"), 2000))
	require.NoError(t, tr.Add("x/sym", sym))
	dropped := file("", 0o644)
	dropped.SetXattr("btrfs.compression", []byte("zstd"))
	require.NoError(t, tr.Add("x/dropped", dropped))
}

// acl is in version 2: user::rwx, user:70000:r--, group::r-x, mask::r-x, other::---.
var acl = []byte{2, 0, 0, 0,
	1, 0, 7, 0, 255, 255, 255, 255,
	2, 0, 4, 0, 0x70, 0x11, 1, 0,
	4, 0, 5, 0, 255, 255, 255, 255,
	16, 0, 5, 0, 255, 255, 255, 255,
	32, 0, 0, 0, 255, 255, 255, 255}
