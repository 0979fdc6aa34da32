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
// minutes under emulation.
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

// TestPosix has guests run the checks of tests/e2e/posix, ours in their root and in a share,
// those of microsandbox 0.6.18, for the record, in a share. Ours fail nothing.
func TestPosix(t *testing.T) {
	if os.Getenv("E2E_POSIX") == "" {
		t.Skip("takes many minutes in the testbed: E2E_POSIX=1 hack/e2e -run TestPosix; `go test ./tests/e2e/posix` checks shares on this host")
	}
	official, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	for who, program := range map[string]string{"ours": os.Getenv("MSB_PATH"), "official": string(official)} {
		t.Run(who, func(t *testing.T) {
			name, home := newName(t), t.TempDir()
			command := func(t *testing.T, out io.Writer, args ...string) error {
				cmd := exec.CommandContext(within(t, 15*patience), program, args...)
				cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_PATH="+program, "HOME="+home)
				cmd.WaitDelay = time.Second
				cmd.Stdout, cmd.Stderr = out, out
				return cmd.Run()
			}
			require.NoError(t, command(t, os.Stderr, "create", "-q", "--pull", "never", "--name", name, "--user", "root",
				"-v", data("programs")+":/programs:ro", "-v", t.TempDir()+":/share", "mini"))
			for _, dir := range []string{"/share", "/root"} {
				if who != "ours" && dir == "/root" {
					continue // the same kernel file systems as ours
				}
				t.Run(dir[1:], func(t *testing.T) {
					out := &lines{t: t}
					_ = command(t, out, "exec", "--stream", name, "--", "/programs/posix", "-brief", dir) // fails if a check does
					require.NotEmpty(t, out.all)
					var checks, failed int
					_, err := fmt.Sscanf(out.all[len(out.all)-1], "%d checks, %d failed", &checks, &failed)
					require.NoError(t, err, out.all)
					assert.Greater(t, checks, 600)
					if who == "ours" {
						assert.Zero(t, failed)
					}
				})
			}
		})
	}
}
