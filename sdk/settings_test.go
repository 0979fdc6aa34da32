package microsandbox

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// writeSettings makes the home's config.json say what is under paths.
func writeSettings(t *testing.T, file string, paths map[string]string) {
	t.Helper()
	text, err := json.Marshal(map[string]any{"paths": paths, "unknown": 1})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
}

// Everything is where config.json says, and nothing is in the usual place.
func TestPathsOfSettings(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	elsewhere := t.TempDir()
	at := func(name string) string { return filepath.Join(elsewhere, name) }
	paths := map[string]string{"secrets": at("secrets")}
	for _, name := range []string{"cache", "sandboxes", "volumes", "snapshots"} {
		paths[name] = at(name)
		require.NoError(t, os.RemoveAll(at(name)))
	}
	require.NoError(t, os.Rename(h.path("cache"), at("cache")))
	writeSettings(t, h.configFile, paths)

	sb := create(t, "a", WithMounts(map[string]MountConfig{"/data": Mount.NamedWith("data", MountOptions{}, NamedVolumeOptions{Mode: "create"})}))
	require.NoError(t, sb.Stop(ctx))
	require.NoError(t, sb.Close())
	assert.FileExists(t, filepath.Join(at("sandboxes"), "a", upperName))
	assert.FileExists(t, filepath.Join(at("sandboxes"), "a", "logs", "runtime.log"))
	assert.DirExists(t, filepath.Join(at("volumes"), "data"))
	v, err := GetVolume(ctx, "data")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(at("volumes"), "data"), v.Path())
	s, err := Snapshot.Create(ctx, SnapshotCreateOptions{Name: "s", FromSandbox: "a"})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(at("snapshots"), "s"), s.Path())
	sb, err = StartSandbox(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, sb.Kill(ctx))
	require.NoError(t, sb.Close())
	require.NoError(t, RemoveSandbox(ctx, "a"))
	assert.NoDirExists(t, filepath.Join(at("sandboxes"), "a"))
	for _, name := range []string{"sandboxes", "volumes", "snapshots", "secrets"} {
		assert.NoDirExists(t, h.path(name))
	}
}

func TestOpenHome(t *testing.T) {
	h := newHome(t)
	open := func() home {
		t.Helper()
		got, err := openHome()
		require.NoError(t, err)
		return got
	}
	assert.Equal(t, h, open())
	dir := t.TempDir()
	t.Chdir(dir)
	writeSettings(t, h.configFile, map[string]string{"msb": "bin/msb", "libkrunfw": "/lib/k.so", "secrets": "/s", "volumes": "", "cache": "c"})
	t.Setenv("MSB_PATH", "")
	got := open()
	bin, err := got.binary()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "bin", "msb"), bin.Path, "as 0.6.18: from the working directory")
	assert.Equal(t, filepath.Join(dir, "c"), got.cache())
	assert.Equal(t, "/lib/k.so", got.libkrunfw())
	t.Setenv("MSB_LIBKRUNFW_PATH", "/env/k.so")
	assert.Equal(t, "/env/k.so", got.libkrunfw())
	assert.Equal(t, "/s/registries", got.secrets())
	assert.Equal(t, h.path("volumes"), string(got.volumes()), "empty is unset")
	t.Setenv("MSB_PATH", "/mine")
	bin, err = got.binary()
	require.NoError(t, err)
	assert.Equal(t, "/mine", bin.Path)

	other := filepath.Join(dir, "other.json")
	require.NoError(t, os.WriteFile(other, []byte(`{"home":"/other"}`), 0o600))
	t.Setenv("MSB_CONFIG_PATH", other)
	got = open()
	assert.Equal(t, "/other", got.root)
	assert.Equal(t, "/other/sandboxes/x/logs", got.logs("x"))
	assert.Equal(t, other, got.configFile)
}

// Settings that cannot be read are an error of every command but doctor, which says it.
func TestBrokenSettings(t *testing.T) {
	h := newHome(t)
	ctx := testContext(t)
	for _, text := range []string{"{", `{"paths":{"volumes":5}}`, `{"home":[]}`} {
		require.NoError(t, os.WriteFile(h.configFile, []byte(text), 0o600))
		for name, f := range map[string]func() error{
			"create":    func() error { _, err := CreateSandbox(ctx, "a", WithImage(testImage)); return err },
			"start":     func() error { _, err := StartSandbox(ctx, "a"); return err },
			"list":      func() error { _, err := ListSandboxes(ctx); return err },
			"volumes":   func() error { _, err := ListVolumes(ctx); return err },
			"images":    func() error { _, err := Image.List(ctx); return err },
			"snapshots": func() error { _, err := Snapshot.List(ctx); return err },
			"remove":    func() error { return RemoveSandbox(ctx, "a") },
		} {
			err := f()
			assert.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", name, err)
			assert.ErrorContains(t, err, h.configFile, name)
		}
		d := Diagnose(ctx)
		assert.False(t, d.OK())
		assert.Equal(t, "Settings", d.Checks[1].Name)
		assert.Contains(t, d.Checks[1].Remedies[0], h.configFile)
	}
	left, err := os.ReadDir(h.root)
	require.NoError(t, err)
	for _, e := range left {
		assert.Contains(t, []string{"config.json", "cache"}, e.Name(), "nothing was made, but the guest kernel unpacked by doctor")
	}
}

// What config.json says of new sandboxes holds where their creator says nothing.
func TestSandboxDefaults(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	text := `{"log_level":"debug","deployment_profile":"multi_tenant","metrics":{"capacity":2},"sandbox_defaults":{"cpus":2,"memory_mib":96,
		"thp":"never","cpu_placement":"compact","shell":"/bin/ash","workdir":"/srv","metrics_sample_interval_ms":0}}`
	require.NoError(t, os.WriteFile(h.configFile, []byte(text), 0o600))
	config := func(name string) *SandboxConfig {
		t.Helper()
		sandbox, err := GetSandbox(ctx, name)
		require.NoError(t, err)
		c, err := sandbox.Config()
		require.NoError(t, err)
		return c
	}
	sb := create(t, "default")
	c := config("default")
	assert.EqualValues(t, 2, c.CPUs)
	assert.EqualValues(t, 2, c.MaxCPUs)
	assert.EqualValues(t, 96, c.MemoryMiB)
	assert.Equal(t, THPNever, c.THP)
	assert.Equal(t, CPUPlacementCompact, c.CPUPlacement)
	assert.Equal(t, "/bin/ash", c.Shell)
	assert.Equal(t, "/srv", c.Workdir)
	assert.Equal(t, LogLevelDebug, c.LogLevel)
	assert.Equal(t, DeploymentProfileMultiTenant, c.DeploymentProfile)
	_, err := sb.Metrics(ctx)
	assert.True(t, IsKind(err, ErrMetricsDisabled), "%v", err)
	assert.EqualError(t, err, "metrics disabled for sandbox: default")

	create(t, "chosen", WithCPUs(1), WithMemory(64), WithTHP(THPAlways), WithShell("/bin/sh"), WithWorkdir("/"), WithQuietLogs(),
		WithDeploymentProfile(DeploymentProfileSingleTenant))
	c = config("chosen")
	assert.EqualValues(t, 1, c.CPUs)
	assert.EqualValues(t, 64, c.MemoryMiB)
	assert.Equal(t, THPAlways, c.THP)
	assert.Equal(t, "/bin/sh", c.Shell)
	assert.Equal(t, "/", c.Workdir)
	assert.True(t, c.QuietLogs)
	assert.Equal(t, DeploymentProfileMultiTenant, c.DeploymentProfile, "whoever runs the host decides")

	for text, want := range map[string]string{
		`{"sandbox_defaults":{"cpus":300}}`:            "config.json",
		`{"sandbox_defaults":{"memory_mib":1}}`:        "memory must be at least 64 MiB",
		`{"sandbox_defaults":{"thp":"sometimes"}}`:     "sometimes",
		`{"deployment_profile":"two_tenants"}`:         `unknown deployment profile "two-tenants"`,
		`{"sandbox_defaults":{"shell":"/bin/a b"}}`:    "shell",
		`{"log_level":"chatty"}`:                       "chatty",
		`{"metrics":{"capacity":-1}}`:                  "config.json",
		`{"sandbox_defaults":{"oci":{"root_disk":1}}}`: "config.json",
	} {
		require.NoError(t, os.WriteFile(h.configFile, []byte(text), 0o600))
		_, err := CreateSandbox(ctx, "bad", WithImage(testImage))
		assert.True(t, IsKind(err, ErrInvalidConfig), "%s: %v", text, err)
		assert.ErrorContains(t, err, want, text)
	}
}

// Whoever runs the host decides of sandboxes that are there already, too.
func TestDeploymentProfileOfAStart(t *testing.T) {
	h := newHome(t)
	s, err := newSpec(&SandboxConfig{Name: "a", ImageBind: t.TempDir()}, nil)
	require.NoError(t, err)
	for text, want := range map[string]string{
		`{}`:                                    "single_tenant",
		`{"deployment_profile":"multi_tenant"}`: "multi_tenant",
		`{"deployment_profile":"multi-tenant"}`: "multi_tenant",
	} {
		require.NoError(t, os.WriteFile(h.configFile, []byte(text), 0o600))
		h, err := openHome()
		require.NoError(t, err)
		launched, err := s.launchConfig(h, 1, "")
		require.NoError(t, err)
		assert.Equal(t, want, launched.DeploymentProfile, text)
	}
	require.NoError(t, os.WriteFile(h.configFile, []byte(`{"deployment_profile":"multi"}`), 0o600))
	_, err = openHome()
	assert.True(t, IsKind(err, ErrInvalidConfig), "no start as if nothing were said: %v", err)
}

// The registry of samples has as many places as config.json says.
func TestMetricsCapacity(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	require.NoError(t, os.WriteFile(h.configFile, []byte(`{"metrics":{"capacity":1}}`), 0o600))
	ctx := testContext(t)
	_, err := create(t, "one").Metrics(ctx)
	require.NoError(t, err)
	_, err = create(t, "two").Metrics(ctx)
	assert.True(t, IsKind(err, ErrMetricsUnavailable), "%v", err)
}

func TestDatabaseSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	for text, want := range map[string]struct {
		busy    time.Duration
		connect uint64
	}{
		`{}`: {30 * time.Second, 30},
		`{"database":{"url":null,"max_connections":5,"connect_timeout_secs":7,"busy_timeout_secs":2}}`: {2 * time.Second, 7},
		`{"database":{"connect_timeout_secs":0,"busy_timeout_secs":0}}`:                                {time.Millisecond, 0},
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		s, err := readSettings(file)
		require.NoError(t, err)
		assert.Equal(t, want.busy, s.busyTimeout(), text)
		assert.Equal(t, want.connect, s.connectSeconds(), text)
	}
}
