//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/kernel"
	msb "github.com/gomsb/gomsb/sdk"
)

// TestOfficialKernels boots the kernel bundles of two official releases to our agent, and copies
// the sandbox.
func TestOfficialKernels(t *testing.T) {
	list, err := os.ReadFile(data("kernels"))
	require.NoError(t, err)
	releases := map[string]bool{shell(t, shared(t), "uname -r"): true}
	assert.Contains(t, releases, kernel.EmbeddedVersion)
	for line := range strings.Lines(string(list)) {
		name, path, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		t.Run(name, func(t *testing.T) {
			t.Setenv("MSB_KERNEL", path)
			sb := create(t, msb.WithCPUs(2))
			release := shell(t, sb, "uname -r")
			assert.False(t, releases[release], "%s booted before", release)
			releases[release] = true
			assert.Equal(t, "2", shell(t, sb, "nproc"))
			require.NoError(t, sb.FS().WriteString(within(t, patience), "/written", "to the root\n"))
			assert.Equal(t, "to the root", shell(t, sb, "cat /written"))
			pid := shell(t, sb, "sleep 100000 > /dev/null 2>&1 & echo $!")
			copies, err := sb.Branch(within(t, patience), []string{newName(t)})
			branched(t, copies)
			require.NoError(t, err)
			assert.Equal(t, strings.Join([]string{release, copies[0].Name(), "to the root"}, "\n"), shell(t, copies[0], "kill -0 "+pid+" && uname -r && hostname && cat /written"))
			require.NoError(t, copies[0].Stop(within(t, patience)))
			require.NoError(t, sb.Stop(within(t, patience)))
			r := ended(t, sb.Name())
			require.NotNil(t, r.ExitCode)
			assert.Zero(t, *r.ExitCode)
		})
	}
	assert.Len(t, releases, 3)
}
