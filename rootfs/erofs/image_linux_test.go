package erofs

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// run executes a tool of erofs-utils or util-linux, which the tests need installed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

func TestFsckAcceptsAndExtracts(t *testing.T) {
	t.Parallel()
	want := hostile(t)
	image := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(image, build(t, want), 0o600))
	run(t, "fsck.erofs", image)

	// An ordinary user cannot create devices or owners: only root extracts all.
	if os.Geteuid() == 0 {
		root := filepath.Join(t.TempDir(), "root")
		run(t, "fsck.erofs", "--extract="+root, image)
		compareHost(t, want, root, false)
	}
}

// TestFsckAcceptsLayersAndMeta has erofs-utils check both kinds of images.
func TestFsckAcceptsLayersAndMeta(t *testing.T) {
	t.Parallel()
	base := tree.New()
	require.NoError(t, base.AddFile("usr/bin/perl", 0o755, []byte("perl")))
	_, disk := stitch(t, base, changes(t))
	meta := filepath.Join(t.TempDir(), "meta")
	require.NoError(t, os.WriteFile(meta, disk.raw[:disk.meta], 0o600))
	args := []string{}
	for _, path := range disk.layers {
		run(t, "fsck.erofs", path)
		args = append(args, "--device="+path)
	}
	run(t, "fsck.erofs", append(args, meta)...)
}

// TestKernelMounts lets Linux itself read the image where the test may mount; the
// reader of this package and fsck.erofs have checked the same image everywhere.
func TestKernelMounts(t *testing.T) {
	t.Parallel()
	want := hostile(t)
	raw := build(t, want)
	image, root := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, raw, 0o600))
	out, err := exec.CommandContext(t.Context(), "mount", "-t", "erofs", "-o", "loop,ro", image, root).CombinedOutput()
	if err != nil {
		t.Logf("this machine does not mount EROFS (%s): the package's own reader stands in", out)
		got := reread(t, raw)
		compareTrees(t, want, got)
		return
	}
	defer run(t, "umount", root)
	compareHost(t, want, root, true)
}

// compareHost compares the tree with files on this machine. fsck.erofs 1.5 extracts
// neither xattrs nor hard links nor sub-second directory times; the kernel shows all.
func compareHost(t *testing.T, want *tree.Tree, root string, all bool) {
	t.Helper()
	names, inodes := 0, map[*tree.Inode]uint64{}
	links := map[*tree.Inode]uint64{}
	require.NoError(t, want.Walk(func(path string, n *tree.Inode) error {
		links[n]++
		return nil
	}))
	require.NoError(t, want.Walk(func(path string, n *tree.Inode) error {
		names++
		at := filepath.Join(root, path)
		var st unix.Stat_t
		require.NoError(t, unix.Lstat(at, &st), path)
		mask := ^uint32(0)
		if !all && !n.IsDir() {
			mask = ^uint32(0o6000) // fsck.erofs sets the owner last, which clears them
		}
		assert.Equal(t, n.Mode&mask, st.Mode&mask, "mode of %q", path)
		assert.Equal(t, []uint32{n.UID, n.GID}, []uint32{st.Uid, st.Gid}, "owner of %q", path)
		if n.Type() == tree.TypeChar || n.Type() == tree.TypeBlock {
			assert.Equal(t, unix.Mkdev(n.Major, n.Minor), st.Rdev, "device %q", path)
		}
		if n.Type() == tree.TypeRegular {
			compareContent(t, n, at)
		}
		if n.Type() == tree.TypeSymlink {
			target, err := os.Readlink(at)
			require.NoError(t, err)
			assert.Equal(t, n.Target, target)
		}
		if !all {
			return nil
		}
		assert.Equal(t, n.MTime, tree.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}, "time of %q", path)
		if seen, ok := inodes[n]; ok {
			assert.Equal(t, seen, st.Ino, "hard link %q", path)
		}
		inodes[n] = st.Ino
		if !n.IsDir() {
			assert.EqualValues(t, links[n], st.Nlink, "links of %q", path)
		}
		compareXattrs(t, n, at)
		return nil
	}))
	found := 0
	require.NoError(t, filepath.WalkDir(root, func(string, os.DirEntry, error) error { found++; return nil }))
	assert.Equal(t, names, found, "number of files")
}

func compareContent(t *testing.T, n *tree.Inode, at string) {
	t.Helper()
	f, err := os.OpenFile(at, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	require.NoError(t, err)
	defer f.Close()
	want, err := io.ReadAll(n.Reader())
	require.NoError(t, err)
	got, err := io.ReadAll(f)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got), "content of %q", at)
}

func compareXattrs(t *testing.T, n *tree.Inode, at string) {
	t.Helper()
	list := make([]byte, 64<<10)
	size, err := unix.Llistxattr(at, list)
	require.NoError(t, err, at)
	got := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		size, err := unix.Lgetxattr(at, name, value)
		require.NoError(t, err, "%s: %s", at, name)
		got[name] = string(value[:size])
	}
	want := map[string]string{}
	for _, x := range n.Xattrs {
		if StorableXattr(x.Name) {
			want[x.Name] = string(x.Value)
		}
	}
	assert.Equal(t, want, got, "xattrs of %q", at)
}

func TestLayerLeavesHoles(t *testing.T) {
	t.Parallel()
	f, tr := temp(t), tree.New()
	require.NoError(t, tr.AddFile("zeros", 0o644, make([]byte, 64<<20)))
	require.NoError(t, tr.AddFile("data", 0o644, bytes.Repeat([]byte("x"), 3<<20)))
	require.NoError(t, tr.AddFile("mixed", 0o644, append(make([]byte, 5<<20), "end"...)))
	_, info := store(t, f, tr)
	assert.Greater(t, info.Size(), int64(72<<20))
	assert.Less(t, allocated(t, f), int64(8<<20))
	r, err := NewReader(f, info.Size())
	require.NoError(t, err)
	got, err := r.ReadLayer(10)
	require.NoError(t, err)
	compareTrees(t, tr, got)
}

// allocated is what a file takes on disk, in bytes.
func allocated(t testing.TB, f *os.File) int64 {
	t.Helper()
	require.NoError(t, f.Sync())
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &st))
	return st.Blocks * 512
}
