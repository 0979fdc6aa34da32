package launch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// observation is what was recorded of one start of the official 0.6.18.
type observation struct {
	Argv []string        `json:"argv"`
	FD96 json.RawMessage `json:"fd96"`
}

func observations(t *testing.T) map[string]observation {
	t.Helper()
	files, err := filepath.Glob("testdata/observed-0.6.18/*.json")
	require.NoError(t, err)
	require.Len(t, files, 10)
	all := make(map[string]observation)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		var o observation
		require.NoError(t, json.Unmarshal(b, &o), f)
		all[filepath.Base(f)] = o
	}
	return all
}

func TestObservedConfigurationsRoundTrip(t *testing.T) {
	for name, o := range observations(t) {
		t.Run(name, func(t *testing.T) {
			c, err := Decode(o.FD96)
			require.NoError(t, err)
			out, err := c.Encode()
			require.NoError(t, err)
			assert.JSONEq(t, string(o.FD96), string(out))
		})
	}
}

func TestObservedArgumentsRoundTrip(t *testing.T) {
	for name, o := range observations(t) {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "sandbox", o.Argv[0])
			inv, err := Parse(o.Argv[1:])
			require.NoError(t, err)
			assert.Equal(t, o.Argv, inv.Args())
			assert.Equal(t, ConfigFD, inv.ConfigFD)
			assert.Equal(t, LifecycleLockFD, inv.LifecycleLockFD)
			assert.NotEqual(t, inv.Attached(), inv.StartupFD >= 0)
		})
	}
}

func TestObservedSocketPaths(t *testing.T) {
	for name, o := range observations(t) {
		inv, err := Parse(o.Argv[1:])
		require.NoError(t, err)
		c, err := Decode(o.FD96)
		require.NoError(t, err)
		sock, err := AgentSocket(c.RunDir, inv.Name)
		require.NoError(t, err)
		assert.Equal(t, c.AgentSock, sock, name)
		run := c.Run()
		c.RunDir = ""
		assert.Equal(t, run, c.Run(), "derived from the socket")
	}
}

func TestObservedDetails(t *testing.T) {
	all := observations(t)
	decode := func(name string) *Config {
		c, err := Decode(all[name].FD96)
		require.NoError(t, err)
		return c
	}
	mounts := decode("run-mounts.json")
	m, err := ParseMount(mounts.Mounts[1])
	require.NoError(t, err)
	assert.Equal(t, "work_0c9a453f", m.Tag)
	assert.True(t, m.ReadOnly)
	assert.Equal(t, uint64(4096), *m.QuotaMiB)
	assert.Equal(t, m.Tag, GuestMountTag("/work"))
	assert.Equal(t, mounts.Mounts[1], m.String())
	d, err := ParseDisk(mounts.Disks[0])
	require.NoError(t, err)
	assert.Equal(t, Disk{ID: GuestMountTag("/data"), Host: "/home/u/disk.raw", Format: "raw"}, d)

	network := decode("run-network.json").Network
	assert.NoError(t, network.Config.Secrets.Config().Validate())
	assert.NoError(t, network.Config.Policy.Validate())
	assert.True(t, decode("run-init.json").Handoff())
	assert.False(t, decode("run-plain.json").Handoff())
	assert.Equal(t, "/bin/sleep", decode("run-detached-command.json").Startup.Cmd)
	assert.Equal(t, uint64(600), *decode("run-identity.json").Lifecycle.IdleTimeoutSecs)
	assert.Equal(t, "./disk.raw", *decode("run-root-image.json").Rootfs.Disk)
}
