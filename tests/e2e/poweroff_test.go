//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestGuestPowersOff: without ACPI a kernel can only halt, which is an orderly end too,
// and one that nobody has to wait out. Newer kernels reset their devices first, others
// leave the agent's connection as it is.
func TestGuestPowersOff(t *testing.T) {
	list, err := os.ReadFile(data("kernels"))
	require.NoError(t, err)
	kernels := map[string]string{"own": ""}
	for line := range strings.Lines(string(list)) {
		name, path, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		kernels[name] = path
	}
	for name, path := range kernels {
		for i, command := range []string{"poweroff -f", "halt -f"} {
			t.Run(name+" "+command, func(t *testing.T) {
				if path != "" {
					t.Setenv("MSB_KERNEL", path)
				}
				sb := create(t, msb.WithCPUs(uint8(1+i)))
				_, _ = sb.Shell(within(t, patience), command) // its answer may not get through any more
				r := ended(t, sb.Name())
				assert.Equal(t, msb.SandboxStatusStopped, r.Status)
				require.NotNil(t, r.ExitCode)
				assert.Zero(t, *r.ExitCode)
				log, err := os.ReadFile(filepath.Join(os.Getenv("MSB_HOME"), "sandboxes", sb.Name(), "logs", "runtime.log"))
				require.NoError(t, err)
				assert.Contains(t, string(log), "how=halt")
				assert.NotContains(t, string(log), "the guest did not go in time")
			})
		}
	}
}
