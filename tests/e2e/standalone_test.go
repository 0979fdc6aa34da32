//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestStandalone runs a program that was built outside the repository, on a machine with no
// msb and nothing in its data root: it starts itself as the runtime, and leaves nothing.
func TestStandalone(t *testing.T) {
	built, err := os.ReadFile(data("standalone"))
	require.NoError(t, err, "hack/standalone builds it")
	dir := t.TempDir() // where no msb is
	program, image := filepath.Join(dir, "standalone"), filepath.Join(dir, "mini.tar")
	require.NoError(t, os.WriteFile(program, built, 0o755))
	require.NoError(t, msb.Image.Save(within(t, patience), []string{"mini"}, image, msb.ImageArchiveDocker))
	home, err := os.MkdirTemp("", "home") // its sockets' paths have to be short
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(home)) })

	name := newName(t)
	cmd := exec.CommandContext(within(t, 2*patience), program, name, image)
	cmd.Env = []string{"MSB_HOME=" + home, "PATH=" + dir}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	for _, want := range []string{"from the guest", "stdout: working", "code: 3"} {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want+"\n", line)
	}

	pids := runtimes(t, name)
	require.Len(t, pids, 1)
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pids[0]))
	require.NoError(t, err)
	assert.Equal(t, program, exe, "the runtime is the program itself")
	time.Sleep(3 * time.Second) // idle
	guest, other := proportional(t, pids[0])
	t.Logf("idle, KiB: program %s; runtime %s, PSS of guest memory %d, beyond it %d",
		memoryOf(t, cmd.Process.Pid), memoryOf(t, pids[0]), guest, other)

	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	require.Eventually(t, func() bool { return len(runtimes(t, name)) == 0 }, patience, 100*time.Millisecond)
	left, err := filepath.Glob(filepath.Join(home, "sandboxes", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// memoryOf is a process's resident and proportional set size.
func memoryOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	require.NoError(t, err)
	sizes := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 {
			sizes[f[0]] = f[1]
		}
	}
	return fmt.Sprintf("RSS %s, PSS %s", sizes["Rss:"], sizes["Pss:"])
}
