package microsandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/store"
)

func TestMain(m *testing.M) {
	runtimetest.Main()
	if os.Getenv(volumesEnv) != "" {
		createAndRemoveVolumes()
		return
	}
	if name := os.Getenv(creatorEnv); name != "" {
		os.Exit(creator(name))
	}
	if name := os.Getenv(brancherEnv); name != "" {
		os.Exit(brancher(name))
	}
	goleak.VerifyTestMain(m)
}

// testContext bounds every test that could hang.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// newHome makes an empty data root with a path short enough for sockets.
func newHome(t testing.TB) home {
	t.Helper()
	dir, err := os.MkdirTemp("", "msb")
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = os.RemoveAll(dir)
		_ = os.Remove(filepath.Join("/dev/shm", home{root: dir}.metrics()))
	})
	t.Setenv("MSB_HOME", dir)
	return home{root: dir, configFile: filepath.Join(dir, "config.json")}
}

const testImage = "mini:latest"

// newGuests makes a data root with an image, whose sandboxes behave as g says.
func newGuests(t testing.TB, g runtimetest.Guest) home {
	t.Helper()
	h := newHome(t)
	runtimetest.Use(t, g)
	_, err := Image.LoadFrom(testContext(t), bytes.NewReader(archive(t)))
	require.NoError(t, err)
	return h
}

// archive is a docker-save archive of a small image.
func archive(t testing.TB) []byte {
	t.Helper()
	layer := tarball(t, map[string][]byte{"etc/hostname": []byte("mini\n")})
	sum := sha256.Sum256(layer)
	diff := "sha256:" + hex.EncodeToString(sum[:])
	config, err := json.Marshal(map[string]any{
		"architecture": goruntime.GOARCH, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{diff}},
		"config": map[string]any{
			"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, "Cmd": []string{"/bin/sh"}, "WorkingDir": "/",
		},
	})
	require.NoError(t, err)
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{testImage}, "Layers": []string{"layer.tar"}}})
	require.NoError(t, err)
	return tarball(t, map[string][]byte{"config.json": config, "layer.tar": layer, "manifest.json": manifest})
}

func tarball(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range sortedKeys(files) {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}))
		_, err := w.Write(files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// create creates a sandbox that the test's end stops.
func create(t *testing.T, name string, opts ...SandboxOption) *Sandbox {
	t.Helper()
	sb, err := CreateSandbox(testContext(t), name, append([]SandboxOption{WithImage(testImage), WithPullPolicy(PullPolicyNever)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		assert.NoError(t, sb.Kill(ctx))
		_ = sb.Close() // often closed by the test
		if sb.proc != nil {
			<-sb.proc.Exited() // its watcher must not count as a leak
		}
	})
	return sb
}

func status(t *testing.T, name string) SandboxStatus {
	t.Helper()
	h, err := GetSandbox(testContext(t), name)
	if IsKind(err, ErrSandboxNotFound) {
		return "gone"
	}
	require.NoError(t, err)
	return h.Status()
}

// traces lists what is left of sandboxes below the data root: everything but locks,
// images and the database.
func traces(t *testing.T, h home) (left []string) {
	t.Helper()
	for _, dir := range []string{h.sandboxes(), filepath.Join(h.run(), "sandboxes"), filepath.Join(h.run(), "agent")} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		for _, e := range entries {
			left = append(left, filepath.Join(filepath.Base(dir), e.Name()))
		}
	}
	return left
}

// runtimePID is the process that runs a sandbox.
func runtimePID(t *testing.T, h home, name string) int {
	t.Helper()
	ctx := testContext(t)
	s, err := store.Open(ctx, h.database(), store.Options{})
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	row, err := s.Sandbox(ctx, name)
	require.NoError(t, err)
	run, err := s.ActiveRun(ctx, row.ID)
	require.NoError(t, err)
	return run.PID
}
