package metrics

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestName(t *testing.T) {
	for home, want := range map[string]string{
		"/root/.microsandbox": "/msb-met-36811d6a2cbe4840-v3", "/home/alice/.microsandbox": "/msb-met-609e1b201052d550-v3",
		"/home/u/.microsandbox": "/msb-met-a3292eaac203de93-v3", "/tmp/rt/home": "/msb-met-b41a5ab917721044-v3",
	} {
		assert.Equal(t, want, Name(home))
	}
}

func TestObservedSegmentsRead(t *testing.T) {
	started := time.UnixMilli(0x1a20f0bee84)
	for name, c := range map[string]struct {
		content []byte
		want    Entry
	}{
		"reserved": {observed(t, observedReserved, observedName2), Entry{
			State: Reserved, Reservation: Reservation{Generation: 3},
			Owner: Owner{SandboxID: 2, Name: "obs2", MemoryLimit: 512 << 20},
		}},
		"active": {observed(t, observedActive, observedName3), Entry{
			State: Active, Reservation: Reservation{Generation: 5},
			Owner: Owner{SandboxID: 3, Name: "obs3", MemoryLimit: 512 << 20}, Run: Run{ID: 1, PID: 18827, StartedAt: started},
		}},
		"stale": {observed(t, observedStale, observedName3), Entry{
			State: Stale, Reservation: Reservation{Generation: 6},
			Owner: Owner{SandboxID: 3, Name: "obs3", MemoryLimit: 512 << 20}, Run: Run{ID: 1, PID: 18827, StartedAt: started},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := mapped(t, c.content)
			assert.Equal(t, 1024, r.Capacity())
			assert.Equal(t, []Entry{c.want}, r.Entries(Reserved, Active, Stale))
			e, err := r.ByRun(1)
			if c.want.State == Active {
				require.NoError(t, err)
				assert.Equal(t, c.want, e)
			} else {
				assert.ErrorIs(t, err, ErrNotFound)
			}
		})
	}
}

// The same steps as the official programs took leave the same bytes.
func TestObservedSegmentsAreReproduced(t *testing.T) {
	r := registry(t, 1024)
	require.Len(t, r.mem, observedSize)
	r.mem.u64(offCreatedAt).Store(0x1a20f0a865f)
	first, err := r.Reserve(Owner{SandboxID: 1, Name: "obs", MemoryLimit: 512 << 20}, allDead)
	require.NoError(t, err)
	assert.Equal(t, Reservation{Slot: 0, Generation: 1}, first)
	r.Free(first)
	second, err := r.Reserve(Owner{SandboxID: 2, Name: "obs2", MemoryLimit: 512 << 20}, allDead)
	require.NoError(t, err)
	assert.Equal(t, Reservation{Slot: 0, Generation: 3}, second)
	assert.Equal(t, observed(t, observedReserved, observedName2), []byte(r.mem))

	r.Free(second)
	third, err := r.Reserve(Owner{SandboxID: 3, Name: "obs3", MemoryLimit: 512 << 20}, allDead)
	require.NoError(t, err)
	w, err := r.Activate(third, Run{ID: 1, PID: 18827, StartedAt: time.UnixMilli(0x1a20f0bee84)})
	require.NoError(t, err)
	want := observed(t, observedActive, observedName3)
	want[offGeneration] = 5
	assert.Equal(t, want, []byte(r.mem))

	w.Release(Stale)
	want = observed(t, observedStale, observedName3)
	want[offGeneration] = 6
	assert.Equal(t, want, []byte(r.mem))
}
