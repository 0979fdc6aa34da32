//go:build linux

package boot

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

func ptr[T any](v T) *T { return &v }

func targets(p mountPlan) []string {
	var out []string
	for _, m := range p {
		out = append(out, m.target)
	}
	return out
}

func TestPlanOrder(t *testing.T) {
	t.Parallel()
	plan, err := planMounts(&proto.Bootstrap{
		DirMounts:   []proto.DirMount{{Tag: "a", GuestPath: "/data/x/y"}, {Tag: "b", GuestPath: "/data"}},
		FileMounts:  []proto.FileMount{{Tag: "c", Filename: "f", GuestPath: "/data/x/file"}},
		DiskMounts:  []proto.DiskMount{{ID: "d", GuestPath: "//data/./x/", FSType: "ext4", Flags: proto.MountFlags{ReadOnly: true, NoExec: true}}},
		TmpfsMounts: []proto.TmpfsMount{{Path: "/tmp", SizeMiB: ptr(uint32(3)), Flags: proto.MountFlags{NoSUID: true, NoDev: true}}, {Path: "/b", Mode: ptr(uint32(0o41750))}},
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"/b", "/data", "/tmp", "/data/x", "/data/x/file", "/data/x/y"}, targets(plan))
	assert.Equal(t, "mode=1750", plan[0].data)
	assert.Equal(t, "size=3145728,mode=1777", plan[2].data)
	assert.Equal(t, uintptr(unix.MS_RELATIME|unix.MS_NOSUID|unix.MS_NODEV), plan[2].flags)
	assert.Equal(t, mount{target: "/data/x", kind: diskMount, tag: "d", fstype: "ext4", flags: unix.MS_RELATIME | unix.MS_RDONLY | unix.MS_NOEXEC}, plan[3])
	assert.Equal(t, "f", plan[4].filename)
}

func TestPlanRefusals(t *testing.T) {
	t.Parallel()
	dir := func(path string) proto.DirMount { return proto.DirMount{Tag: "t", GuestPath: path} }
	file := func(path string) proto.FileMount { return proto.FileMount{Tag: "t", Filename: "f", GuestPath: path} }
	for text, b := range map[string]proto.Bootstrap{
		"is not an absolute path":      {DirMounts: []proto.DirMount{dir("data")}},
		"climbs":                       {DirMounts: []proto.DirMount{dir("/a/../b")}},
		"is the root":                  {DirMounts: []proto.DirMount{dir("//./")}},
		"two mounts on /a":             {DirMounts: []proto.DirMount{dir("/a"), dir("/a/")}},
		"two mounts on /a/b":           {DirMounts: []proto.DirMount{dir("/a/b")}, TmpfsMounts: []proto.TmpfsMount{{Path: "/a//b"}}},
		"lies below /a/f":              {FileMounts: []proto.FileMount{file("/a/f")}, TmpfsMounts: []proto.TmpfsMount{{Path: "/a/f/x/y"}}},
		"/f/g lies below /f, which is": {FileMounts: []proto.FileMount{file("/f"), file("/f/g")}},
	} {
		_, err := planMounts(&b)
		assert.ErrorContains(t, err, text)
	}
	_, err := planMounts(&proto.Bootstrap{FileMounts: []proto.FileMount{file("/a/f")}, DirMounts: []proto.DirMount{dir("/a"), dir("/a/ff")}})
	require.NoError(t, err)
}

func FuzzPlan(f *testing.F) {
	f.Add("/a", "/a/b", "/c", "/a/b/c")
	f.Add("/", "/..", "//", "/a/./b/")
	f.Fuzz(func(t *testing.T, dir, file, disk, tmpfs string) {
		b := &proto.Bootstrap{
			DirMounts:   []proto.DirMount{{Tag: "t", GuestPath: dir}},
			FileMounts:  []proto.FileMount{{Tag: "t", Filename: "f", GuestPath: file}},
			DiskMounts:  []proto.DiskMount{{ID: "d", GuestPath: disk}},
			TmpfsMounts: []proto.TmpfsMount{{Path: tmpfs}},
		}
		plan, err := planMounts(b)
		if err != nil {
			return
		}
		require.Len(t, plan, 4)
		for n, m := range plan {
			assert.True(t, strings.HasPrefix(m.target, "/") && m.target != "/")
			assert.NotContains(t, strings.Split(m.target, "/"), "..")
			for _, later := range plan[n+1:] {
				assert.False(t, strings.HasPrefix(m.target+"/", later.target+"/"), "%s before %s", m.target, later.target)
				assert.False(t, m.kind == fileMount && strings.HasPrefix(later.target, m.target+"/"))
			}
		}
	})
}

// FuzzBootstrap decodes a bootstrap as PID 1 does and plans its mounts.
func FuzzBootstrap(f *testing.F) {
	for _, b := range []proto.Bootstrap{{}, {
		BlockRoot:   &proto.BlockRoot{Kind: proto.RootOCIErofs, Lower: "/dev/vda", Upper: &proto.Upper{Kind: proto.UpperTmpfs}},
		TmpfsMounts: []proto.TmpfsMount{{Path: "/tmp"}}, Hostname: "h", DefaultEnv: []proto.EnvVar{{Key: "A", Value: "1"}},
		Network:     &proto.Network{Interface: "eth0", MTU: 1500},
		HandoffInit: &proto.HandoffInit{Cmd: "auto"},
	}} {
		p, err := proto.AppendPayload(nil, b)
		require.NoError(f, err)
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := proto.Message{Generation: proto.Generation, Type: proto.TypeBootstrap, Payload: payload}.Append(nil)
		if err != nil {
			return
		}
		b, err := receive(&script{in: m})
		if err != nil {
			return
		}
		_, _ = planMounts(b)
		env := environment(b.DefaultEnv)
		assert.True(t, slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PATH=") && strings.Contains(v, "/.msb/scripts") }))
		assert.True(t, strings.HasPrefix(hosts(b), "127.0.0.1\tlocalhost"))
		_ = resolvConf(b.Network)
	})
}
