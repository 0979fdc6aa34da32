//go:build linux && fuse

package passthrough

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// relaxedFailures are what a share with relaxed attributes fails: its symbolic links are
// the host's, which keep no owner of the guest's.
var relaxedFailures = []string{
	"chown-through-link/block", "chown-through-link/char", "chown-through-link/fifo", "chown-through-link/file", "chown-through-link/socket",
	"lchown/symlink", "make-as-user/symlink", "names/symlink-owner", "permissions/sgid-directory", "permissions/sticky-symlink",
}

// TestChecks has the program tests/e2e/posix, which hack/posix names in POSIX_CHECKS, look
// for what POSIX wants in shares of every kind.
func TestChecks(t *testing.T) {
	program := os.Getenv("POSIX_CHECKS")
	require.NotEmpty(t, program, "POSIX_CHECKS is not set: run hack/posix")
	for _, cfg := range []Config{{Stat: StatStrict}, {Stat: StatRelaxed}, {Stat: StatStrict, Perms: PermsMirror}, {Stat: StatStrict, Descriptors: 2, Quota: 8 << 30}} {
		t.Run(fmt.Sprint(cfg.Stat, cfg.Perms, cfg.Descriptors), func(t *testing.T) {
			cfg.Root = t.TempDir()
			_, share := mounted(t, cfg)
			require.NoError(t, os.Chmod(share, 0o755))
			out, err := exec.Command(program, share).Output()
			var exit *exec.ExitError
			require.True(t, err == nil || errors.As(err, &exit) && exit.ExitCode() == 1, "%v: %s", err, out)
			var failed []string
			passed := 0
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "ok ") {
					passed++
				} else if name, _, ok := strings.Cut(strings.TrimPrefix(line, "FAIL "), ": "); ok {
					t.Log(strings.TrimSpace(line))
					failed = append(failed, name)
				}
			}
			want := []string{}
			if cfg.Stat == StatRelaxed {
				want = relaxedFailures
			}
			assert.ElementsMatch(t, want, failed)
			assert.Greater(t, passed, 550-len(want))
		})
	}
}
