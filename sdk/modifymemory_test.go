package microsandbox

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// memoryOfRunning asks the runtime of a sandbox.
func memoryOfRunning(t *testing.T, sb *Sandbox) *launch.MemoryState {
	t.Helper()
	r, err := sb.home.control(sb.name).ask(testContext(t), controlRequest{Op: "memory_state"})
	require.NoError(t, err)
	require.NotNil(t, r.Memory)
	return r.Memory
}

// TestModifyMemory of a running sandbox goes up and down between what it started with and
// its ceiling.
func TestModifyMemory(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "a", WithDetached(), WithMemory(256), WithMaxMemory(1025))
	ctx := testContext(t)
	modify := func(o ModifyOptions) *SandboxModificationPlan {
		t.Helper()
		p, err := sb.Modify(ctx, o)
		require.NoError(t, err)
		return p
	}
	before := uint32(256)
	for _, mib := range []uint32{768, 1024, 300, 256, 512} {
		p := modify(ModifyOptions{MemoryMiB: mib})
		assert.True(t, p.Applied)
		assert.Equal(t, []string{"memory updated live"}, fields(p))
		assert.Equal(t, mebibytes(before)+" "+mebibytes(mib), *p.Changes[0].Before+" "+*p.Changes[0].After)
		assert.Equal(t, []ResourceResizeStatus{{Resource: "memory", Requested: mebibytes(mib), Actual: mebibytes(mib), Enforced: mebibytes(mib), State: "applied"}}, p.ResizeStatus)
		assert.Equal(t, &launch.MemoryState{BootMiB: 256, TargetMiB: mib, CurrentMiB: mib, MaxMiB: 1025}, memoryOfRunning(t, sb))
		h, c := configured(t, "a")
		effective, err := h.EffectiveConfig()
		require.NoError(t, err)
		assert.Equal(t, [2]uint32{mib, mib}, [2]uint32{c.MemoryMiB, effective.MemoryMiB}, "the row and the running configuration")
		before = mib
	}
	assert.Empty(t, modify(ModifyOptions{MemoryMiB: 512}).Changes)
	p := modify(ModifyOptions{MemoryMiB: 600, DryRun: true})
	assert.Equal(t, []string{"memory updated live"}, fields(p))
	assert.False(t, p.Applied)
	assert.Empty(t, p.ResizeStatus)
	assert.EqualValues(t, 512, memoryOfRunning(t, sb).TargetMiB)

	for mib, reason := range map[uint32]string{2048: "the running sandbox has room for 1025 MiB", 128: "the running sandbox keeps the 256 MiB that it started with"} {
		p, err := sb.Modify(ctx, ModifyOptions{MemoryMiB: mib})
		require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
		assert.Equal(t, "memory updated requires restart", fields(p)[0])
		assert.Equal(t, reason, *p.Changes[0].Reason)
		assert.EqualValues(t, 512, memoryOfRunning(t, sb).TargetMiB)
	}
	require.NoError(t, sb.Pause(ctx))
	_, err := sb.Modify(ctx, ModifyOptions{MemoryMiB: 600})
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.ErrorContains(t, err, "the sandbox is paused: resume it first")
	require.NoError(t, sb.Resume(ctx))
	p = modify(ModifyOptions{MemoryMiB: 128, Policy: ModificationPolicyNextStart})
	assert.Equal(t, []string{"memory updated next start"}, fields(p))
	assert.EqualValues(t, 512, memoryOfRunning(t, sb).TargetMiB)
	_, err = sb.Modify(ctx, ModifyOptions{MemoryMiB: 700, Env: map[string]string{"A": "b"}})
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.EqualValues(t, 512, memoryOfRunning(t, sb).TargetMiB, "all or nothing")
	p = modify(ModifyOptions{MemoryMiB: 64, Policy: ModificationPolicyRestart})
	assert.Equal(t, []string{"memory updated requires restart"}, fields(p))
}

func TestModifyMemoryOfAGuestWithoutADriver(t *testing.T) {
	newGuests(t, runtimetest.Guest{NoMemoryDriver: true})
	sb := create(t, "a", WithDetached(), WithMemory(256), WithMaxMemory(1024))
	p, err := sb.Modify(testContext(t), ModifyOptions{MemoryMiB: 512})
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.Equal(t, []string{"memory updated requires restart"}, fields(p))
	assert.Equal(t, "the running sandbox cannot be resized", *p.Changes[0].Reason)
	_, err = sb.home.control("a").ask(testContext(t), controlRequest{Op: "memory_target", TotalMiB: 512})
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.ErrorContains(t, err, "virtio-mem")
}

// TestModifyMemoryThatTheGuestKeeps ends after a while with what there is; who does not
// wait that long has everything as it was.
func TestModifyMemoryThatTheGuestKeeps(t *testing.T) {
	newGuests(t, runtimetest.Guest{KeepsMemory: true})
	sb := create(t, "a", WithDetached(), WithMemory(256), WithMaxMemory(1024))
	_, err := sb.Modify(testContext(t), ModifyOptions{MemoryMiB: 768})
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(testContext(t), resizePatience/5)
	defer cancel()
	_, err = sb.Modify(ctx, ModifyOptions{MemoryMiB: 512})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.EqualValues(t, 768, memoryOfRunning(t, sb).TargetMiB)
	_, c := configured(t, "a")
	assert.EqualValues(t, 768, c.MemoryMiB)

	began := time.Now()
	p, err := sb.Modify(testContext(t), ModifyOptions{MemoryMiB: 512})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), resizePatience)
	assert.True(t, p.Applied)
	assert.Equal(t, []ResourceResizeStatus{{Resource: "memory", Requested: "512 MiB", Actual: "768 MiB", Enforced: "512 MiB", State: "converging"}}, p.ResizeStatus)
	assert.EqualValues(t, 512, memoryOfRunning(t, sb).TargetMiB, "the guest is asked to go on")
	_, c = configured(t, "a")
	assert.EqualValues(t, 512, c.MemoryMiB)
}
