//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestModifyProcessors gives a running guest more processors and takes them again.
func TestModifyProcessors(t *testing.T) {
	ctx := within(t, 10*patience)
	name := newName(t)
	sb, err := msb.CreateSandbox(ctx, name, msb.WithImage("mini"), msb.WithDetached(), msb.WithCPUs(1), msb.WithMaxCPUs(2))
	require.NoError(t, err)
	processors := func() string {
		out, err := sb.Shell(ctx, "grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online")
		require.NoError(t, err)
		return strings.ReplaceAll(strings.TrimSpace(out.Stdout()), "\n", ": ")
	}
	assert.Equal(t, "1: 0", processors())
	for _, step := range []struct {
		cpus uint8
		want string
	}{{2, "2: 0-1"}, {1, "1: 0"}, {2, "2: 0-1"}} {
		p, err := sb.Modify(ctx, msb.ModifyOptions{CPUs: step.cpus})
		require.NoError(t, err)
		assert.True(t, p.Applied)
		require.Len(t, p.Changes, 1)
		assert.Equal(t, "live", p.Changes[0].Disposition)
		n := fmt.Sprint(step.cpus)
		assert.Equal(t, []msb.ResourceResizeStatus{{Resource: "cpus", Requested: n, Actual: n, Enforced: n, State: "applied"}}, p.ResizeStatus)
		assert.Equal(t, step.want, processors())
	}
	p, err := sb.Modify(ctx, msb.ModifyOptions{CPUs: 3})
	require.True(t, msb.IsKind(err, msb.ErrUnsupportedOperation), "%v", err)
	assert.Equal(t, "requires restart", p.Changes[0].Disposition)
	r := cli(t, "ps", name, "--format", "json")
	assert.Contains(t, r.stdout, `"cpus": 2`)
	require.NoError(t, sb.Stop(ctx))
	again, err := msb.StartSandboxDetached(ctx, name)
	require.NoError(t, err)
	sb = again
	assert.Equal(t, "2: 0-1", processors(), "the next start has it too")
}
