package launch

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/netstack/policy"
)

// old is what 0.5.7 passes for the sandbox w1 that configures little.
func old(more ...string) []string {
	const sandboxes = "/home/u/.microsandbox/sandboxes/w1/"
	return append([]string{
		"--name", "w1", "--sandbox-id", "11", "--db-path", "/home/u/.microsandbox/db/msb.db", "--db-connect-timeout-secs", "30",
		"--log-dir", sandboxes + "logs", "--runtime-dir", sandboxes + "runtime",
		"--agent-sock", "/home/u/.microsandbox/run/agent/60c5590f72eef292f9545afc28bf63ca.sock",
		"--libkrunfw-path", "/home/u/.microsandbox/lib/libkrunfw.so.5.2.1", "--vcpus", "2", "--memory-mib", "256",
		"--metrics-sample-interval-ms", "1000",
	}, more...)
}

// TestDialectsAgree says with 0.5.7's arguments what 0.6.18 was observed to say.
func TestDialectsAgree(t *testing.T) {
	for name, more := range map[string][]string{
		"run-plain.json": {
			"--env", "MSB_TMPFS=/tmp:size=128", "--env", "MSB_SECURITY_PROFILE=default",
			"--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--env", "MSB_HOSTNAME=plain", "--workdir", "/",
		},
		"run-mounts.json": {
			"--mount", "cache_4f7cfe6f:/home/u/.microsandbox/volumes/cache", "--mount", "work_0c9a453f:/home/u/project:ro,quota=4096",
			"--disk", "data_bd47413b:/home/u/disk.raw:raw",
			"--env", "MSB_TMPFS=/scratch:size=64;/tmp:size=128", "--env", "MSB_DIR_MOUNTS=cache_4f7cfe6f:/cache;work_0c9a453f:/work:ro",
			"--env", "MSB_FILE_MOUNTS=etc_file.tx_cde76b0f:file.txt:/etc/file.txt", "--env", "MSB_DISK_MOUNTS=data_bd47413b:/data",
			"--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--env", "MSB_HOSTNAME=mnt3", "--workdir", "/",
		},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := Decode(observations(t)[name].FD96)
			require.NoError(t, err)
			network, err := json.Marshal(want.Network.Config)
			require.NoError(t, err)
			inv, err := Parse(old(append(more,
				"--metrics-shm-name", want.Metrics.Slot.ShmName, "--metrics-slot", "0", "--metrics-generation", "1",
				"--rootfs-disk", *want.Rootfs.Disk, "--rootfs-disk-format", "vmdk", "--rootfs-blk", *want.Rootfs.Upper,
				"--env", "MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/vda,upper=/dev/vdb,upper_fstype=ext4",
				"--network-config", string(network), "--sandbox-slot", "1")...))
			require.NoError(t, err)
			got := inv.Config
			// Where things are, and what 0.5.7 knows nothing of.
			want.LogDir, want.RuntimeDir, want.AgentSock, want.LibkrunfwPath = got.LogDir, got.RuntimeDir, got.AgentSock, got.LibkrunfwPath
			want.BlockWritebackLimitBytes, want.BlockWritebackPoolBytes, want.FileMounts = nil, nil, nil
			want.SandboxSlot, want.Metrics.Slot.Slot, want.Metrics.Slot.Generation = 1, 0, 1
			a, err := want.Encode()
			require.NoError(t, err)
			b, err := got.Encode()
			require.NoError(t, err)
			assert.JSONEq(t, string(a), string(b))
		})
	}
}

func TestParse0507(t *testing.T) {
	inv, err := Parse(old(
		"--log-level", "debug", "--parent-watch-fd", "97", "--max-duration", "60", "--idle-timeout=5", "--forward",
		"--rootfs-path", "/root fs", "--init-path", "/sbin/init", "--exec-path", "/bin/x",
		"--env", "MSB_RLIMITS=nofile=10:20;nproc=7", "--env", "MSB_USER= 1000:1000 ", "--env", "MSB_SECURITY_PROFILE=restricted",
		"--env", "MSB_HANDOFF_INIT=auto", "--env", "MSB_HANDOFF_INIT_ARGS=-x\x1f-y z", "--env", "MSB_HANDOFF_INIT_ENV=A=1\x1fB=2=3",
		"--env", "MSB_TMPFS=/t:ro,noexec,nosuid,nodev,size=3,mode=750", "--env", "MSB_DISK_MOUNTS=d:/d:fstype=xfs,ro",
		"--env", "K=old", "--env", "EMPTY=", "--env", "K=new=er", "--", "--config-fd", "x"))
	require.NoError(t, err)
	c := inv.Config
	assert.Equal(t, Invocation{
		Name: "w1", SandboxID: 11, VCPUs: 2, MemoryMiB: 256, LogLevel: "debug",
		ConfigFD: -1, ParentWatchFD: ParentWatchFD, StartupFD: -1, LifecycleLockFD: -1, Config: c,
	}, *inv)
	assert.Equal(t, []uint64{60, 5, 1000}, []uint64{*c.Lifecycle.MaxDurationSecs, *c.Lifecycle.IdleTimeoutSecs, *c.Metrics.SampleIntervalMS})
	assert.Equal(t, []string{"/root fs", "/sbin/init", "/bin/x"}, []string{*c.Rootfs.Path, *c.InitPath, *c.ExecPath})
	assert.Equal(t, []string{"--config-fd", "x"}, c.ExecArgs)
	assert.Equal(t, []string{"/home/u/.microsandbox/sandboxes", "/home/u/.microsandbox/run"}, []string{c.SandboxesDir, c.Run()})
	assert.Nil(t, c.Network)
	assert.Nil(t, c.Metrics.Slot)
	three, mode := uint32(3), uint32(0o750)
	all := proto.MountFlags{ReadOnly: true, NoExec: true, NoSUID: true, NoDev: true}
	assert.Equal(t, proto.Bootstrap{
		Rlimits: []proto.Rlimit{{Resource: "nofile", Soft: 10, Hard: 20}, {Resource: "nproc", Soft: 7, Hard: 7}},
		User:    "1000:1000", SecurityProfile: proto.ProfileRestricted,
		HandoffInit: &proto.HandoffInit{Cmd: "auto", Args: []string{"-x", "-y z"}, Env: []proto.EnvVar{{Key: "A", Value: "1"}, {Key: "B", Value: "2=3"}}},
		TmpfsMounts: []proto.TmpfsMount{{Path: "/t", SizeMiB: &three, Mode: &mode, Flags: all}},
		DiskMounts:  []proto.DiskMount{{ID: "d", GuestPath: "/d", FSType: "xfs", Flags: proto.MountFlags{ReadOnly: true}}},
		DefaultEnv:  []proto.EnvVar{{Key: "EMPTY"}, {Key: "K", Value: "new=er"}},
	}, c.Bootstrap)

	t.Run("disk image", func(t *testing.T) {
		inv, err := Parse(old("--rootfs-disk", "/d", "--rootfs-disk-format", "raw", "--rootfs-disk-readonly", "--disable-metrics-sample",
			"--env", "MSB_BLOCK_ROOT=kind=disk-image,device=/dev/vda,fstype=ext4"))
		require.NoError(t, err)
		assert.True(t, inv.Config.Rootfs.DiskReadOnly && inv.Config.Metrics.Disabled)
		assert.Equal(t, &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/vda", FSType: "ext4"}, inv.Config.Bootstrap.BlockRoot)
	})
	t.Run("network", func(t *testing.T) {
		inv, err := Parse(old("--network-config", `{"policy":{"rules":[{"direction":"egress","destination":{"group":"link_local"},"action":"allow"}]},
			"secrets":{"secrets":[{"env_var":"K","value":"v","placeholder":"p","allowed_hosts":[{"Exact":"h"},"any"],"on_violation":{"passthrough":["any"]}}],"on_violation":"block"},
			"tls":{"enabled":true,"ca":{"cert_path":"/c","key_path":"/k"}},"ports":[{"host_port":1,"guest_port":2,"protocol":"Udp"}]}`, "--sandbox-slot", "65535"))
		require.NoError(t, err)
		n := inv.Config.Network.Config
		assert.Equal(t, uint16(65535), inv.Config.SandboxSlot)
		require.Len(t, n.Policy.Rules, 1)
		assert.Equal(t, policy.Destination{Kind: "group", Value: "link_local"}, n.Policy.Rules[0].Destination)
		assert.Equal(t, "/c", *n.TLS.InterceptCA.CertPath)
		assert.Equal(t, "udp", n.Ports[0].Protocol)
		assert.Len(t, n.Secrets.Secrets[0].AllowedHosts, 2)
	})
	t.Run("socket in the sandbox", func(t *testing.T) {
		args := old()
		args[13] = "/home/u/.microsandbox/sandboxes/w1/runtime/agent.sock"
		require.Equal(t, "--agent-sock", args[12])
		inv, err := Parse(args)
		require.NoError(t, err)
		assert.Equal(t, "/home/u/.microsandbox/run", inv.Config.Run())
	})
}

func TestParse0507Refuses(t *testing.T) {
	for name, more := range map[string][]string{
		"unknown flag":       {"--startup-fd", "98"},
		"positional":         {"x"},
		"twice":              {"--vcpus", "1"},
		"watch fd":           {"--parent-watch-fd", "5"},
		"disk":               {"--disk", "a:b"},
		"slot beyond 16 bit": {"--sandbox-slot", "65536"},
		"network":            {"--network-config", "{"},
		"no key":             {"--env", "=x"},
		"no value":           {"--env", "X"},
		"path and disk":      {"--rootfs-path", "/a", "--rootfs-disk", "/b"},
		"root twice":         {"--env", "MSB_BLOCK_ROOT=kind=disk-image,device=/a,device=/b"},
		"root without kind":  {"--env", "MSB_BLOCK_ROOT=device=/dev/vda"},
		"root unknown key":   {"--env", "MSB_BLOCK_ROOT=kind=disk-image,device=/dev/vda,x=y"},
		"mount suid":         {"--env", "MSB_DIR_MOUNTS=t:/p:suid"},
		"mount ro and rw":    {"--env", "MSB_DIR_MOUNTS=t:/p:ro,rw"},
		"mount without path": {"--env", "MSB_DIR_MOUNTS=t"},
		"mount with value":   {"--env", "MSB_DIR_MOUNTS=t:/p:ro=1"},
		"file without name":  {"--env", "MSB_FILE_MOUNTS=t::/p"},
		"fstype of a folder": {"--env", "MSB_DIR_MOUNTS=t:/p:fstype=ext4"},
		"tmpfs size":         {"--env", "MSB_TMPFS=/t:size=big"},
		"tmpfs mode":         {"--env", "MSB_TMPFS=/t:mode=9"},
		"tmpfs empty":        {"--env", "MSB_TMPFS=/t;;/u"},
		"rlimit":             {"--env", "MSB_RLIMITS=nofile"},
		"rlimit unknown":     {"--env", "MSB_RLIMITS=files=1:1"},
		"rlimit order":       {"--env", "MSB_RLIMITS=nofile=2:1"},
		"profile":            {"--env", "MSB_SECURITY_PROFILE=lax"},
		"init's environment": {"--env", "MSB_HANDOFF_INIT=auto", "--env", "MSB_HANDOFF_INIT_ENV=A"},
	} {
		_, err := Parse(old(more...))
		assert.ErrorIs(t, err, ErrUsage, name)
	}
	for i := 0; i < len(old())-2; i += 2 { // what nothing can do without
		args := old()
		switch args[i] {
		case "--name", "--sandbox-id", "--db-path", "--log-dir", "--runtime-dir", "--agent-sock":
			_, err := Parse(append(args[:i:i], args[i+2:]...))
			assert.ErrorIs(t, err, ErrUsage, args[i])
		}
	}
}
