package microsandbox

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/residue"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// fullEnv makes TestCyclesLeaveNothing take minutes, as it does in the end-to-end suite.
const fullEnv = "E2E_FULL"

// cycle creates a sandbox in one of several ways, ends it in one of several, and removes it.
func cycle(t *testing.T, n int) {
	t.Helper()
	ctx := testContext(t)
	name := "cycle" + strconv.Itoa(n%4) // the lock file of a name stays
	ephemeral := n%4 == 3
	opts := []SandboxOption{WithImage(testImage), WithPullPolicy(PullPolicyNever), WithRootDisk(RootDisk.Managed(64)), WithEphemeral(ephemeral),
		WithLabels(map[string]string{"cycle": name}), WithScripts(map[string]string{"greet": "echo " + name})}
	if n%2 == 1 {
		opts = append(opts, WithDetached())
	}
	sb, err := CreateSandbox(ctx, name, opts...)
	require.NoError(t, err)
	out, err := sb.Exec(ctx, "echo", []string{name})
	require.NoError(t, err)
	require.Equal(t, name+"\n", out.Stdout())
	if n%3 == 0 {
		require.NoError(t, sb.Kill(ctx))
	} else {
		require.NoError(t, sb.Stop(ctx))
	}
	require.NoError(t, sb.Close())
	err = RemoveSandbox(ctx, name)
	if ephemeral {
		require.True(t, IsKind(err, ErrSandboxNotFound), "%v", err)
	} else {
		require.NoError(t, err)
	}
}

// Sandboxes that came and went leave the host as it was before them.
func TestCyclesLeaveNothing(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	// Few places for metrics: those of sandboxes that were killed must be had again.
	require.NoError(t, os.WriteFile(h.configFile, []byte(`{"metrics": {"capacity": 3}}`), 0o600))
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	cycles := 12
	if os.Getenv(fullEnv) != "" {
		cycles = 1000
	}
	const first = 4 // make what the data root has from then on
	for n := range first {
		cycle(t, n)
	}
	before := residueOf(t, h, temporary)
	assert.Empty(t, before.Locks)
	assert.Zero(t, before.Rows["sandbox"])
	for n := range cycles {
		cycle(t, n)
	}
	var after residue.Residue
	settled := func() bool { // the last runtimes may still be going
		after = residueOf(t, h, temporary)
		return assert.ObjectsAreEqual(before, after)
	}
	for begin := time.Now(); !settled() && time.Since(begin) < 20*time.Second; {
		time.Sleep(50 * time.Millisecond)
	}
	assert.Equal(t, before, after)

	_, err := create(t, "last").Metrics(testContext(t))
	assert.NoError(t, err, "a place in the registry")
}

func residueOf(t *testing.T, h home, temporary string) residue.Residue {
	t.Helper()
	r, err := residue.Of(h.root, temporary)
	require.NoError(t, err)
	return r
}
