package runtime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

func TestPlanShares(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file.txt")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o644))
	require.NoError(t, os.Symlink("file.txt", filepath.Join(dir, "link")))
	c := &launch.Config{
		RuntimeDir: "/home/u/runtime",
		Rootfs:     launch.Rootfs{Path: pointer("./project"), FollowRootSymlinks: true},
		Mounts: []string{
			"cache_4f7cfe6f:/home/u/volumes/cache",
			"work_0c9a453f:/home/u/project:ro,quota=4096,stat-virt=off,follow-root-symlinks,uid=5,gid=6",
			"big:/b:quota=17592186044415,stat-virt=relaxed,host-perms=mirror",
			"full:/f:quota=0",
		},
		FileMounts: []launch.FileMount{
			{Mount: "etc_file.tx_cde76b0f:" + file + ":quota=4096", Filename: "file.txt"},
			{Mount: "staged:" + dir, Filename: "file.txt"},
			{Mount: "linked:" + filepath.Join(dir, "link") + ":follow-root-symlinks,ro", Filename: "file.txt"},
		},
	}
	got, err := planShares(c)
	require.NoError(t, err)
	assert.Equal(t, []Share{
		{Tag: "/dev/root", Path: "./project", FollowSymlinks: true, Stat: "strict", Perms: "private", Root: true},
		{Tag: "msb_runtime", Path: "/home/u/runtime", FollowSymlinks: true, Perms: "private", Quota: 16 << 20},
		{Tag: "cache_4f7cfe6f", Path: "/home/u/volumes/cache", Stat: "strict", Perms: "private", MapOwner: true},
		{
			Tag: "work_0c9a453f", Path: "/home/u/project", FollowSymlinks: true, ReadOnly: true, Stat: "off", Perms: "private",
			MapOwner: true, UID: pointer(uint32(5)), GID: pointer(uint32(6)), Quota: 4 << 30,
		},
		{Tag: "big", Path: "/b", Stat: "relaxed", Perms: "mirror", MapOwner: true, Quota: 1 << 60},
		{Tag: "full", Path: "/f", Stat: "strict", Perms: "private", MapOwner: true, Quota: -1},
		{Tag: "etc_file.tx_cde76b0f", Path: dir, Only: "file.txt", Stat: "strict", Perms: "private", MapOwner: true, Quota: 4 << 30},
		{Tag: "staged", Path: dir, Only: "file.txt", Stat: "strict", Perms: "private", MapOwner: true},
		{Tag: "linked", Path: dir, Only: "file.txt", FollowSymlinks: true, ReadOnly: true, Stat: "strict", Perms: "private", MapOwner: true},
	}, got)
}

func TestFileShareRefuses(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	for name, c := range map[string]struct{ mount, file, text string }{
		"missing":       {"t:" + dir + "/nothing", "nothing", "nothing"},
		"another name":  {"t:" + dir + "/file", "other", `look for "other"`},
		"no name":       {"t:" + dir + "/file", "", "no file name"},
		"a path":        {"t:" + dir, "../file", "no file name"},
		"up":            {"t:" + dir, "..", "no file name"},
		"dangling link": {"t:" + dir + "/nothing:follow-root-symlinks", "nothing", "nothing"},
	} {
		_, err := fileShare(launch.FileMount{Mount: c.mount, Filename: c.file})
		assert.ErrorContains(t, err, c.text, name)
	}
}
