package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
	msb "github.com/gomsb/gomsb/sdk"
)

func serve(t *testing.T, repositories ...string) *registrytest.Server {
	t.Helper()
	s := registrytest.New(t)
	for _, name := range repositories {
		s.Push(t, name, "v1", registrytest.Image{Architecture: goruntime.GOARCH, Layers: [][]byte{registrytest.Layer(t, "file-"+name, name)}, Compression: "gzip"})
	}
	return s
}

func TestPull(t *testing.T) {
	newHome(t)
	s := serve(t, "app")
	name := s.Host() + "/app:v1"
	assert.Equal(t, result{0, "", "   ✓ Pulled       " + name + "\n"}, run("pull", name))
	assert.Equal(t, result{0, "", "   ✓ Pulled       " + name + " (already cached)\n"}, run("image", "pull", name))
	assert.Equal(t, result{0, "", ""}, run("pull", "-q", "-f", "--insecure", "--materialize", "layered", name))
	assert.Equal(t, name+"\n", succeed(t, "image", "ls", "-q").out)

	r := run("pull", s.Host()+"/none")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "   ✗ Pulling      "+s.Host()+"/none\nerror: image error: "+s.Host()+"/none:latest: ")
	r = run("pull", "-q", s.Host()+"/none")
	assert.True(t, strings.HasPrefix(r.err, "error: image error: "), r.err)
	assert.Equal(t, 1, run("pull", "--ca-certs", "/nonexistent", s.Host()+"/none").code)
	for _, line := range []string{"pull", "pull a b", "pull --materialize x a"} {
		assert.Equal(t, exitUsage, run(strings.Fields(line)...).code, line)
	}
}

func TestRunPulls(t *testing.T) {
	newHome(t)
	runtimetest.Use(t, runtimetest.Guest{})
	s := serve(t, "app")
	name := s.Host() + "/app:v1"
	r := run("run", "--pull", "never", name, "--", "echo", "x")
	assert.Equal(t, result{1, "", "error: image error: image not cached: " + name + "\n"}, r)
	assert.Equal(t, "x\n", succeed(t, "run", name, "--", "echo", "x").out)
	s.Forget()
	assert.Equal(t, "y\n", succeed(t, "run", name, "--", "echo", "y").out)
	assert.Empty(t, s.Requests(""))
	assert.Equal(t, "z\n", succeed(t, "run", "--pull", "always", name, "--", "echo", "z").out)
	assert.NotEmpty(t, s.Requests("/manifests/"))
}

func TestPullProgressLine(t *testing.T) {
	t.Parallel()
	p := newPullProgress(&ui.Progress{})
	for _, e := range []msb.PullEvent{
		{Kind: msb.PullResolving, Reference: "x"}, {Kind: msb.PullResolved, LayerCount: 2, Total: 100}, {Kind: msb.PullDownloadProgress, LayerIndex: 0, Bytes: 40, Total: 50},
		{Kind: msb.PullMaterializeProgress, LayerIndex: 0, Bytes: 30, Total: 50}, {Kind: msb.PullDownloadProgress, LayerIndex: 1, Bytes: 50, Total: 50},
		{Kind: msb.PullDownloadProgress, LayerIndex: 9, Bytes: 50}, {Kind: msb.PullMerging}, {Kind: msb.PullComplete},
	} {
		p.event(e)
	}
	assert.Equal(t, []int64{40, 50}, p.layers)
	assert.EqualValues(t, 100, p.total)
}

func TestSaveAndPrune(t *testing.T) {
	home := newHome(t)
	s := serve(t, "app", "other")
	for _, name := range []string{"app", "other"} {
		succeed(t, "pull", "-q", s.Host()+"/"+name+":v1")
	}
	file := filepath.Join(home, "out.tar")
	assert.Equal(t, result{0, "", "   ✓ Saved        " + file + "\n"}, run("save", "-o", file, s.Host()+"/app:v1"))
	saved, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.True(t, string(saved) == succeed(t, "image", "save", s.Host()+"/app:v1").out)
	assert.NotEqual(t, string(saved), succeed(t, "save", "--format", "oci", s.Host()+"/app:v1").out)
	assert.Equal(t, result{1, "", "error: image not found: nosuch\n"}, run("save", "-o", file, "nosuch"))
	assert.Equal(t, exitUsage, run("save").code)
	assert.Equal(t, exitUsage, run("save", "--format", "zip", "x").code)

	assert.Equal(t, result{1, "", "error: non-interactive terminal; use --yes to prune cached images\n"}, run("image", "prune"))
	r := run("image", "prune", "--yes")
	assert.Zero(t, r.code)
	assert.Equal(t, "   ✓ Pruned       image cache\n", r.err)
	assert.Contains(t, r.out, "  Image refs:   2\n  Manifests:    2\n  Layers:       2\n  Fsmeta:       2\n  VMDK:         2\n  Reclaimed:    ")
	assert.Equal(t, result{0, "", "Nothing to prune.\n"}, run("image", "prune", "-y"))
	var report map[string]any
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "image", "prune", "-y", "--format", "json").out), &report))
	assert.Equal(t, map[string]any{"bytes_reclaimed": nil, "fsmeta_removed": 0.0, "image_refs_removed": 0.0, "layers_removed": 0.0, "manifests_removed": 0.0, "vmdk_removed": 0.0}, report)
	r = msbIn(bytes.NewReader(saved), "load")
	assert.Equal(t, result{0, "", "   ✓ Loaded       " + s.Host() + "/app:v1\n"}, r)
	assert.Equal(t, result{0, "", ""}, run("image", "prune", "-q", "-y"))
}

func TestRegistryCommands(t *testing.T) {
	home := newHome(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	assert.Equal(t, result{0, "No registries configured.\n", ""}, run("registry", "list"))
	require.NoError(t, os.WriteFile(filepath.Join(home, "config.json"), []byte(`{"registries":{"hosts":{"z.example":{"insecure":true},
		"reg.example:5000":{"auth":{"username":"bob","password_env":"X"}},"a.example":{"auth":{"username":"u","store":"keyring"}}}}}`), 0o600))
	want := "REGISTRY            USERNAME    SOURCE\na.example           u           keyring\nreg.example:5000    bob         password_env\n"
	for _, line := range []string{"registry list", "registry ls", "registries", "regs"} {
		assert.Equal(t, result{0, want, ""}, run(strings.Fields(line)...), line)
	}
	r := msbIn(strings.NewReader("secret\n"), "registry", "login", "-u", "joe", "--password-stdin", "new.example")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "no credential store", "this test has none")
	assert.Equal(t, result{0, "", "   ✓ Logged out   a.example\n"}, run("registry", "logout", "a.example"))
	assert.Equal(t, result{0, "", "warn: no stored registry credentials found for `a.example`\n"}, run("registry", "logout", "a.example"))
	for _, line := range []string{"registry", "registry login", "registry login reg.example", "registry login -u x reg.example", "registry logout", "registry list x"} {
		assert.Equal(t, exitUsage, run(strings.Fields(line)...).code, line)
	}
}
