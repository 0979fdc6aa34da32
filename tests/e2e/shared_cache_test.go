//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCachesAreInterchangeable lets us and microsandbox 0.6.18 boot Debian roots from one
// data root each, one loaded by us and one by it: either finds what the other made, and
// all guests read the same.
func TestCachesAreInterchangeable(t *testing.T) {
	official, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	const look = `sha256sum /etc/debian_version /usr/bin/python3* /var/lib/dpkg/info/* /etc/motd | sha256sum; readlink /usr/local/bin/py; ls -d /usr/share/common-licenses 2>&1; python3 -c 'print(6 * 7)'`
	want := ""
	for _, loader := range []string{"by-us", "by-official"} {
		for who, program := range map[string]string{"us": os.Getenv("MSB_PATH"), "official": string(official)} {
			cmd := exec.CommandContext(within(t, 6*patience), program, "run", "--pull", "never", "debian", "--", "sh", "-c", look)
			cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_HOME="+data(loader), "MSB_PATH="+program, "HOME="+t.TempDir())
			cmd.WaitDelay = time.Second
			out, err := cmd.Output()
			require.NoError(t, err, "%s on what was loaded %s: %s", who, loader, out)
			if want == "" {
				want = string(out)
				assert.Contains(t, want, "../../bin/python3\nls: cannot access '/usr/share/common-licenses': No such file or directory\n42\n")
			}
			assert.Equal(t, want, string(out), "%s on what was loaded %s", who, loader)
		}
		assert.FileExists(t, filepath.Join(data(loader), "db", "msb.db"))
	}
}
