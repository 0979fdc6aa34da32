package microsandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKernelBundleOfTheRuntime(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "lib"), 0o755))
	t.Setenv("MSB_PATH", filepath.Join(dir, "bin", "msb"))
	t.Setenv("MSB_LIBKRUNFW_PATH", "")
	h := home{root: "/root-of-data"}
	const name = "libkrunfw.so.5.6.1"
	assert.Equal(t, "/root-of-data/lib/"+name, h.libkrunfw(), "nothing is there")
	for _, folder := range []string{"lib", "bin"} { // the second comes first
		path := filepath.Join(dir, folder, name)
		require.NoError(t, os.WriteFile(path, nil, 0o644))
		assert.Equal(t, path, h.libkrunfw())
	}
	h.settings.Paths.Libkrunfw = "/configured"
	assert.Equal(t, "/configured", h.libkrunfw())
	t.Setenv("MSB_LIBKRUNFW_PATH", "/wanted")
	assert.Equal(t, "/wanted", h.libkrunfw())
}
