//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
	"github.com/gomsb/gomsb/tests/e2e/draw/record"
)

const (
	// apart is how long the source stands still before copies of it start, so that its clock
	// is unlike theirs. It is short, since a guest draws new keys when it notices that half of
	// its age has passed since the last ones, up to a minute, which would hide what is tested.
	apart = 500 * time.Millisecond
	// grown is how long the program runs before that.
	grown = "12"
)

// TestCopiesDrawApart has a program ask for random numbers and the time again and again,
// before it is copied and after that: what it asked for after the copy, no other copy has got,
// nor the source, and its wall clock was right at once.
func TestCopiesDrawApart(t *testing.T) {
	ctx := within(t, 10*patience)
	source, err := msb.CreateSandbox(ctx, newName(t), msb.WithImage("mini"), msb.WithCPUs(2), msb.WithMemory(512), bind("/programs", data("programs"), msb.MountOptions{Readonly: true}))
	require.NoError(t, err)
	branched(t, []*msb.Sandbox{source})
	pid := shell(t, source, "/programs/draw /tmp/draws > /tmp/errors 2>&1 < /dev/null & echo $!", msb.WithExecUser("root"))
	shell(t, source, "until [ -e /tmp/draws ]; do sleep 0.2; done; sleep "+grown, msb.WithExecUser("root"))
	require.NoError(t, source.Pause(ctx))
	time.Sleep(apart)
	copied := time.Now()
	up, err := source.Branch(ctx, []string{newName(t), newName(t)})
	branched(t, up)
	require.NoError(t, err)
	require.NoError(t, source.Resume(ctx))

	original := draws(ctx, t, source, pid)
	copies := make([][2][]record.Record, len(up))
	for i, sb := range up {
		copies[i] = draws(ctx, t, sb, pid)
	}
	for worker, all := range original {
		last := beforeGap(all)
		seen := map[[16]byte]string{}
		for _, r := range all[last+1:] {
			seen[r.Value] = "the source"
		}
		for i, sb := range up {
			mine := copies[i][worker]
			require.Greater(t, len(mine), last+10, "worker %d of %s drew after the copy", worker, sb.Name())
			require.Equal(t, all[:last], mine[:last], "what they drew before is the same")
			shared, wrong := 0, 0
			// The round of the copy itself may have begun before it.
			for _, r := range mine[last+1:] {
				if seen[r.Value] != "" {
					shared++
				}
				seen[r.Value] = sb.Name()
				if r.Wall < copied.Add(-apart/2).UnixNano() {
					wrong++
				}
			}
			assert.Zero(t, shared, "worker %d of %s: values that others have got, of %d", worker, sb.Name(), len(mine)-last-1)
			assert.Zero(t, wrong, "worker %d of %s: readings of the source's clock, of %d", worker, sb.Name(), len(mine)-last-1)
		}
	}
}

// draws ends the program, which goes on for a while first, and returns what its workers have.
func draws(ctx context.Context, t *testing.T, sb *msb.Sandbox, pid string) (workers [2][]record.Record) {
	t.Helper()
	out, err := sb.Shell(ctx, "sleep 2; kill "+pid+"; while kill -0 "+pid+" 2>/dev/null; do sleep 1; done; cat /tmp/errors; ls -l /tmp; test -f /tmp/draws.1", msb.WithExecUser("root"))
	require.NoError(t, err)
	require.Zero(t, out.ExitCode(), "%s: %s", out.Stdout(), out.Stderr())
	for i := range workers {
		b, err := sb.FS().Read(ctx, fmt.Sprintf("/tmp/draws.%d", i))
		require.NoError(t, err)
		workers[i], err = record.Parse(b)
		require.NoError(t, err)
	}
	return workers
}

// beforeGap is the index of the last record that began before the longest gap.
func beforeGap(all []record.Record) int {
	at, longest := 0, int64(0)
	for i := 1; i < len(all); i++ {
		if gap := all[i].Began - all[i-1].Began; gap > longest {
			at, longest = i-1, gap
		}
	}
	return at
}
