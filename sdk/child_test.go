package microsandbox

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/descriptor"
)

// savedText is a sandbox with everything that a copy has otherwise.
const savedText = `{"name":"box","image":{"Oci":{"reference":"mini:latest"}},"resources":{"cpus":2,"memory_mib":512,"max_cpus":4,"max_memory_mib":1024},
	"runtime":{"shell":"/bin/sh","hostname":null,"later":"kept"},"labels":{"tier":"db","old":"1"},
	"mounts":[{"type":"Bind","host":"/srv","guest":"/srv","options":{"readonly":true}},{"type":"Named","name":"data","guest":"/data","options":{"noexec":true}},
		{"type":"DiskImage","host":"/u/x.qcow2","guest":"/x","format":"Qcow2","fstype":null,"options":{}}],
	"network":{"enabled":true,"ports":[{"host_port":80,"guest_port":80,"protocol":"tcp","host_bind":"127.0.0.1"}],"later":7},
	"lifecycle":{"ephemeral":true,"max_duration_secs":9,"idle_timeout_secs":null},"manifest_digest":"sha256:x","unknown":{"a":1}}`

func savedBox() *savedSandbox {
	return &savedSandbox{Version: savedVersion, Config: json.RawMessage(savedText), Disks: []savedDisk{
		{Index: 1, Format: "raw", File: upperName},
		{Index: 2, Guest: "/data", Format: "raw", Fstype: "ext4", File: "disk-2.raw"},
		{Index: 3, Guest: "/x", Format: "qcow2", File: "disk-3.qcow2"},
	}}
}

func configOf(opts ...SandboxOption) *SandboxConfig {
	c := &SandboxConfig{Name: "kid"}
	for _, o := range opts {
		o(c)
	}
	return c
}

func TestChildOfASavedSandbox(t *testing.T) {
	h := newHome(t)
	k, err := savedBox().child(h, configOf())
	require.NoError(t, err)
	dir := h.sandbox("kid")
	assert.JSONEq(t, `{"name":"kid","image":{"Oci":{"reference":"mini:latest"}},"resources":{"cpus":2,"memory_mib":512,"max_cpus":4,"max_memory_mib":1024},
		"runtime":{"shell":"/bin/sh","hostname":null,"later":"kept"},"labels":{"tier":"db","old":"1"},
		"mounts":[{"type":"Bind","host":"/srv","guest":"/srv","options":{"readonly":true}},
			{"type":"DiskImage","host":"`+dir+`/disk-2.raw","guest":"/data","format":"Raw","fstype":"ext4","options":{"noexec":true}},
			{"type":"DiskImage","host":"`+dir+`/disk-3.qcow2","guest":"/x","format":"Qcow2","fstype":null,"options":{}}],
		"network":{"enabled":true,"ports":[],"later":7},
		"lifecycle":{"ephemeral":false,"max_duration_secs":9,"idle_timeout_secs":null},"manifest_digest":"sha256:x","unknown":{"a":1}}`, k.text)
	assert.Equal(t, "kid", k.spec.hostname())

	k, err = savedBox().child(h, configOf(WithHostname("host"), WithLabel("old", "2"), WithLabel("new", ""), WithEphemeral(true), WithPorts(map[uint16]uint16{8080: 80}), WithCPUs(2), WithMemory(512), WithMaxDuration(60e9), WithLogLevel(LogLevelDebug), WithNetwork(&NetworkConfig{PortBindings: []PortBinding{{HostPort: 8081, GuestPort: 81}}})))
	require.NoError(t, err)
	assert.Equal(t, "host", k.spec.hostname())
	assert.Equal(t, map[string]string{"tier": "db", "old": "2", "new": ""}, k.spec.Labels)
	assert.True(t, k.spec.Lifecycle.Ephemeral)
	assert.EqualValues(t, 60, *k.spec.Lifecycle.MaxDurationSecs)
	c := k.spec.config()
	assert.Equal(t, []PortBinding{{"127.0.0.1", 8080, 80, PortProtocolTCP}, {"127.0.0.1", 8081, 81, PortProtocolTCP}}, c.PortBindings)
	assert.Equal(t, LogLevelDebug, c.LogLevel)
}

// A machine that goes on is what it is.
func TestChildrenCannotBeOtherwise(t *testing.T) {
	h := newHome(t)
	for name, o := range map[string]SandboxOption{
		"CPUs": WithCPUs(3), "MaxMemoryMiB": WithMaxMemory(4096), "Env": WithEnv(map[string]string{"A": "1"}), "Volumes": WithMounts(map[string]MountConfig{"/a": {Tmpfs: true}}),
		"Image": WithImage("other"), "Network": WithNetwork(&NetworkConfig{Strict: true}), "DisableNetwork": WithoutNetwork(), "Cmd": WithCmd("x"), "User": WithUser("u"), "Scripts": WithScripts(map[string]string{"a": "b"}),
		"startup command": WithStartupDefault(), "Patches": WithPatches(Patch.Mkdir("/a", PatchOptions{})), "label key": WithLabel("", "x"), "secret T": WithSecrets(Secret.Env("T", "v", SecretEnvOptions{})),
		"hostname is too long": WithHostname(string(make([]byte, 65))), "sandbox name": func(c *SandboxConfig) { c.Name = "a/b" },
	} {
		_, err := savedBox().child(h, configOf(o))
		require.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", name, err)
		assert.ErrorContains(t, err, name)
	}
	s := savedBox()
	s.Disks[1].Guest = "/elsewhere"
	_, err := s.child(h, configOf())
	assert.ErrorContains(t, err, "/elsewhere")
	s = savedBox()
	s.Config = json.RawMessage(`{"name":"box","network":{"enabled":false}}`)
	s.Disks = nil
	_, err = s.child(h, configOf(WithPorts(map[uint16]uint16{1: 2})))
	assert.ErrorContains(t, err, "has no network")
}

// Secrets are resolved anew.
func TestSecretsOfChildren(t *testing.T) {
	h := newHome(t)
	t.Setenv("GOMSB_TEST_SECRET", "from here")
	text, err := configOf(WithSecrets(Secret.Env("KEPT", "nowhere", SecretEnvOptions{AllowHosts: []string{"a.example"}}), Secret.FromEnv("GOMSB_TEST_SECRET", SecretEnvOptions{AllowHosts: []string{"b.example"}}))).networkSpec()
	require.NoError(t, err)
	s := savedBox()
	s.Disks, s.Config = nil, json.RawMessage(`{"name":"box","network":`+string(text)+`}`)
	_, err = s.child(h, configOf())
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	assert.ErrorContains(t, err, `WithSecrets(Secret.Env("KEPT"`)
	k, err := s.child(h, configOf(WithSecrets(Secret.Env("KEPT", "again", SecretEnvOptions{}))))
	require.NoError(t, err)
	assert.NotContains(t, k.text, "again")
	n, err := k.spec.networkConfig()
	require.NoError(t, err)
	assert.EqualValues(t, "again", n.Config.Secrets.Secrets[0].Value)
	assert.EqualValues(t, "from here", n.Config.Secrets.Secrets[1].Value)
	_, err = s.child(h, configOf(WithSecrets(Secret.Env("KEPT", "again", SecretEnvOptions{}), Secret.Env("GOMSB_TEST_SECRET", "x", SecretEnvOptions{}))))
	assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
}

func TestDisksOfRoots(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*savedDisk{
		`{"Oci":{"reference":"a"}}`:                                                                                {Index: 1, Format: "raw", File: "upper.ext4"},
		`{"Oci":{"reference":"a","root_disk":{"kind":"tmpfs"}}}`:                                                   {},
		`{"Oci":{"reference":"a","root_disk":{"kind":"flat"}}}`:                                                    {Format: "raw", File: "rootfs.raw"},
		`{"Oci":{"reference":"a","root_disk":{"kind":"disk-image","path":"/p","format":"Qcow2","fstype":"ext4"}}}`: {Index: 1, Format: "qcow2", Fstype: "ext4", File: "root.qcow2"},
		`{"DiskImage":{"path":"/p","format":"Raw","fstype":null}}`:                                                 {Format: "raw", File: "root.raw"},
		`{"DiskImage":{"path":"/p","format":"Vmdk","fstype":null}}`:                                                {Format: "vmdk"},
		`{"Bind":{"path":"/p"}}`:                                                                                   nil,
	} {
		var i imageSource
		require.NoError(t, json.Unmarshal([]byte(text), &i))
		assert.Equal(t, want, i.root(), text)
	}
}

func TestBranchNames(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct {
		names []string
		opts  []SandboxOption
	}{
		"needs a name":       {nil, nil},
		"both be called box": {[]string{"a", "box"}, nil},
		"both be called a":   {[]string{"a", "b", "a"}, nil},
		"for one copy only":  {[]string{"a", "b"}, []SandboxOption{WithPorts(map[uint16]uint16{80: 80})}},
		"replaces no other":  {[]string{"a"}, []SandboxOption{WithReplace()}},
		"use Restore":        {[]string{"a"}, []SandboxOption{WithFromSnapshot("s")}},
	} {
		_, err := branchConfigs("box", c.names, c.opts)
		require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
		assert.ErrorContains(t, err, text)
	}
	all, err := branchConfigs("box", []string{"a", "b"}, []SandboxOption{WithPortBindings(PortBinding{GuestPort: 80})})
	require.NoError(t, err)
	assert.Equal(t, "b", all[1].Name)
}

// What a sandbox of another's making wants of this host is given to nobody unasked.
func TestTrust(t *testing.T) {
	h := newHome(t)
	k, err := savedBox().child(h, configOf())
	require.NoError(t, err)
	err = h.checkTrust(configOf(), "/snap", k.spec, false)
	require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	assert.ErrorContains(t, err, "/srv of this host on /srv.")
	assert.NotContains(t, err.Error(), "/data", "it is a disk of its own by now")
	require.NoError(t, h.checkTrust(configOf(), "/snap", k.spec, true))
	require.NoError(t, h.checkTrust(configOf(WithTrustedConfig()), "/snap", k.spec, false))
	for text, wish := range map[string]string{
		`{"mounts":[{"type":"Named","name":"v","guest":"/v"}]}`:                                                        "volume v on /v",
		`{"mounts":[{"type":"DiskImage","host":"/d","guest":"/v","options":{"readonly":true}}]}`:                       "disk image /d on /v",
		`{"mounts":[{"type":"DiskImage","host":"/own/d","guest":"/o"},{"type":"DiskImage","host":"/d","guest":"/v"}]}`: "disk image /d on /v",
		`{"vsock":[{"host_socket":"/run/docker.sock","port":7,"socket_type":"stream"}]}`:                               "socket /run/docker.sock at vsock port 7",
		`{"network":{"policy":{"default_egress":"allow","default_ingress":"allow","rules":[]}}}`:                       "a network that is not the usual one",
		`{"network":{"trust_host_cas":true}}`:                                                                          "a network that is not the usual one",
		`{"network":{"secrets":{"secrets":[{"env_var":"HOME","source":{"kind":"env","var":"HOME"}}]}}}`:                "secret HOME",
	} {
		s, err := parseSpec(text)
		require.NoError(t, err)
		all, err := s.wishes("/own")
		require.NoError(t, err, text)
		assert.Equal(t, []string{wish}, all, text)
	}
	s, err := parseSpec(`{"network":{"enabled":true,"ports":[{"host_port":1,"guest_port":2,"protocol":"tcp","host_bind":"127.0.0.1"}]},"mounts":[{"type":"Tmpfs","guest":"/t"}]}`)
	require.NoError(t, err)
	require.NoError(t, h.checkTrust(configOf(), "/snap", s, false))

	sums := map[string]string{"machine": "a", "manifest": "b", "sandbox": "c"}
	origin, err := h.originOf(sums)
	require.NoError(t, err)
	again, err := h.originOf(sums)
	require.NoError(t, err)
	assert.Equal(t, origin, again)
	sums["sandbox"] = "d"
	other, err := h.originOf(sums)
	require.NoError(t, err)
	assert.NotEqual(t, origin, other)
}

// Whatever a snapshot of another's making says, it is refused or a configuration of which
// nothing of the host is given away unasked.
func FuzzSavedSandbox(f *testing.F) {
	f.Add(savedText, "/data", "disk-2.raw", "raw")
	f.Add(`{"image":{"Oci":{"reference":"a"}},"mounts":[{"type":"DiskImage","host":"/d","guest":"/a"}],"network":null,"labels":7,"manifest_digest":"m"}`, "/a", "x", "qcow2")
	f.Add(`{"image":{"Oci":{"reference":"a","root_disk":{"kind":"disk-image","path":"/d"}}},"manifest_digest":"m"}`, "", "upper.ext4", "raw")
	f.Add(`{"image":{"Oci":{"reference":"a"}},"manifest_digest":"m"}`, "", "upper.ext", "raw") // two roots
	h := home{root: "/nowhere"}
	a := &snapshot.Artefact{Descriptor: &descriptor.Descriptor{ImageManifestDigest: "m"}}
	f.Fuzz(func(t *testing.T, config, guest, file, format string) {
		s := &savedSandbox{Version: savedVersion, Config: json.RawMessage(config), Disks: []savedDisk{{Index: 1, Format: "raw", File: upperName}, {Index: 2, Guest: guest, File: file, Format: format}}}
		if s.check(a) != nil {
			return
		}
		k, err := s.child(h, configOf())
		if err != nil {
			return
		}
		assert.Equal(t, "kid", k.spec.Name)
		if h.checkTrust(configOf(), "/snap", k.spec, false) != nil {
			return
		}
		for _, m := range k.spec.Mounts {
			if m.Type == "DiskImage" {
				assert.Equal(t, h.sandbox("kid"), filepath.Dir(m.Host))
			}
			assert.NotContains(t, []string{"Bind", "Named"}, m.Type)
		}
		assert.Empty(t, k.spec.Image.OCI.RootDisk.Path)
	})
}
