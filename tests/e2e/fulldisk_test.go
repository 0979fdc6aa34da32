//go:build e2e

package e2e

import (
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

// A pull that fills the disk says so, and leaves enough for msb to make room.
func TestPullFillsTheDisk(t *testing.T) {
	small := t.TempDir()
	resize := func(size string, flags uintptr) {
		t.Helper()
		require.NoError(t, unix.Mount("tmpfs", small, "tmpfs", flags, "size="+size))
	}
	resize("64m", 0)
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	msb := func(want int, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(within(t, patience), os.Getenv("MSB_PATH"), args...)
		cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_HOME="+filepath.Join(small, "home"))
		out, _ := cmd.CombinedOutput()
		require.NotNil(t, cmd.ProcessState, "msb did not run")
		assert.Equal(t, want, cmd.ProcessState.ExitCode(), "%v: %s", args, out)
		return string(out)
	}
	s := registrytest.New(t)
	noise := make([]byte, 6<<20)
	_, err := io.ReadFull(rand.Reader, noise)
	require.NoError(t, err)
	s.Push(t, "small", "latest", registrytest.Image{Architecture: goruntime.GOARCH, Layers: [][]byte{registrytest.Layer(t, "f", "small")}})
	s.Push(t, "large", "latest", registrytest.Image{Architecture: goruntime.GOARCH, Layers: [][]byte{registrytest.Layer(t, "f", string(noise))}})
	msb(0, "pull", s.Host()+"/small")
	resize("3m", unix.MS_REMOUNT)
	out := msb(1, "pull", s.Host()+"/large")
	assert.Contains(t, out, "no space left on device")
	assert.Contains(t, msb(0, "image", "ls"), "/small ")

	// The rest of the disk is somebody else's, and a killed pull left a part.
	part := filepath.Join(small, "home", "cache", "tmp", "sha256_00.part")
	require.NoError(t, os.WriteFile(part, noise[:256<<10], 0o600))
	f, err := os.Create(filepath.Join(small, "fill"))
	require.NoError(t, err)
	_, err = f.Write(noise)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, f.Close())
	assert.Contains(t, msb(1, "image", "ls"), "no space for the database")
	assert.Contains(t, msb(0, "image", "prune", "-y"), "Pruned")
	assert.NoFileExists(t, part)
	assert.Contains(t, msb(0, "image", "ls"), "No images found.")
	require.NoError(t, os.Remove(f.Name()))
	resize("64m", unix.MS_REMOUNT)
	msb(0, "pull", s.Host()+"/large")
}
