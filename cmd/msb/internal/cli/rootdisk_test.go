package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

func TestRootDisk(t *testing.T) {
	image := func(path, format, fstype string) msb.RootDiskConfig {
		return msb.RootDisk.Disk(path, msb.RootDiskImageOptions{Format: format, Fstype: fstype})
	}
	flat := func(size uint32, fstype string, clone msb.FlatClone) msb.RootDiskConfig {
		return msb.RootDisk.Flat(msb.RootDiskFlatOptions{SizeMiB: size, Fstype: fstype, Clone: clone})
	}
	for in, want := range map[string]msb.RootDiskConfig{
		"8G":                                   msb.RootDisk.Managed(8192),
		"512":                                  msb.RootDisk.Managed(512),
		"tmpfs":                                msb.RootDisk.Tmpfs(msb.RootDiskTmpfsOptions{}),
		"tmpfs:256M":                           msb.RootDisk.Tmpfs(msb.RootDiskTmpfsOptions{SizeMiB: 256}),
		"flat":                                 flat(0, "", ""),
		"flat:1.5G":                            flat(1536, "", ""),
		"flat,clone=reflink":                   flat(0, "", msb.FlatCloneReflink),
		"flat:1G,fstype=ext4,clone=copy":       flat(1024, "ext4", msb.FlatCloneCopy),
		"./up.raw":                             image("./up.raw", "", ""),
		"dir/up":                               image("dir/up", "", ""),
		"~/up.qcow2":                           image("~/up.qcow2", "", ""),
		`dir\up.raw`:                           image(`dir\up.raw`, "", ""),
		"/srv/up:format=raw":                   image("/srv/up", "raw", ""),
		"/srv/a:b=c/up.raw":                    image("/srv/a:b=c/up.raw", "", ""),
		"./up:1:format=qcow2,fstype=xfs":       image("./up:1", "qcow2", "xfs"),
		"./with,comma.raw:fstype=ext4":         image("./with,comma.raw", "", "ext4"),
		"/srv/up.raw:fstype=ext4,format=qcow2": image("/srv/up.raw", "qcow2", "ext4"),
	} {
		got, err := rootDisk(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	for in, want := range map[string]string{
		"":                          "invalid size",
		"0":                         "must be greater than 0",
		"tmpfs:0":                   "must be greater than 0",
		"tmpfs:":                    "invalid size",
		"tmpfs:1G,clone=copy":       "`clone` is not valid here",
		"flat:x":                    "invalid size",
		"flat,clone=":               "`clone` needs a value",
		"flat,clone=copy,clone=x":   "specified more than once",
		"flat,size=1G":              "`size` is not valid here",
		"8G,clone=copy":             "`clone` is not valid here",
		"./up.raw:size=1G":          "`size` is not valid here",
		"./up.raw:format=raw,":      "`` is not valid here",
		"disk.raw":                  "the path of a disk image, such as ./disk.raw",
		"./up.raw:format=raw,ro=no": "`ro` is not valid here",
	} {
		_, err := rootDisk(in)
		assert.ErrorContains(t, err, want, in)
	}
}
