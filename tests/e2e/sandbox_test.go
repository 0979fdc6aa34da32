//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// patience is how long something may take that takes no time on hardware: the emulated
// testbed is some fifty times slower.
const patience = 60 * time.Second

var names atomic.Int32

// newName returns a name that no other test uses and registers the removal of whatever
// has it in the end.
func newName(t *testing.T) string {
	t.Helper()
	slug := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.TrimPrefix(t.Name(), "Test"))
	name := fmt.Sprintf("%.40s-%d", slug, names.Add(1))
	t.Cleanup(func() { cleanUp(t, name) })
	return name
}

// cleanUp removes a sandbox if it is still there, after showing its logs if the test has
// failed.
func cleanUp(t *testing.T, name string) {
	if t.Failed() {
		showLogs(t, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, err := msb.GetSandbox(ctx, name)
	if msb.IsKind(err, msb.ErrSandboxNotFound) {
		return
	}
	require.NoError(t, err)
	require.NoError(t, h.Kill(ctx))
	if err := h.Remove(ctx); !msb.IsKind(err, msb.ErrSandboxNotFound) {
		require.NoError(t, err)
	}
}

// showLogs prints the ends of what a sandbox left.
func showLogs(t *testing.T, name string) {
	for _, log := range []string{"runtime.log", "kernel.log", "boot-error.json"} {
		b, err := os.ReadFile(homePath("sandboxes", name, "logs", log))
		if err != nil {
			continue
		}
		const most = 6000
		if len(b) > most {
			b = b[len(b)-most:]
		}
		t.Logf("%s of %s:\n%s", log, name, bytes.ToValidUTF8(b, []byte("?")))
	}
}

// create makes a sandbox of the mini image, unless opts name another one.
func create(t *testing.T, opts ...msb.SandboxOption) *msb.Sandbox {
	t.Helper()
	return createAs(t, newName(t), opts...)
}

func createAs(t *testing.T, name string, opts ...msb.SandboxOption) *msb.Sandbox {
	t.Helper()
	sb, err := msb.CreateSandbox(within(t, patience), name, append([]msb.SandboxOption{msb.WithImage("mini")}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = sb.Kill(context.Background()) })
	return sb
}

// within is the test's context with a time limit.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

const sharedName = "shared"

var sharedOnce = sync.OnceValues(func() (*msb.Sandbox, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return msb.CreateSandbox(ctx, sharedName, msb.WithImage("mini"), msb.WithMemory(768), msb.WithReplace())
})

// shared is one sandbox for all tests that leave it as it was.
func shared(t *testing.T) *msb.Sandbox {
	t.Helper()
	sb, err := sharedOnce()
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, sharedName)
		}
	})
	return sb
}

func releaseShared() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, err := msb.GetSandbox(ctx, sharedName)
	if msb.IsKind(err, msb.ErrSandboxNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.Stop(ctx); err != nil {
		return err
	}
	return h.Remove(ctx)
}

// shell runs a script that must succeed and returns what it printed, without the last
// newline.
func shell(t *testing.T, sb *msb.Sandbox, script string, opts ...msb.ExecOption) string {
	t.Helper()
	out, err := sb.Shell(within(t, patience), script, opts...)
	require.NoError(t, err, script)
	require.Zero(t, out.ExitCode(), "%s: %s%s", script, out.Stdout(), out.Stderr())
	return strings.TrimSuffix(out.Stdout(), "\n")
}

func status(t *testing.T, name string) msb.SandboxStatus {
	t.Helper()
	h, err := msb.GetSandbox(within(t, patience), name)
	require.NoError(t, err)
	return h.Status()
}

// ended waits until the sandbox does not run and returns how it ended.
func ended(t *testing.T, name string) *msb.SandboxStopResult {
	t.Helper()
	h, err := msb.GetSandbox(within(t, patience), name)
	require.NoError(t, err)
	r, err := h.WaitUntilStopped(within(t, patience))
	require.NoError(t, err)
	return r
}

// runtimes lists the processes that run the sandbox of that name.
func runtimes(t *testing.T, name string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var pids []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // ended
		}
		args := strings.Split(string(b), "\x00")
		var pid int
		if len(args) > 3 && args[1] == "sandbox" && strings.Contains(string(b), "\x00"+name+"\x00") {
			_, err := fmt.Sscanf(f, "/proc/%d/", &pid)
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// noTrace asserts that nothing of a sandbox is left but, perhaps, its row.
func noTrace(t *testing.T, name string) {
	t.Helper()
	require.Empty(t, runtimes(t, name), "processes")
	noSockets(t)
}

// noSockets asserts that no socket is left, but those of the shared sandbox.
func noSockets(t *testing.T) {
	t.Helper()
	sockets, err := filepath.Glob(homePath("run", "sandboxes", "*", "*.sock"))
	require.NoError(t, err)
	for _, s := range sockets {
		require.Equal(t, filepath.Dir(sharedSocket(t)), filepath.Dir(s), "sockets")
	}
}

// gone asserts that a sandbox was removed altogether.
func gone(t *testing.T, name string) {
	t.Helper()
	noTrace(t, name)
	_, err := msb.GetSandbox(within(t, patience), name)
	require.True(t, msb.IsKind(err, msb.ErrSandboxNotFound), "%v", err)
	require.NoDirExists(t, homePath("sandboxes", name))
}
