package ext4

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tool runs a program of e2fsprogs, which the tests need installed (hack/setup), and
// returns its output and whether it succeeded.
func tool(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name) // not in the PATH of ordinary users
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out), err
}

// run is tool for what must succeed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := tool(t, name, args...)
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return out
}

// clean asserts that e2fsck has nothing to say, nor a journal to recover: its exit
// status alone would not tell.
func clean(t testing.TB, image string) {
	t.Helper()
	out := run(t, "e2fsck", "-fn", image)
	require.NotContains(t, out, "Fix?")
	require.NotContains(t, out, "skipping journal recovery")
}

// allocated returns how many bytes of the disk a file takes.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}
