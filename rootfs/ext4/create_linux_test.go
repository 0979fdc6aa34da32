package ext4

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSizesAreClean(t *testing.T) {
	t.Parallel()
	const mib, gib, tib = 1 << 20, 1 << 30, 1 << 40
	for _, tc := range []struct {
		size, blocks, allocated int64
		journal                 string
	}{
		{8 * mib, 8 * mib, 64 << 10, "4096k"},
		{9*mib + 4096, 9*mib + 4096, 64 << 10, "4096k"},
		{64*mib - 4096, 64*mib - 4096, 64 << 10, "4096k"},
		{64 * mib, 64 * mib, 64 << 10, "16M"},
		{128 * mib, 128 * mib, 64 << 10, "16M"},
		{129 * mib, 128 * mib, 64 << 10, "16M"}, // too little for another group
		{132 * mib, 132 * mib, 2 * mib, "16M"},
		{256 * mib, 256 * mib, 2 * mib, "64M"},
		{4 * gib, 4 * gib, 3 * mib / 2, "64M"},
		{4*gib + 77*mib, 4*gib + 77*mib, 3 * mib / 2, "64M"},
		{16 * gib, 16 * gib, 3 * mib, "64M"},
		{128 * gib, 128 * gib, 16 * mib, "64M"},
		{300 * gib, 300 * gib, 16 * mib, "64M"},
		{2 * tib, 2 * tib, 32 * mib, "64M"},
	} {
		t.Run(fmt.Sprint(tc.size), func(t *testing.T) {
			t.Parallel()
			path := create(t, Options{Size: tc.size, Tree: Upper(nil)})
			clean(t, path)
			assert.LessOrEqual(t, allocated(t, path), tc.allocated)
			info, err := os.Stat(path)
			require.NoError(t, err)
			assert.Equal(t, tc.size, info.Size())
			assert.Equal(t, fmt.Sprint(tc.blocks/BlockSize), field(t, path, "Block count"))
			assert.Equal(t, tc.journal, field(t, path, "Total journal size"))
		})
	}
}

// TestLargest is apart because e2fsck takes a minute for 16 TiB: dumpe2fs, which checks
// superblock and descriptors only, must do.
func TestLargest(t *testing.T) {
	t.Parallel()
	path := create(t, Options{Size: MaxSize})
	assert.Equal(t, "4294967295", field(t, path, "Block count"))
	assert.Equal(t, "clean", field(t, path, "Filesystem state"))
	got := run(t, "debugfs", "-R", "stat <7>", path)
	assert.Contains(t, got, "Blockcount", "no resize inode is needed, its record is zero")
}

var fieldLine = regexp.MustCompile(`(?m)^([^:\n]+):[ \t]*(.*)$`)

// field returns what dumpe2fs says of a superblock.
func field(t *testing.T, path, name string) string {
	t.Helper()
	for _, m := range fieldLine.FindAllStringSubmatch(run(t, "dumpe2fs", "-h", path), -1) {
		if m[1] == name {
			return m[2]
		}
	}
	require.Fail(t, "dumpe2fs does not mention "+name)
	return ""
}

// TestProfile compares with what microsandbox 0.6.18 makes, and grows.
func TestProfile(t *testing.T) {
	t.Parallel()
	path := create(t, Options{Tree: Upper(nil), Label: "scratch"})
	for name, want := range map[string]string{
		"Filesystem volume name": "scratch",
		"Filesystem UUID":        "6d736201-0203-4405-8607-08090a0b0c0d",
		"Directory Hash Seed":    "6d736201-0203-4405-8607-08090a0b0c0d",
		"Filesystem features": "has_journal ext_attr resize_inode dir_index filetype extent 64bit sparse_super large_file " +
			"huge_file dir_nlink extra_isize metadata_csum",
		"Filesystem state":      "clean",
		"Default mount options": "user_xattr acl",
		"Inode count":           "262144",
		"Block count":           "1048576",
		"Reserved block count":  "0",
		"Free blocks":           "1013676",
		"Free inodes":           "262132",
		"Block size":            "4096",
		"Group descriptor size": "64",
		"Reserved GDT blocks":   "256",
		"Blocks per group":      "32768",
		"Inodes per group":      "8192",
		"First inode":           "11",
		"Inode size":            "256",
		"Required extra isize":  "32",
		"Maximum mount count":   "-1",
		"Check interval":        "0 (<none>)",
		"Journal features":      "journal_incompat_revoke journal_64bit journal_checksum_v3",
		"Total journal blocks":  "16384",
		"Journal start":         "0",
	} {
		assert.Equal(t, want, field(t, path, name), name)
	}
	// The guest has nothing left to initialise.
	groups := strings.Count(run(t, "dumpe2fs", path), "[ITABLE_ZEROED]")
	assert.Equal(t, 32, groups)
	listing := run(t, "debugfs", "-R", "ls -p /", path)
	assert.Equal(t, "/2/040755/0/0/.//\n/2/040755/0/0/..//\n/11/040755/0/0/upper//\n/12/040755/0/0/work//\n",
		strings.TrimPrefix(strings.TrimSpace(listing)+"\n", "debugfs 1.47.0 (5-Feb-2023)\n"))
}

// TestBackups lets e2fsck use a backup superblock instead of the primary one.
func TestBackups(t *testing.T) {
	t.Parallel()
	check := func(path string, group int) error {
		_, err := tool(t, "e2fsck", "-fn", "-B", "4096", "-b", fmt.Sprint(group*groupBlocks), path)
		return err
	}
	small, large := create(t, Options{Size: 2 << 30}), create(t, Options{Size: 16 << 30})
	for _, group := range []int{1, 3, 5, 7, 9} {
		assert.NoError(t, check(small, group))
	}
	assert.NoError(t, check(large, 125))
	assert.Error(t, check(small, 2))
}

// TestFreshUpperIsFast: what takes time is memory that is used, and what is written.
func TestFreshUpperIsFast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "upper.ext4")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const times = 20
	for range times {
		require.NoError(t, Create(path, Options{Tree: Upper(nil)}))
	}
	runtime.ReadMemStats(&after)
	t.Logf("%d bytes allocated for each", (after.TotalAlloc-before.TotalAlloc)/times)
	assert.Less(t, (after.TotalAlloc-before.TotalAlloc)/times, uint64(2<<20))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	t.Logf("%d bytes on disk", st.Blocks*512)
	assert.Less(t, st.Blocks*512, int64(2<<20))
}
