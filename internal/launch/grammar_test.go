package launch

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseMount(t *testing.T) {
	m, err := ParseMount("tag:/host/path:ro,noexec,nosuid,nodev,stat-virt=off,host-perms=mirror,follow-root-symlinks,quota=16,uid=0,gid=4294967295")
	require.NoError(t, err)
	assert.Equal(t, "off", m.StatVirt)
	assert.Equal(t, "mirror", m.HostPerms)
	assert.Equal(t, uint32(0), *m.UID)
	assert.Equal(t, uint32(4294967295), *m.GID)
	assert.True(t, m.ReadOnly && m.NoExec && m.NoSUID && m.NoDev && m.FollowRootSymlinks)
	again, err := ParseMount(m.String())
	require.NoError(t, err)
	assert.Equal(t, m, again)

	m, err = ParseMount("t:/h:rw")
	require.NoError(t, err)
	assert.Equal(t, Mount{Tag: "t", Host: "/h", MountOptions: MountOptions{StatVirt: "strict", HostPerms: "private"}}, m)

	for _, bad := range []string{
		"", "tag", ":", "tag:", ":/h", "t:/h:", "t:/h:suid", "t:/h:exec", "t:/h:dev", "t:/h:ro,ro", "t:/h:ro,rw", "t:/h:ro=1",
		"t:/h:quota=", "t:/h:quota=-1", "t:/h:quota=99999999999999999", "t:/h:uid=x", "t:/h:uid=4294967296",
		"t:/h:stat-virt=lax", "t:/h:stat-virt", "t:/h:x=y", "t:/a,b", "t:/a:b:ro", strings.Repeat("t", 37) + ":/h", "t:/h\x00",
	} {
		_, err := ParseMount(bad)
		assert.ErrorIs(t, err, ErrMount, "%q", bad)
	}
}

func TestParseDisk(t *testing.T) {
	for _, good := range []string{"a:/b:raw", "a:/b:qcow2:ro", "a:b:vmdk"} {
		d, err := ParseDisk(good)
		require.NoError(t, err)
		assert.Equal(t, good, d.String())
	}
	for _, bad := range []string{"", "a", "a:b", ":b:raw", "a::raw", "a:b:iso", "a:b:raw:rw", "a:b:raw:", "a:b:raw:ro:x", "123456789012345678901:b:raw", "a\x00:b:raw"} {
		_, err := ParseDisk(bad)
		assert.ErrorIs(t, err, ErrMount, "%q", bad)
	}
}

func TestGuestMountTag(t *testing.T) {
	for path, tag := range map[string]string{
		"/data": "data_bd47413b", "/var/log": "var_log_9a6a409e", "/var_log": "var_log_05a60675",
		"/workspace/project": "workspace_p_e3af8a72", "/": "8a5edab2", "/etc/file.txt": "etc_file.tx_cde76b0f",
	} {
		assert.Equal(t, tag, GuestMountTag(path))
	}
}

func TestParseRefuses(t *testing.T) {
	ok := []string{"--name", "a", "--sandbox-id", "1", "--vcpus", "1", "--memory-mib", "512", "--config-fd", "96"}
	_, err := Parse(ok)
	require.NoError(t, err)
	inv, err := Parse([]string{"--name=a", "--sandbox-id=1", "--vcpus=1", "--memory-mib=512", "--config-file=/c", "--debug", "--kernel=/k", "--restore=/r"})
	require.NoError(t, err)
	assert.Equal(t, "debug", inv.LogLevel)
	assert.Equal(t, "/k", inv.Kernel)
	assert.Equal(t, "/r", inv.Restore)
	again, err := Parse(inv.Args()[1:])
	require.NoError(t, err)
	assert.Equal(t, inv, again)
	for name, args := range map[string][]string{
		"nothing":             {},
		"no config":           ok[:8],
		"both configs":        append(ok[:10:10], "--config-file", "/c"),
		"unknown flag":        append(ok[:10:10], "--frobnicate", "1"),
		"positional":          append(ok[:10:10], "x"),
		"twice":               append(ok[:10:10], "--name", "b"),
		"value missing":       append(ok[:10:10], "--startup-fd"),
		"wrong watch fd":      append(ok[:10:10], "--parent-watch-fd", "3"),
		"wrong startup fd":    append(ok[:10:10], "--startup-fd", "3"),
		"negative fd":         append(ok[:10:10], "--parent-watch-fd", "-1"),
		"restore from near":   append(ok[:10:10], "--restore", "r"),
		"restore of nothing":  append(ok[:10:10], "--restore="),
		"bad level":           append(ok[:10:10], "--log-level", "loud"),
		"switch with value":   append(ok[:10:10], "--debug=1"),
		"name with slash":     append([]string{"--name", "a/b"}, ok[2:]...),
		"name with dots":      append([]string{"--name", ".."}, ok[2:]...),
		"name empty":          append([]string{"--name", ""}, ok[2:]...),
		"name too long":       append([]string{"--name", strings.Repeat("a", 129)}, ok[2:]...),
		"id zero":             {"--name", "a", "--sandbox-id", "0", "--vcpus", "1", "--memory-mib", "1", "--config-fd", "96"},
		"id too large":        {"--name", "a", "--sandbox-id", "2147483648", "--vcpus", "1", "--memory-mib", "1", "--config-fd", "96"},
		"vcpus beyond a byte": {"--name", "a", "--sandbox-id", "1", "--vcpus", "256", "--memory-mib", "1", "--config-fd", "96"},
	} {
		_, err := Parse(args)
		assert.ErrorIs(t, err, ErrUsage, name)
	}
}

func TestPaths(t *testing.T) {
	assert.Equal(t, "/r/agent/60c5590f72eef292f9545afc28bf63ca.sock", AgentLink("/r", "w1"))
	assert.Equal(t, "/r/agent/2a97516c354b68848cdbd8f54a226a0a.sock", AgentLink("/r", "demo"))
	assert.Equal(t, "/r/locks/"+Hash32("demo")+".lock", LockPath("/r", "demo"))
	assert.Equal(t, Hash32("demo")[:24], Hash24("demo"))
	assert.Len(t, SocketCandidates("/r", "/s", "demo"), 3)
	// The control socket beside it decides: its path has two bytes more.
	_, err := AgentSocket("/"+strings.Repeat("r", 107-1-len("/sandboxes/")-24-len("/control.sock")), "demo")
	require.NoError(t, err)
	_, err = AgentSocket("/"+strings.Repeat("r", 108-1-len("/sandboxes/")-24-len("/control.sock")), "demo")
	assert.ErrorIs(t, err, ErrPathTooLong)
	assert.Empty(t, SocketCandidates("/"+strings.Repeat("r", 200), "/"+strings.Repeat("s", 200), "demo"))
}
