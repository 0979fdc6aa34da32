package flagtype

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMount(t *testing.T) {
	id := func(n uint32) *uint32 { return &n }
	for line, want := range map[string]struct {
		source, guest string
		opts          MountOptions
	}{
		"mount-disk /d.raw:/m":                       {"/d.raw", "/m", MountOptions{}},
		"mount-disk d:/m:ro":                         {"d", "/m", MountOptions{Readonly: true}},
		"mount-disk a:b:/m:rw,noexec,nosuid,nodev":   {"a:b", "/m", MountOptions{Noexec: true, Nosuid: true, Nodev: true}},
		"mount-disk /d:/m:format=raw,fstype=ext4,ro": {"/d", "/m", MountOptions{Format: "raw", Fstype: "ext4", Readonly: true}},
		"mount-disk /d:/m:format=qcow2":              {"/d", "/m", MountOptions{Format: "qcow2"}},
		"mount-dir /with,comma:/m":                   {"/with,comma", "/m", MountOptions{}},
		"mount-file /f:/m:":                          {"/f", "/m", MountOptions{}},
		"volume data:/m:,ro,":                        {"data", "/m", MountOptions{Readonly: true}},
		"volume ./src:/mnt:ro,follow-root-symlinks,stat-virt=relaxed,host-perms=mirror,quota=1G,uid=0,gid=6": {"./src", "/mnt", MountOptions{
			Readonly: true, FollowRootSymlinks: true, StatVirt: "relaxed", HostPerms: "mirror", QuotaMiB: 1024, UID: id(0), GID: id(6)}},
		"mount-named data:/m:kind=dir,quota=5":         {"data", "/m", MountOptions{Kind: "dir", QuotaMiB: 5}},
		"mount-named db:/m:kind=disk,size=1.5G,noexec": {"db", "/m", MountOptions{Kind: "disk", SizeMiB: 1536, Noexec: true}},
	} {
		flag, s, _ := strings.Cut(line, " ")
		source, guest, opts, err := Mount(flag, s)
		require.NoError(t, err, line)
		assert.Equal(t, want.source, source, line)
		assert.Equal(t, want.guest, guest, line)
		assert.Equal(t, want.opts, opts, line)
	}
}

func TestMountsThatCannotBe(t *testing.T) {
	for line, want := range map[string]string{
		"volume ":                                         "volume must be in format source:/guest[:options]: ",
		"volume data:d":                                   "volume must be in format source:/guest[:options]: data:d",
		"mount-disk /d":                                   "mount-disk must be in format source:/guest[:options]: /d",
		"volume :/m":                                      "volume source must not be empty",
		"volume data:/d,ro":                               "volume options must use source:guest:options syntax, for example data:/d:ro",
		"volume /d:/m:ro,ro":                              "mount option `ro`/`rw` specified more than once",
		"mount-dir /d:/m:ro,rw":                           "mount option `ro`/`rw` specified more than once",
		"mount-dir /d:/m:quota=1,quota=2":                 "mount option `quota` specified more than once",
		"volume /d:/m:suid":                               `unsupported mount option "suid"`,
		"volume /d:/m:exec":                               `unsupported mount option "exec"`,
		"mount-disk /d:/m:dev":                            `unsupported mount option "dev"`,
		"volume /d:/m:size=1M":                            "mount option `size` is not valid here",
		"volume data:/d:kind=dir":                         "mount option `kind` is not valid here",
		"mount-disk /d:/m:quota=5":                        "mount option `quota` is not valid here",
		"mount-disk /d:/m:uid=1,gid=2":                    "mount option `uid` is not valid here",
		"mount-dir /d:/m:format=raw":                      "mount option `format` is not valid here",
		"mount-named n:/m:fstype=ext4":                    "mount option `fstype` is not valid here",
		"volume /d:/m:nonsense":                           "mount option `nonsense` is not valid here",
		"volume /d:/m:ro=1":                               "mount option `ro` takes no value",
		"volume /d:/m:stat-virt":                          "mount option `stat-virt` needs a value: stat-virt=VALUE",
		"volume /d:/m:stat-virt=x":                        `invalid stat-virt "x" (expected strict|relaxed|off)`,
		"volume /d:/m:host-perms=x":                       `invalid host-perms "x" (expected private|mirror)`,
		"mount-disk /d:/m:format=zip":                     `invalid format "zip" (expected raw|qcow2|vmdk)`,
		"mount-disk /d:/m:fstype=":                        "mount option `fstype` must not be empty",
		"volume /d:/m:quota=0":                            "mount option `quota` must not be 0: mount it with ro",
		"volume /d:/m:quota=x":                            `invalid size "x": use a number with M or G, such as 512M or 1.5G`,
		"volume /d:/m:uid=5":                              "mount options `uid` and `gid` must be specified together",
		"volume /d:/m:uid=5,gid=x":                        `invalid gid "x" (expected an unsigned integer)`,
		"mount-named /tmp:/d":                             "mount-named source must be a volume name, not a host path: /tmp",
		"mount-named n:/d:kind=tape":                      `invalid kind "tape" (expected dir|disk)`,
		"mount-named n:/d:kind=disk":                      "mount-named kind=disk requires size=SIZE",
		"mount-named n:/d:kind=disk,size=256,quota=3":     "mount-named kind=disk does not support quota",
		"mount-named n:/d:kind=dir,size=256":              "mount-named option `size` requires kind=disk",
		"mount-named n:/d:kind=disk,size=8,uid=1,gid=":    `invalid gid "" (expected an unsigned integer)`,
		"mount-named n:/d:kind=disk,size=8,stat-virt=off": "mount-named kind=disk does not support stat-virt=..., host-perms=..., or uid/gid",
	} {
		flag, s, _ := strings.Cut(line, " ")
		_, _, _, err := Mount(flag, s)
		assert.EqualError(t, err, want, line)
	}
}

func TestIsPath(t *testing.T) {
	for s, want := range map[string]bool{".": true, "..": true, "/a": true, "./a": true, "../a": true, "a": false, "a/b": false, ".a": false, "...": false, "": false} {
		assert.Equal(t, want, IsPath(s), s)
	}
}

func TestTmpfs(t *testing.T) {
	for s, want := range map[string]MountOptions{
		"/t": {}, "/t:64M": {SizeMiB: 64}, "/t:noexec": {Noexec: true}, "/t:1G:ro,nodev": {SizeMiB: 1024, Readonly: true, Nodev: true}, "/t:size=5": {SizeMiB: 5},
	} {
		guest, opts, err := Tmpfs(s)
		require.NoError(t, err, s)
		assert.Equal(t, "/t", guest)
		assert.Equal(t, want, opts, s)
	}
	for _, s := range []string{"", "t", "/t:x", "/t:x:ro", "/t:64M:format=raw", "/t:size=x", "/t:10M,ro", "/t:5:size=6", "/t:uid=1,gid=2"} {
		_, _, err := Tmpfs(s)
		assert.Error(t, err, s)
	}
}

func FuzzMount(f *testing.F) {
	f.Add("volume", "data:/m:ro,stat-virt=off,uid=1,gid=2")
	f.Add("mount-named", "db:/m:kind=disk,size=1.5G")
	f.Add("mount-disk", "a:b:/m:format=raw,fstype=ext4")
	f.Add("tmpfs", "/t:64M:ro")
	f.Fuzz(func(t *testing.T, flag, s string) {
		if flag == "tmpfs" {
			if guest, _, err := Tmpfs(s); err == nil {
				assert.True(t, strings.HasPrefix(guest, "/"))
			}
			return
		}
		source, guest, o, err := Mount(flag, s)
		if err != nil {
			return
		}
		assert.NotEmpty(t, source)
		assert.True(t, strings.HasPrefix(guest, "/"))
		assert.Equal(t, o.UID == nil, o.GID == nil)
		assert.True(t, strings.HasPrefix(s, source+":"+guest))
	})
}
