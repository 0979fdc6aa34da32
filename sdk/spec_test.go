package microsandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/oci"
)

var observedHome = home{root: "/home/u/.microsandbox"}

// observation is what the official 0.6.18 did with a command line.
type observation struct {
	FD96 map[string]any `json:"fd96"`
	Row  map[string]any `json:"sandbox_row_config"`
}

func observed(t *testing.T, name string) observation {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "internal", "launch", "testdata", "observed-0.6.18", name+".json"))
	require.NoError(t, err)
	var o observation
	require.NoError(t, json.Unmarshal(b, &o))
	return o
}

func observedImage() *oci.Image {
	manifest := digest.Digest("sha256:dba722077e20911f1ffe45b80846aaed7f3f0ad0645d31fa589a0f27a4ec77c1")
	return &oci.Image{
		ManifestDigest: manifest, VMDK: observedHome.path("cache", "vmdk", strings.Replace(manifest.String(), ":", "_", 1)+".vmdk"),
		Config: oci.Config{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, Cmd: []string{"/bin/sh"}, WorkingDir: "/"},
	}
}

// generic turns a value into what its JSON decodes to.
func generic(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	return m
}

// at returns the map at a path of keys, to change it.
func at(m map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		m = m[k].(map[string]any)
	}
	return m
}

func TestSameConfigurationAsOfficial(t *testing.T) {
	never := WithPullPolicy(PullPolicyNever)
	for name, c := range map[string]struct {
		slot  uint16
		opts  []SandboxOption
		adapt func(observation)
	}{
		"run-plain":       {1, []SandboxOption{never}, nil},
		"run-root-tmpfs":  {5, []SandboxOption{never, WithRootDisk(RootDisk.Tmpfs(RootDiskTmpfsOptions{SizeMiB: 256}))}, nil},
		"run-init":        {9, []SandboxOption{never, WithInit(Init.Auto())}, nil},
		"create-detached": {2, []SandboxOption{never, WithCPUs(2), WithMaxCPUs(4), WithMemory(512), WithMaxMemory(2048)}, nil},
		"run-identity": {4, []SandboxOption{
			never, WithUser("nobody"), WithWorkdir("/tmp"), WithEnv(map[string]string{"FOO": "bar"}), WithHostname("box"), WithLabel("team", "x"),
			WithMaxDuration(time.Hour), WithIdleTimeout(10 * time.Minute), WithSecurityProfile(SecurityProfileRestricted), WithEntrypoint("/bin/sh"),
		}, func(o observation) {
			at(o.Row, "runtime")["scripts"] = map[string]any{} // of another release
			o.FD96["mounts"] = []any{}
		}},
		"run-detached-command": {6, []SandboxOption{never, WithCmd("/bin/sleep", "1000"), WithStartupDefault()}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := observed(t, name)
			if c.adapt != nil {
				c.adapt(o)
			}
			cfg := &SandboxConfig{Name: o.Row["name"].(string), Image: testImage}
			for _, opt := range c.opts {
				opt(cfg)
			}
			require.NoError(t, cfg.validate())
			img := observedImage()
			s, err := newSpec(cfg, img)
			require.NoError(t, err)
			assert.Equal(t, o.Row, generic(t, s))

			launched, err := s.launchConfig(observedHome, c.slot, img.VMDK)
			require.NoError(t, err)
			if cfg.startup != nil {
				launched.Startup, err = s.startup(cfg.startup)
				require.NoError(t, err)
			}
			text, err := launched.Encode()
			require.NoError(t, err)
			var got map[string]any
			require.NoError(t, json.Unmarshal(text, &got))
			// The shared registry of metrics and the write-back pool are the controller's choice.
			at(o.FD96, "metrics")["slot"] = nil
			delete(o.FD96, "block_writeback_limit_bytes")
			delete(o.FD96, "block_writeback_pool_bytes")
			assert.Equal(t, o.FD96, got)
		})
	}
}

func TestDiskImageRoot(t *testing.T) {
	o := observed(t, "run-root-image")
	cfg := &SandboxConfig{Name: "dr", Image: "/srv/disk.raw"}
	s, err := newSpec(cfg, nil)
	require.NoError(t, err)
	at(o.Row, "image", "DiskImage")["path"] = "/srv/disk.raw" // ours does not depend on where msb was started
	assert.Equal(t, o.Row, generic(t, s))
	launched, err := s.launchConfig(observedHome, 8, "")
	require.NoError(t, err)
	text, err := launched.Encode()
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(text, &got))
	at(o.FD96, "rootfs")["disk"] = "/srv/disk.raw"
	assert.Equal(t, o.FD96["rootfs"], got["rootfs"])
	assert.Equal(t, o.FD96["bootstrap"], got["bootstrap"])
}

func TestMountsAsOfficial(t *testing.T) {
	o := observed(t, "run-mounts")
	cfg := &SandboxConfig{Name: "m", Image: testImage}
	WithMounts(map[string]MountConfig{
		"/scratch": Mount.Tmpfs(TmpfsOptions{SizeMiB: 64}), "/data": Mount.Disk("/home/u/disk.raw", DiskOptions{Format: "raw"}),
		"/work": Mount.Bind("/home/u/project", MountOptions{Readonly: true}), "/etc/file.txt": Mount.Bind("/home/u/project/file.txt", MountOptions{}),
		"/cache": Mount.NamedWith("cache", MountOptions{}, NamedVolumeOptions{Mode: "ensure-exists"}),
	})(cfg)
	require.NoError(t, cfg.validate())
	s, err := newSpec(cfg, observedImage())
	require.NoError(t, err)
	assert.Equal(t, o.Row["mounts"], generic(t, s)["mounts"])
	s.volumes = map[string]foundVolume{"cache": {store.Volume{Name: "cache", Kind: "dir"}, observedHome.volumes()}}
	dir := t.TempDir() // in the place of /home/u/project
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file.txt"), nil, 0o644))
	for i := range s.Mounts {
		s.Mounts[i].Host = strings.Replace(s.Mounts[i].Host, "/home/u/project", dir, 1)
	}
	launched, err := s.launchConfig(observedHome, 1, "/x.vmdk")
	require.NoError(t, err)
	text, err := launched.Encode()
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(text, &got))
	assert.Equal(t, o.FD96["disks"], got["disks"])
	here := func(v any) any {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		var out any
		require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(string(text), "/home/u/project", dir)), &out))
		return out
	}
	assert.Equal(t, here(o.FD96["mounts"]), got["mounts"])
	assert.Equal(t, here(o.FD96["file_mounts"]), got["file_mounts"])
	assert.Equal(t, at(o.FD96, "bootstrap")["dir_mounts"], at(got, "bootstrap")["dir_mounts"])
	assert.Equal(t, at(o.FD96, "bootstrap")["file_mounts"], at(got, "bootstrap")["file_mounts"])
	assert.Equal(t, at(o.FD96, "bootstrap")["disk_mounts"], at(got, "bootstrap")["disk_mounts"])
	assert.Equal(t, at(o.FD96, "bootstrap")["tmpfs_mounts"], at(got, "bootstrap")["tmpfs_mounts"])
}

func TestBindsThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "link")))
	for path, want := range map[string]string{"/nothing": "no such file", dir + "/link": "is a symbolic link", "/dev/null": "neither a directory nor a regular file"} {
		cfg := &SandboxConfig{Name: "m", Image: testImage}
		WithMounts(map[string]MountConfig{"/m": Mount.Bind(path, MountOptions{})})(cfg)
		s, err := newSpec(cfg, observedImage())
		require.NoError(t, err)
		_, err = s.launchConfig(observedHome, 1, "/x.vmdk")
		assert.True(t, IsKind(err, ErrInvalidConfig), path)
		assert.ErrorContains(t, err, want)
	}
}

func TestSpecsOfOtherReleases(t *testing.T) {
	files, err := filepath.Glob("../internal/launch/testdata/observed-0.6.18/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		text, err := json.Marshal(observed(t, name).Row)
		require.NoError(t, err)
		var c SandboxConfig
		require.NoError(t, json.Unmarshal(text, &c), name)
		assert.NotEmpty(t, c.Name, name)
		assert.Equal(t, uint8(1), min(c.CPUs, 1), name)
		assert.NotEmpty(t, c.Image+c.ImageBind, name)
	}
	s, err := parseSpec(`{"image":{"Tape":{"reel":7}}}`)
	require.NoError(t, err)
	_, err = s.launchConfig(observedHome, 1, "")
	assert.True(t, IsKind(err, ErrUnsupportedOperation))
	_, err = parseSpec("{")
	assert.Error(t, err)
}

func TestConfigRoundTrip(t *testing.T) {
	in := &SandboxConfig{Name: "a", Image: testImage}
	for _, o := range []SandboxOption{
		WithCPUs(2), WithMaxCPUs(3), WithMemory(256), WithMaxMemory(512), WithTHP(THPNever), WithWorkdir("/w"), WithShell("/bin/bash"), WithUser("u"), WithHostname("h"),
		WithSecurityProfile(SecurityProfileRestricted), WithDeploymentProfile(DeploymentProfileMultiTenant), WithEnv(map[string]string{"A": "1"}), WithLabel("l", "v"), WithEntrypoint("e"), WithCmd("c"),
		WithInit(Init.Cmd("/sbin/init", InitOptions{Args: []string{"x"}, Env: map[string]string{"I": "1"}})), WithRlimits(Rlimit{"nofile", 1, 2}),
		WithMounts(map[string]MountConfig{"/t": Mount.Tmpfs(TmpfsOptions{SizeMiB: 1, Noexec: true}), "/d": Mount.Disk("/d.raw", DiskOptions{Format: "raw", Fstype: "ext4", Readonly: true}),
			"/b": Mount.Bind("/srv", MountOptions{QuotaMiB: 5, FollowRootSymlinks: true, Nodev: true, StatVirtualization: StatVirtualizationRelaxed, HostPermissions: HostPermissionsMirror}),
			"/n": Mount.Named("vol", MountOptions{Readonly: true, StatVirtualization: StatVirtualizationOff, HostPermissions: HostPermissionsPrivate, Owner: &MountOwner{5, 6}})}),
		WithPullPolicy(PullPolicyNever), WithLogLevel(LogLevelDebug), WithMaxDuration(1500 * time.Millisecond), WithIdleTimeout(time.Minute), WithEphemeral(true),
		WithRootDisk(RootDisk.Tmpfs(RootDiskTmpfsOptions{SizeMiB: 64})),
	} {
		o(in)
	}
	s, err := newSpec(in, observedImage())
	require.NoError(t, err)
	text, err := json.Marshal(s)
	require.NoError(t, err)
	var out SandboxConfig
	require.NoError(t, json.Unmarshal(text, &out))
	assert.Equal(t, 2*time.Second, out.MaxDuration, "whole seconds, rounded up")
	out.MaxDuration = in.MaxDuration
	delete(out.Volumes, "/tmp") // of every OCI image
	delete(out.Env, "PATH")     // of this one
	out.envOrder, out.volumeOrder, in.envOrder, in.volumeOrder = nil, nil, nil, nil
	assert.Equal(t, in, &out)
	assert.Equal(t, []string{"e", "c"}, out.DefaultCommand())
	assert.Equal(t, RootDiskKindTmpfs, out.RootDisk.Kind())
	assert.Equal(t, MountKindTmpfs, out.Volumes["/t"].Kind())
	assert.Equal(t, MountKindDisk, out.Volumes["/d"].Kind())
	assert.Equal(t, MountKindBind, out.Volumes["/b"].Kind())
	assert.Equal(t, MountKindNamed, out.Volumes["/n"].Kind())
}

func TestImageDefaultsGiveWay(t *testing.T) {
	img := observedImage()
	img.Config = oci.Config{
		Env: []string{"A=image", "B=image", "broken"}, Entrypoint: []string{"ie"}, Cmd: []string{"ic"}, WorkingDir: "/iw", User: "iu",
		Labels: map[string]string{"x": "image", "y": "image", "service.z": "reserved", "": "empty"},
	}
	c := &SandboxConfig{Name: "a", Image: testImage}
	WithEnv(map[string]string{"B": "mine"})(c)
	WithLabel("y", "mine")(c)
	s, err := newSpec(c, img)
	require.NoError(t, err)
	assert.Equal(t, []keyValue{{"A", "image"}, {"B", "mine"}}, s.Env)
	assert.Equal(t, map[string]string{"x": "image", "y": "mine"}, s.Labels)
	assert.Equal(t, []string{"ie", "ic"}, s.defaultCommand())
	assert.Equal(t, "/iw", *s.Runtime.Workdir)
	assert.Equal(t, "iu", *s.Runtime.User)

	WithEntrypoint()(c)
	WithCmd()(c)
	WithoutNetwork()(c)
	s, err = newSpec(c, img)
	require.NoError(t, err)
	assert.Empty(t, s.defaultCommand(), "cleared on purpose")
	network, err := s.networkConfig()
	require.NoError(t, err)
	assert.Equal(t, policy.NoTraffic(), network.Config.Policy)
}

func TestHostname(t *testing.T) {
	s := &spec{Name: strings.Repeat("n", 128)}
	h := s.hostname()
	assert.Len(t, h, 64)
	assert.Regexp(t, `^n{55}-[0-9a-f]{8}$`, h)
	assert.Equal(t, h, s.hostname())
	s.Name = "short"
	assert.Equal(t, "short", s.hostname())
	s.Runtime.Hostname = pointer("mine")
	assert.Equal(t, "mine", s.hostname())
}
