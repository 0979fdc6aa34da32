//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lines is a writer that keeps what it gets and logs its lines at once: the checks take
// a while under emulation.
type lines struct {
	t    *testing.T
	all  []string
	rest string
}

func (l *lines) Write(b []byte) (int, error) {
	l.rest += string(b)
	for {
		line, rest, ok := strings.Cut(l.rest, "\n")
		if !ok {
			return len(b), nil
		}
		l.t.Log(line)
		l.all, l.rest = append(l.all, line), rest
	}
}

// checkPosix has a guest of a program run the checks of tests/e2e/posix in its root and in
// a share, and returns how many failed in each.
func checkPosix(t *testing.T, program string) (root, share int) {
	name, home := newName(t), t.TempDir()
	command := func(out io.Writer, args ...string) error {
		cmd := exec.CommandContext(within(t, 15*patience), program, args...)
		cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_PATH="+program, "HOME="+home)
		cmd.WaitDelay = time.Second
		cmd.Stdout, cmd.Stderr = out, out
		return cmd.Run()
	}
	require.NoError(t, command(os.Stderr, "create", "-q", "--pull", "never", "--name", name, "--user", "root",
		"-v", data("programs")+":/programs:ro", "-v", t.TempDir()+":/share", "mini"))
	check := func(args ...string) (failed int) {
		out := &lines{t: t}
		_ = command(out, append([]string{"exec", "--stream", name, "--", "/programs/posix", "-brief"}, args...)...) // fails if a check does
		require.NotEmpty(t, out.all)
		var checks int
		_, err := fmt.Sscanf(out.all[len(out.all)-1], "%d checks, %d failed", &checks, &failed)
		require.NoError(t, err, out.all)
		assert.Greater(t, checks, 550)
		return failed
	}
	// What the checks leave in the share is removed by the host, which is much quicker.
	return check("/"), check("-keep", "/share")
}

// TestPosix: nothing that Linux's own file systems do right goes wrong in a sandbox.
// E2E_POSIX=official looks at microsandbox 0.6.18 instead, which fails some.
func TestPosix(t *testing.T) {
	program := os.Getenv("MSB_PATH")
	if os.Getenv("E2E_POSIX") == "official" {
		path, err := os.ReadFile(data("official"))
		require.NoError(t, err)
		program = string(path)
	}
	root, share := checkPosix(t, program)
	assert.Zero(t, root, "failed in the root")
	assert.Zero(t, share, "failed in a share")
}
