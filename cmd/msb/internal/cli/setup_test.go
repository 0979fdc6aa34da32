package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	"github.com/gomsb/gomsb/internal/metrics"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	msb "github.com/gomsb/gomsb/sdk"
)

// commandEnv makes the test binary msb itself.
const commandEnv = "GOMSB_TEST_COMMAND"

func TestMain(m *testing.M) {
	runtimetest.Main()
	if os.Getenv(commandEnv) != "" {
		os.Exit(Main(os.Args[1:], ui.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	goleak.VerifyTestMain(m)
}

// result is what one invocation of msb did.
type result struct {
	code     int
	out, err string
}

// duration is what a tick line shows on a slow day, but for the latency after "Reachable".
var duration = regexp.MustCompile(`(?m)^(   ✓ (?:[^R]|Re[^a]).*) \(\d+(?:\.\d+)?(?:ms|s)\)\n`)

// msbIn runs msb with standard input.
func msbIn(in io.Reader, args ...string) result {
	var out, err bytes.Buffer
	code := Main(args, ui.Streams{In: in, Out: &out, Err: &err})
	return result{code, out.String(), duration.ReplaceAllString(err.String(), "$1\n")}
}

func run(args ...string) result { return msbIn(strings.NewReader(""), args...) }

// succeed runs msb and expects exit code 0.
func succeed(t *testing.T, args ...string) result {
	t.Helper()
	r := run(args...)
	require.Zero(t, r.code, "msb %s: %s", strings.Join(args, " "), r.err)
	return r
}

// newHome makes an empty data root and ends what still runs in it after the test.
func newHome(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "msb")
	require.NoError(t, err)
	t.Setenv("MSB_HOME", dir)
	t.Setenv("NO_COLOR", "")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		page, err := msb.ListSandboxesWith(ctx, msb.WithListLimit(100))
		require.NoError(t, err)
		for _, h := range page.Sandboxes {
			assert.NoError(t, h.Kill(ctx))
		}
		require.NoError(t, os.RemoveAll(dir))
		_ = os.Remove(filepath.Join("/dev/shm", metrics.Name(dir)))
		// The watchers of processes that this test binary started end with those.
		require.Eventually(t, func() bool { return goleak.Find(goleak.IgnoreCurrent()) == nil }, time.Minute, 5*time.Millisecond)
	})
	return dir
}

// newGuests makes a data root with an image, whose sandboxes behave as g says.
func newGuests(t *testing.T, g runtimetest.Guest) string {
	t.Helper()
	dir := newHome(t)
	runtimetest.Use(t, g)
	r := msbIn(bytes.NewReader(archive(t, "mini:latest")), "load", "-q")
	require.Zero(t, r.code, r.err)
	return dir
}

// archive is a docker-save archive of a small image whose own command is "echo default".
func archive(t *testing.T, tag string) []byte {
	t.Helper()
	layer := tarball(t, [][2]string{{"etc/hostname", "mini\n"}})
	sum := sha256.Sum256([]byte(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Entrypoint": []string{"echo"}, "Cmd": []string{"default"}, "Labels": map[string]string{"maker": "test"}, "User": "root"},
	})
	require.NoError(t, err)
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{tag}, "Layers": []string{"layer.tar"}}})
	require.NoError(t, err)
	return []byte(tarball(t, [][2]string{{"config.json", string(config)}, {"layer.tar", layer}, {"manifest.json", string(manifest)}}))
}

func tarball(t *testing.T, files [][2]string) string {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}))
		_, err := w.Write([]byte(f[1]))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.String()
}

// changing are the parts of an output that differ each time.
var changing = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "DIGEST"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "SHORTDIGEST"},
	{regexp.MustCompile(`\bmsb-[0-9a-f]{8}\b`), "msb-NAME"},
	{regexp.MustCompile(`\(\d+(\.\d+)?(µs|ms|s)\)`), "(DURATION)"},
	{regexp.MustCompile(`"(compressed_size_bytes|size_bytes|erofs_size_bytes)": \d+`), `"$1": N`},
	{regexp.MustCompile(`"architecture": "\w+"`), `"architecture": "ARCH"`},
	{regexp.MustCompile(`linux/\w+`), "linux/ARCH"},
	{regexp.MustCompile(`(?m)^Architecture:( +)\w+$`), "Architecture:${1}ARCH"},
}

// golden compares text with a file under testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, text string) {
	t.Helper()
	for _, c := range changing {
		text = c.re.ReplaceAllString(text, c.with)
	}
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), text, path)
}
