package runtime

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
)

// planned is an invocation that can be planned, with its files.
func planned(t *testing.T) *launch.Invocation {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"root.vmdk", "upper.ext4", "data.raw"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644))
	}
	return &launch.Invocation{
		Name: "a", SandboxID: 1, VCPUs: 4, MemoryMiB: 1024, ParentWatchFD: -1,
		Config: &launch.Config{
			DBPath: "/home/u/.microsandbox/db/msb.db", SandboxesDir: "/home/u/.microsandbox/sandboxes", THP: "never", LibkrunfwPath: "/lib/libkrunfw.so.5.6.1",
			Rootfs:  launch.Rootfs{Disk: pointer(filepath.Join(dir, "root.vmdk")), DiskFormat: pointer("vmdk"), Upper: pointer(filepath.Join(dir, "upper.ext4"))},
			Disks:   []string{"data_bd47413b:" + filepath.Join(dir, "data.raw") + ":raw:ro"},
			Metrics: launch.Metrics{SampleIntervalMS: pointer(uint64(1000))},
		},
	}
}

func pointer[T any](v T) *T { return &v }

func noEnv(string) string { return "" }

func TestPlan(t *testing.T) {
	inv := planned(t)
	m, err := plan(inv, noEnv)
	require.NoError(t, err)
	dir := filepath.Dir(*inv.Config.Rootfs.Disk)
	assert.Equal(t, MachineConfig{
		VCPUs: 4, MaxVCPUs: 4, MemoryMiB: 1024, MaxMemoryMiB: 1024, Words: "transparent_hugepage=never", CacheDir: "/home/u/.microsandbox/cache/gomsb", Templates: "/home/u/.microsandbox/cache/gomsb/templates", StatsInterval: time.Second,
		Bases: "/home/u/.microsandbox/sandboxes/" + inv.Name + "/bases",
		Disks: []Disk{
			{Path: filepath.Join(dir, "root.vmdk"), Format: "vmdk", ReadOnly: true, Serial: "vda", Root: true},
			{Path: filepath.Join(dir, "upper.ext4"), Format: "raw", Serial: "vdb", Root: true},
			{Path: filepath.Join(dir, "data.raw"), Format: "raw", ReadOnly: true, Serial: "data_bd47413b"},
		},
	}, m)
}

// What is in the sandbox's directory goes with it.
func TestPlanOwnDisks(t *testing.T) {
	inv := planned(t)
	dir := filepath.Dir(*inv.Config.Rootfs.Disk)
	inv.Name, inv.Config.SandboxesDir = filepath.Base(dir), filepath.Dir(dir)
	elsewhere := filepath.Join(t.TempDir(), "data.raw")
	require.NoError(t, os.WriteFile(elsewhere, []byte("x"), 0o600))
	inv.Config.Disks = []string{"data_bd47413b:" + elsewhere + ":raw"}
	m, err := plan(inv, noEnv)
	require.NoError(t, err)
	assert.True(t, m.Disks[1].Own)
	assert.False(t, m.Disks[2].Own)
}

func TestPlanRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*launch.Config)
		stage  launch.Stage
		text   string
	}{
		"writable vmdk disk": {func(c *launch.Config) { c.Disks = []string{"d:/d:vmdk"} }, launch.StageMount, "a writable vmdk"},
		"vmdk upper":         {func(c *launch.Config) { c.Rootfs.UpperFormat = pointer("vmdk") }, launch.StageImage, "a writable layer of format vmdk"},
		"odd format":         {func(c *launch.Config) { c.Rootfs.DiskFormat = pointer("iso") }, launch.StageImage, `disk format "iso"`},
		"bad disk string":    {func(c *launch.Config) { c.Disks = []string{"x"} }, launch.StageMount, "want id:host:format"},
		"missing upper":      {func(c *launch.Config) { c.Rootfs.Upper = pointer("/no/upper") }, launch.StageImage, "/no/upper"},
		"bad mount":          {func(c *launch.Config) { c.Mounts = []string{"t"} }, launch.StageMount, "want tag:host"},
		"bad file mount":     {func(c *launch.Config) { c.FileMounts = []launch.FileMount{{Mount: "t"}} }, launch.StageMount, "want tag:host"},
		"one tag twice":      {func(c *launch.Config) { c.Mounts = []string{"t:/a", "t:/b"} }, launch.StageMount, `two shares have the tag "t"`},
		"tag of the runtime": {func(c *launch.Config) { c.RuntimeDir, c.Mounts = "/r", []string{"msb_runtime:/b"} }, launch.StageMount, "msb_runtime"},
		"vsock datagrams": {func(c *launch.Config) {
			c.Vsock = []launch.VsockRoute{{HostSocket: "/s", Port: 1, SocketType: "dgram"}}
		}, launch.StageNetwork, "type dgram"},
		"vsock port twice": {func(c *launch.Config) {
			c.Vsock = []launch.VsockRoute{{HostSocket: "/s", Port: 1}, {HostSocket: "/t", Port: 1}}
		}, launch.StageNetwork, "routed twice"},
		"vsock relative path": {func(c *launch.Config) { c.Vsock = []launch.VsockRoute{{HostSocket: "s", Port: 1}} }, launch.StageNetwork, "absolute path"},
		"multi-tenant": {func(c *launch.Config) {
			c.DeploymentProfile, c.Vsock = "multi_tenant", []launch.VsockRoute{{HostSocket: "/s", Port: 1}}
		}, launch.StageNetwork, "multi_tenant"},
		"vsock heartbeat": {func(c *launch.Config) { c.Vsock = []launch.VsockRoute{{HostSocket: "/s", Port: HeartbeatPort}} }, launch.StageNetwork, "belongs to the guest agent"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := planned(t)
			c.change(inv.Config)
			_, err := plan(inv, noEnv)
			var boot *launch.BootError
			require.ErrorAs(t, err, &boot)
			assert.Equal(t, c.stage, boot.Stage)
			assert.Contains(t, boot.Message, c.text)
		})
	}
}

func TestStatsIntervals(t *testing.T) {
	inv := planned(t)
	for _, c := range []struct {
		ms       *uint64
		disabled bool
		want     time.Duration
	}{{nil, false, 0}, {pointer(uint64(0)), false, 0}, {pointer(uint64(250)), false, 250 * time.Millisecond},
		{pointer(uint64(250)), true, 0}, {pointer(^uint64(0)), false, time.Hour}} {
		inv.Config.Metrics = launch.Metrics{SampleIntervalMS: c.ms, Disabled: c.disabled}
		m, err := plan(inv, noEnv)
		require.NoError(t, err)
		assert.Equal(t, c.want, m.StatsInterval)
	}
}

// The official bundle's path expresses no wish; anything else does.
func TestKernelChoice(t *testing.T) {
	for _, c := range []struct {
		flag, env, bundle, choice string
		want                      string
	}{
		{"", "", "/home/u/lib/libkrunfw.so.5.6.1", "", ""},
		{"", "", "", "", ""},
		{"", "", "/home/u/lib/libkrunfw.so.5.6.1", "bundle", "/home/u/lib/libkrunfw.so.5.6.1"},
		{"", "", "/boot/vmlinux", "", "/boot/vmlinux"},
		{"", "/env/bzImage", "/boot/vmlinux", "", "/env/bzImage"},
		{"/flag/vmlinux", "/env/bzImage", "/boot/vmlinux", "bundle", "/flag/vmlinux"},
	} {
		env := map[string]string{"MSB_KERNEL": c.env, "MSB_GOMSB_KERNEL": c.choice}
		inv := &launch.Invocation{Kernel: c.flag, Config: &launch.Config{LibkrunfwPath: c.bundle}}
		assert.Equal(t, c.want, kernelPath(inv, func(k string) string { return env[k] }), "%+v", c)
	}
}

// A sandbox of a bare disk boots from it; any other root is what its controller says.
func TestBootstrapRoot(t *testing.T) {
	disks := []Disk{{Path: "/d"}}
	assert.Equal(t, &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/vda"}, bootstrapFor(&launch.Config{}, &MachineConfig{Disks: disks}, nil).BlockRoot)
	given := &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/vdc"}
	assert.Equal(t, given, bootstrapFor(&launch.Config{Bootstrap: proto.Bootstrap{BlockRoot: given}}, &MachineConfig{Disks: disks}, nil).BlockRoot)
	assert.Nil(t, bootstrapFor(&launch.Config{}, &MachineConfig{}, nil).BlockRoot)
}

func TestFailureCodes(t *testing.T) {
	assert.Equal(t, 127, failureCode(proto.FailNotFound))
	assert.Equal(t, 126, failureCode(proto.FailPermissionDenied))
	assert.Equal(t, 126, failureCode(proto.FailNotExecutable))
	assert.Equal(t, 1, failureCode("other"))
}

func TestStages(t *testing.T) {
	for kind, want := range map[string]launch.Stage{
		"mount": launch.StageMount, "config": launch.StageConfig, "network": launch.StageNetwork, "image": launch.StageImage,
		"build_vm": launch.StageOther, "": launch.StageOther, "malformed_message": launch.StageOther,
	} {
		assert.Equal(t, want, stageOf(kind), kind)
	}
}

// What the guest finds at boot does not tell whose machine it is, if that may have a
// template.
func TestPlanTemplates(t *testing.T) {
	inv := planned(t)
	inv.Config.RuntimeDir, inv.Config.Mounts = "/run", []string{"work_0c9a453f:/work"}
	inv.Config.Bootstrap.DirMounts = []proto.DirMount{{Tag: "work_0c9a453f", GuestPath: "/w"}, {Tag: "other", GuestPath: "/o"}}
	inv.Config.Bootstrap.FileMounts = []proto.FileMount{{Tag: "work_0c9a453f", Filename: "f", GuestPath: "/f"}}
	m, err := plan(inv, noEnv)
	require.NoError(t, err)
	assert.Equal(t, "/home/u/.microsandbox/cache/gomsb/templates", m.Templates)
	assert.Equal(t, "msb_runtime", m.Shares[0].Tag)
	assert.Equal(t, "msb_share_1", m.Shares[1].Tag)
	b := bootstrapFor(inv.Config, &m, nil)
	assert.Equal(t, []proto.DirMount{{Tag: "msb_share_1", GuestPath: "/w"}, {Tag: "other", GuestPath: "/o"}}, b.DirMounts)
	assert.Equal(t, "msb_share_1", b.FileMounts[0].Tag)
	assert.Equal(t, "work_0c9a453f", inv.Config.Bootstrap.DirMounts[0].Tag, "the configuration stays as it is")

	for name, value := range map[string]string{"MSB_GOMSB_TEMPLATES": "off", "MSB_KERNEL": "/vmlinux", "MSB_KRUN_KERNEL_CMDLINE": "debug"} {
		m, err := plan(inv, func(n string) string {
			if n == name {
				return value
			}
			return ""
		})
		require.NoError(t, err)
		assert.Empty(t, m.Templates, name)
		assert.Equal(t, "work_0c9a453f", m.Shares[1].Tag, name)
		assert.Equal(t, inv.Config.Bootstrap.DirMounts, bootstrapFor(inv.Config, &m, nil).DirMounts, name)
	}
}
