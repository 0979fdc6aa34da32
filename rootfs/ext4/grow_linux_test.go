package ext4

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGrow(t *testing.T) {
	t.Parallel()
	const mib, gib = 1 << 20, 1 << 30
	for _, sizes := range [][]int64{
		{8 * mib, 9 * mib},                // the only group
		{8 * mib, 128 * mib, 257 * mib},   // a rest too short stays unused
		{8 * mib, 4 * gib},                // from one group
		{130 * mib, 140 * mib, 256 * mib}, // last group, twice
		{256 * mib, 300 * mib},            // one group more, a partial one
		{4 * gib, 8 * gib},                // to the end of a descriptor block
		{4 * gib, 8*gib + 128*mib},        // into the reserve
		{4*gib + 77*mib, 20*gib + 33*mib}, // from a partial group, with backup groups
		{4 * gib, 9 * gib, 16 * gib, 17 * gib, 150 * gib},
		{100 * gib, 300 * gib}, // beyond the size up to which all bitmaps are written
		{8 * mib, 2048 * gib},
	} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			t.Parallel()
			want := tree.New()
			require.NoError(t, want.AddFile("f", 0o644, []byte("content")))
			path := create(t, Options{Size: sizes[0], Tree: want})
			for _, size := range sizes[1:] {
				require.NoError(t, Grow(path, size))
				clean(t, path)
				info, err := os.Stat(path)
				require.NoError(t, err)
				assert.Equal(t, size, info.Size())
			}
			compare(t, want, path)
			// The result is what Create would have made, but for the journal's length.
			fresh := create(t, Options{Size: sizes[len(sizes)-1], Tree: want})
			for _, name := range []string{"Block count", "Inode count", "Filesystem features", "Reserved block count"} {
				assert.Equal(t, field(t, fresh, name), field(t, path, name), name)
			}
			// With a backup superblock e2fsck insists on all bitmaps.
			if size := sizes[len(sizes)-1]; size > 128*mib+4*mib && size <= bitmapGroups*128*mib {
				run(t, "e2fsck", "-fn", "-B", "4096", "-b", "32768", path)
			}
		})
	}
}

func TestGrowPopulated(t *testing.T) {
	t.Parallel()
	want := hostile(t)
	path := create(t, Options{Size: 200 << 20, Tree: want})
	require.NoError(t, Grow(path, 10<<30))
	clean(t, path)
	compare(t, want, path)
}

// TestGrowForeign grows what mke2fs makes.
func TestGrowForeign(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"defaults":          {"200M"},
		"4k blocks":         {"-b", "4096", "200M"},
		"1k blocks":         {"-b", "1024", "100M"},
		"2k blocks":         {"-b", "2048", "100M"},
		"no flex_bg":        {"-b", "4096", "-O", "^flex_bg", "300M"},
		"checksum seed":     {"-b", "4096", "-O", "metadata_csum_seed", "-U", "random", "300M"},
		"32-bit":            {"-b", "4096", "-O", "^64bit", "300M"},
		"no resize inode":   {"-b", "4096", "-O", "^resize_inode", "300M"},
		"small inodes":      {"-b", "4096", "-I", "128", "300M"},
		"many inodes":       {"-b", "4096", "-i", "4096", "300M"},
		"orphan file":       {"-b", "4096", "-O", "orphan_file", "300M"},
		"quota":             {"-b", "4096", "-O", "quota,project", "300M"},
		"lazy":              {"-b", "4096", "-E", "lazy_itable_init=1", "2G"},
		"reserved for root": {"-b", "4096", "-m", "10", "300M"},
		"short groups":      {"-b", "4096", "-g", "8192", "300M"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, root := filepath.Join(t.TempDir(), "image"), t.TempDir()
			content := strings.Repeat("content", 1<<20)
			require.NoError(t, os.WriteFile(filepath.Join(root, "f"), []byte(content), 0o600))
			args := append([]string{"-q", "-t", "ext4"}, args...)
			if name != "quota" { // mke2fs does not count what it copies
				args = append([]string{"-d", root}, args...)
			}
			args = append(args[:len(args)-1], path, args[len(args)-1])
			run(t, "mke2fs", args...)
			for _, size := range []int64{500<<20 + 4096*7, 3 << 30} {
				require.NoError(t, Grow(path, size))
				clean(t, path)
			}
			if name == "reserved for root" {
				reserved, err := strconv.Atoi(field(t, path, "Reserved block count"))
				require.NoError(t, err)
				assert.InDelta(t, 3<<30/4096/10, reserved, 16)
			}
			run(t, "debugfs", "-R", "rdump / "+root, path)
			got, err := os.ReadFile(filepath.Join(root, "f"))
			require.NoError(t, err)
			assert.True(t, content == string(got))
		})
	}
}

func TestGrowRefusesForeign(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"ext2":        {"-t", "ext2"},
		"ext3":        {"-t", "ext3"},
		"no journal":  {"-t", "ext4", "-O", "^has_journal"},
		"meta_bg":     {"-t", "ext4", "-O", "meta_bg,^resize_inode"},
		"bigalloc":    {"-t", "ext4", "-O", "bigalloc"},
		"mmp":         {"-t", "ext4", "-O", "mmp"},
		"old sums":    {"-t", "ext4", "-O", "^metadata_csum,uninit_bg"},
		"64k blocks":  {"-t", "ext4", "-b", "65536"},
		"two backups": {"-t", "ext4", "-O", "sparse_super2,^resize_inode"},
	} {
		path := filepath.Join(t.TempDir(), "image")
		run(t, "mke2fs", append(append([]string{"-q", "-F"}, args...), path, "64M")...)
		m := loaded(t, path)
		assert.ErrorIs(t, grow(m, 1<<30), ErrUnsupported, name)
		assert.Zero(t, m.wrote, name)
	}
}

// TestGrowMidway ends growing before each of its writes: another try, or e2fsck, makes
// the file system whole. It is the old one or the new one.
func TestGrowMidway(t *testing.T) {
	t.Parallel()
	want := tree.New()
	require.NoError(t, want.AddFile("f", 0o644, []byte(strings.Repeat("content", 1000))))
	require.NoError(t, want.AddDir("lost+found", 0o700)) // e2fsck -y adds it
	// A last group to lengthen, groups with backups, a descriptor block from the reserve.
	base := formatted(t, Options{Size: 300 << 20, Tree: want})
	base.limit = 10 << 30
	whole := base.clone(-1)
	require.NoError(t, grow(whole, 10<<30))
	path := filepath.Join(t.TempDir(), "image")
	sizes := map[string]int{}
	for left := 0; left < whole.wrote; left += 3 {
		killed := base.clone(left)
		require.ErrorIs(t, grow(killed, 10<<30), errKilled)
		if left%51 == 0 {
			killed.save(t, path)
			out, _ := tool(t, "e2fsck", "-fy", path)
			require.NotContains(t, out, "Fix? yes", "after %d writes", left)
			clean(t, path)
			sizes[field(t, path, "Block count")]++
			compare(t, want, path)
		}
		killed.left = -1
		require.NoError(t, grow(killed, 10<<30), "after %d writes", left)
		finish(t, killed)
		requireSame(t, whole, killed)
	}
	assert.Len(t, sizes, 2)
	whole.save(t, path)
	clean(t, path)
}

// finish does what the next mount does if growing only lacked the end of the journal.
func finish(t *testing.T, m *memory) {
	t.Helper()
	v, err := openVolume(m)
	require.NoError(t, err)
	if v.super.incompat(incompatRecover) {
		j, err := openJournal(v)
		require.NoError(t, err)
		require.NoError(t, j.recover())
	}
}

// requireSame asserts that two images are equal but for their journals.
func requireSame(t *testing.T, want, got *memory) {
	t.Helper()
	require.Equal(t, want.size, got.size)
	v, err := openVolume(want)
	require.NoError(t, err)
	j, err := openJournal(v)
	require.NoError(t, err)
	var zero [BlockSize]byte
	for at := range got.pages {
		first := j.where[0]
		if uint64(at)-first.start < uint64(first.length) {
			continue
		}
		if want.pages[at] == nil {
			require.True(t, zero == *got.pages[at], "block %d", at)
		} else {
			require.True(t, *want.pages[at] == *got.pages[at], "block %d", at)
		}
	}
}
