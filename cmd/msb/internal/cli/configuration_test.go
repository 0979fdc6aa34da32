package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// configured is the configuration that a command line makes with a file: FILE in the line
// stands for its path.
func configured(t *testing.T, yaml, line string) (*msb.SandboxConfig, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(yaml), 0o600))
	var c creation
	cmd := &cobra.Command{}
	c.flags(cmd.Flags())
	require.NoError(t, cmd.Flags().Parse(strings.Fields(strings.ReplaceAll(line, "FILE", path))))
	opts, err := c.options(cmd, &app{}, strings.Join(cmd.Flags().Args(), ""))
	s := &msb.SandboxConfig{}
	for _, o := range opts {
		o(s)
	}
	return s, err
}

func TestConfigurationFile(t *testing.T) {
	t.Setenv("GOMSB_PASSWORD", "pw")
	c, err := configured(t, `
image: {oci: debian, upper_size: 8G}
pull_policy: always
registry: {username: me, password_env: GOMSB_PASSWORD}
cpus: 2
memory: 1G
max_duration: 5m
idle_timeout: "30"
rlimits: [{resource: nofile, soft: 10, hard: 20}, {resource: core, soft: 0}]
workdir: /w
shell: bash
user: "1000:1000"
hostname: box
security: restricted
entrypoint: [/bin/e]
cmd: []
env: {A: a, B: b}
labels: {team: x}
init: {cmd: auto, args: [a], env: {I: i}}
mounts:
  - /a:/a:ro
  - {named: v, target: /v, create: ensure-exists}
  - {tmpfs: {size: 64M}, target: /t, noexec: true}
  - {disk: /d.raw, target: /d, fstype: ext4}
  - {bind: /b, target: /b, uid: 5, gid: 6, stat_virtualization: relaxed}
patches: [{file: {path: /f, content_base64: gAA=, mode: "0600"}}, {mkdir: {path: /m}}]
ports: ["8080:80"]
network: {policy: none, dns: {query_timeout: 3s, rebind_protection: false}, max_connections: 7, strict: true, trust_host_cas: true}
secrets: {T: {value: "${GOMSB_T}", allow: [x.com], inject: [query_params]}, U: {allow: ["*.y.com"]}}
scripts: {hi: "echo hi\n"}
`, "--conf FILE")
	require.NoError(t, err)
	assert.Equal(t, "debian", c.Image)
	assert.Equal(t, uint32(8192), c.RootDisk.SizeMiB)
	assert.Equal(t, msb.PullPolicy("always"), c.PullPolicy)
	assert.Equal(t, &msb.RegistryAuth{Username: "me", Password: "pw"}, c.RegistryAuth)
	assert.Equal(t, uint8(2), c.CPUs)
	assert.Equal(t, uint32(1024), c.MemoryMiB)
	assert.Equal(t, []time.Duration{5 * time.Minute, 30 * time.Second}, []time.Duration{c.MaxDuration, c.IdleTimeout})
	assert.Equal(t, []msb.Rlimit{{Resource: "nofile", Soft: 10, Hard: 20}, {Resource: "core"}}, c.Rlimits)
	assert.Equal(t, []string{"/w", "bash", "1000:1000", "box", "restricted"}, []string{c.Workdir, c.Shell, c.User, c.Hostname, string(c.SecurityProfile)})
	assert.Equal(t, []string{"/bin/e"}, c.Entrypoint)
	assert.Equal(t, []string{}, c.Cmd)
	assert.Equal(t, map[string]string{"A": "a", "B": "b"}, c.Env)
	assert.Equal(t, map[string]string{"team": "x"}, c.Labels)
	assert.Equal(t, &msb.InitConfig{Cmd: "auto", Args: []string{"a"}, Env: map[string]string{"I": "i"}}, c.Init)
	assert.Equal(t, map[string]msb.MountConfig{
		"/a": msb.Mount.Bind("/a", msb.MountOptions{Readonly: true}),
		"/v": msb.Mount.NamedWith("v", msb.MountOptions{}, msb.NamedVolumeOptions{Mode: "ensure-exists"}),
		"/t": msb.Mount.Tmpfs(msb.TmpfsOptions{SizeMiB: 64, Noexec: true}),
		"/d": msb.Mount.Disk("/d.raw", msb.DiskOptions{Fstype: "ext4"}),
		"/b": msb.Mount.Bind("/b", msb.MountOptions{StatVirtualization: "relaxed", Owner: &msb.MountOwner{UID: 5, GID: 6}}),
	}, c.Volumes)
	mode := uint32(0o600)
	assert.Equal(t, []msb.PatchConfig{msb.Patch.Text("/f", "\x80\x00", msb.PatchOptions{Mode: &mode}), msb.Patch.Mkdir("/m", msb.PatchOptions{})}, c.Patches)
	assert.Equal(t, []msb.PortBinding{{HostPort: 8080, GuestPort: 80}}, c.PortBindings)
	assert.Equal(t, []msb.PolicyAction{"deny", "deny"}, []msb.PolicyAction{c.Network.DefaultEgress, c.Network.DefaultIngress})
	assert.Equal(t, uint64(3000), *c.Network.DNS.QueryTimeoutMs)
	assert.False(t, *c.Network.DNS.RebindProtection)
	assert.Equal(t, uint(7), *c.Network.MaxConnections)
	assert.True(t, c.Network.Strict && *c.Network.TrustHostCAs)
	assert.Equal(t, []msb.SecretEntry{
		{EnvVar: "T", ValueFrom: "GOMSB_T", AllowHostPatterns: []string{"x.com"}, Inject: &msb.SecretInjection{QueryParams: true}},
		{EnvVar: "U", ValueFrom: "U", AllowHostPatterns: []string{"*.y.com"}, Inject: &msb.SecretInjection{Headers: true}},
	}, c.Secrets)
	assert.Equal(t, map[string]string{"hi": "#!/usr/bin/env bash\necho hi\n"}, c.Scripts)
}

// TestFlagsBeforeFiles: a flag's value replaces the file's, or is added to it.
func TestFlagsBeforeFiles(t *testing.T) {
	t.Parallel()
	c, err := configured(t, `
image: {bind: /root}
cpus: 2
env: {A: a, B: b}
ports: ["1:1"]
network: {allow: [a.com], dns: {nameservers: [1.1.1.1]}, tls: {bypass: [x.com]}}
scripts: {hi: echo}
init: {cmd: auto}
`, "--conf FILE --cpus 3 -e A=z -p 2:2 --dns-nameserver 9.9.9.9 --net-rule deny@b.com --script hi=other --init /sbin/init --tls-bypass y.com debian")
	require.NoError(t, err)
	assert.Equal(t, []string{"debian", ""}, []string{c.Image, c.ImageBind})
	assert.Equal(t, uint8(3), c.CPUs)
	assert.Equal(t, map[string]string{"A": "z", "B": "b"}, c.Env)
	assert.Len(t, c.PortBindings, 2)
	assert.Equal(t, []string{"9.9.9.9"}, c.Network.DNS.Nameservers)
	rules, err := msb.ParsePolicyRules("deny@b.com,allow@a.com")
	require.NoError(t, err)
	assert.Equal(t, rules, c.Network.Rules)
	assert.Equal(t, map[string]string{"hi": "#!/bin/sh\nother\n"}, c.Scripts)
	assert.Equal(t, "/sbin/init", c.Init.Cmd)
	assert.Equal(t, []string{"x.com", "y.com"}, c.Network.TLS.Bypass)
}

// TestConfiguredNetwork: what a file's network comes to.
func TestConfiguredNetwork(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]struct {
		egress, ingress msb.PolicyAction
		rules           string
	}{
		"policy: none":   {"deny", "deny", ""},
		"policy: open":   {"allow", "allow", ""},
		"policy: public": {"deny", "allow", "allow@dns,allow@public"},
		"deny: [a.com]":  {"deny", "allow", "deny@a.com,allow@dns,allow@public"},
		"allow: [a.com]": {"deny", "allow", "allow@a.com"},
		"{policy: open, allow: [a.com], deny: [dns]}": {"deny", "allow", "deny@dns,allow@a.com"},
	} {
		c, err := configured(t, yaml, "--net-conf FILE debian")
		require.NoError(t, err, yaml)
		var rules []msb.PolicyRule
		if want.rules != "" {
			rules, err = msb.ParsePolicyRules(want.rules)
			require.NoError(t, err)
		}
		assert.Equal(t, rules, c.Network.Rules, yaml)
		assert.Equal(t, []msb.PolicyAction{want.egress, want.ingress}, []msb.PolicyAction{c.Network.DefaultEgress, c.Network.DefaultIngress}, yaml)
	}
	for yaml, on := range map[string]bool{
		"tls: {enabled: true}": true, "tls: {bypass: [x.com]}": false, "tls: {verify_upstream: false}": false, "tls: {enabled: false, block_quic: false}": false,
	} {
		c, err := configured(t, yaml, "--net-conf FILE debian")
		require.NoError(t, err, yaml)
		assert.Equal(t, on, c.Network.TLS != nil, yaml)
	}
	c, err := configured(t, "{network: {tls: {bypass: [x.com], verify_upstream: false, block_quic: false}}, secrets: {T: {allow: [y.com]}}}", "--conf FILE debian")
	require.NoError(t, err)
	no := false
	assert.Equal(t, &msb.TLSConfig{Bypass: []string{"x.com"}, VerifyUpstream: &no, BlockQUIC: &no}, c.Network.TLS, "secrets have TLS intercepted")
}

func TestConfigurationMistakes(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"image: {oci: a, bind: b}":                                    "image object must contain exactly one of",
		"image: {bind: a, upper_size: 1G}":                            "image.upper_size is only valid with image.oci",
		"image: {oci: a, fstype: ext4}":                               "image.fstype is only valid with image.disk",
		"registry: {username: a}":                                     "must be specified together",
		"registry: {username: a, password_env: GOMSB_NOT_SET}":        `"GOMSB_NOT_SET" is not set`,
		"init: {args: [a]}":                                           "init.cmd is required",
		"secrets: {T: {}}":                                            "`allow` must name at least one host",
		"network: {allow: [\"a.com,b.com\"]}":                         "one target an entry",
		"network: {dns: {query_timeout: zz}}":                         "dns.query_timeout: ",
		"mounts: [{target: /x}]":                                      "exactly one of `bind`, `named`, `tmpfs`, or `disk`",
		"mounts: [{bind: /a, tmpfs: {}, target: /x}]":                 "exactly one of `bind`, `named`, `tmpfs`, or `disk`",
		"mounts: [{bind: /a}]":                                        "mount.target is required",
		"mounts: [{bind: /a, target: x}]":                             "mount.target must be an absolute guest path",
		"mounts: [{bind: /a, create: create, target: /x}]":            "mount.create is only valid for a named mount",
		"mounts: [{bind: /a, format: raw, target: /x}]":               "only valid for a disk mount",
		"mounts: [{tmpfs: {}, host_permissions: mirror, target: /x}]": "only valid for bind or named mounts",
		"mounts: [{tmpfs: {}, uid: 1, gid: 1, target: /x}]":           "mount.uid and mount.gid are only valid",
		"mounts: [{bind: /a, uid: 1, target: /x}]":                    "must be specified together",
		"mounts: [/a:/x, {tmpfs: {}, target: /x}]":                    "multiple volumes cannot mount the same guest path: /x",
		"patches: [{text: {path: /a, content: b, mode: \"600\"}}]":    "four-digit octal",
		"patches: [{file: {path: /a, content_base64: \"!\"}}]":        "patch.file.content_base64",
		"patches: [{}]":                                               "exactly one of",
	} {
		_, err := configured(t, yaml, "--conf FILE debian")
		if strings.HasPrefix(yaml, "image") {
			_, err = configured(t, yaml, "--conf FILE")
		}
		assert.ErrorContains(t, err, want, yaml)
	}
}

// TestConfigurationFlags: what may not be given with files, and launchers with them.
func TestConfigurationFlags(t *testing.T) {
	home := newHome(t)
	dir := t.TempDir()
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("c.yaml", []byte("image: ./tree\ncmd: [ls]\n"), 0o600))
	require.NoError(t, os.WriteFile("n.yaml", []byte("strict: true\n"), 0o600))
	r := run("create", "--net-conf", "n.yaml", "--net-rule", "deny@a.com", "mini")
	assert.Equal(t, 2, r.code)
	assert.Contains(t, r.err, "error: the argument '--net-conf <PATH>' cannot be used with '--net-rule <TOKENS>'")
	r = run("create", "--conf", "nosuch.yaml")
	assert.Equal(t, result{1, "", "error: failed to read sandbox configuration nosuch.yaml: no such file or directory\n"}, r)
	r = run("create", "--net-conf", "n.yaml")
	assert.Equal(t, result{1, "", "error: missing required sandbox field `image`; provide an image argument or set `image` in --conf\n"}, r)

	succeed(t, "install", "-n", "tool", "--net-conf", "n.yaml", "--conf", "c.yaml", "-c", "2", "--", "ps")
	script, err := os.ReadFile(filepath.Join(home, "bin", "tool"))
	require.NoError(t, err)
	assert.Equal(t, "#!/bin/sh\n# generated by msb install\n# image: "+dir+"/tree\n# mode: persisted\n# command: ps\n"+
		"exec msb run -n tool --net-conf "+dir+"/n.yaml --conf "+dir+"/c.yaml -c 2 -- ps\n", string(script))
	r = run("install", "--net-conf", "n.yaml")
	assert.Equal(t, result{1, "", "error: missing required sandbox field `image`; provide an image argument or set `image` in --conf\n"}, r)
}
