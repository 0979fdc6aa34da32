package runtime

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

// memoryGuest takes what memory it is offered, up to a limit of its own.
type memoryGuest struct {
	mu    sync.Mutex
	has   Memory
	limit int
	asked int // times
}

func (g *memoryGuest) Memory() Memory {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.has
}

func (g *memoryGuest) SetMemory(mib int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	g.has.TargetMiB, g.has.CurrentMiB = mib, min(mib, g.limit)
	return nil
}

// change changes the guest and returns how often it was asked.
func (g *memoryGuest) change(f func()) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	return g.asked
}

func TestPluggedMemory(t *testing.T) {
	t.Parallel()
	g := &memoryGuest{has: Memory{TargetMiB: 256, CurrentMiB: 256, Driven: true}, limit: 700}
	p := newPluggedMemory(g, 256, 1024)
	for mib, current := range map[uint32]uint32{256: 256, 300: 300, 1024: 700} {
		s, err := p.setTarget(mib)
		require.NoError(t, err)
		assert.Equal(t, &launch.MemoryState{BootMiB: 256, TargetMiB: mib, CurrentMiB: current, MaxMiB: 1024}, s)
		assert.Equal(t, s, p.state())
	}
	for _, mib := range []uint32{1, 255} {
		s, err := p.setTarget(mib)
		require.NoError(t, err)
		assert.Equal(t, &launch.MemoryState{BootMiB: 256, TargetMiB: 256, CurrentMiB: 256, MaxMiB: 1024}, s, "it keeps what it started with")
	}
	before := p.state()
	for _, mib := range []uint32{0, 1025, 1<<32 - 1} {
		_, err := p.setTarget(mib)
		assert.ErrorContains(t, err, "choose 256 to 1024")
	}
	g.change(func() { g.has.Driven = false })
	_, err := p.setTarget(512)
	assert.ErrorIs(t, err, errNoMemoryDriver)
	assert.Equal(t, before, p.state())
}

// TestTheGuestIsReminded as long as it does not have what it should.
func TestTheGuestIsReminded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &memoryGuest{has: Memory{TargetMiB: 256, CurrentMiB: 256, Driven: true}, limit: 700}
		p := newPluggedMemory(g, 256, 1024)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go p.remind(ctx)
		asked := func(d time.Duration) int {
			before := g.change(func() {})
			time.Sleep(d)
			synctest.Wait()
			return g.change(func() {}) - before
		}
		assert.Zero(t, asked(time.Hour), "it has what it should")
		_, err := p.setTarget(600)
		require.NoError(t, err)
		assert.Zero(t, asked(time.Hour))
		_, err = p.setTarget(1024)
		require.NoError(t, err)
		assert.Equal(t, 3, asked(7500*time.Millisecond), "after 1, 3 and 7 s")
		assert.InDelta(t, 120, asked(time.Hour), 2, "and then every 30 s")
		g.change(func() { g.limit = 1024 })
		assert.Equal(t, 1, asked(time.Hour), "until it has it")
		g.change(func() { g.limit = 700 })
		_, err = p.setTarget(800)
		require.NoError(t, err)
		assert.Equal(t, 2, asked(3500*time.Millisecond), "soon, after another request")
		cancel()
		assert.Zero(t, asked(time.Hour))
	})
}

func TestControlSocketResizesMemory(t *testing.T) {
	sock, err := listenAt(filepath.Join(socketDir(t), "control.sock"))
	require.NoError(t, err)
	c := serveChanges(sock, nil, room{memory: true}, quietLog)
	defer c.close()
	ask := func(line string) string { return askControl(t, sock.path, line+"\n") }
	capabilities := func(memory string) string {
		return `{"ok":true,"capabilities":{"checkpoint":true,"cpu_resize":false,"memory_resize":` + memory + `,"secrets_update":false}}`
	}
	assert.JSONEq(t, capabilities("true"), ask(`{"op":"capabilities"}`), "the guest may still come to it")
	assert.Contains(t, ask(`{"op":"memory_state"}`), "not ready yet")
	g := &memoryGuest{has: Memory{TargetMiB: 256, CurrentMiB: 256}, limit: 700}
	c.serveGuest(&guestResources{memory: newPluggedMemory(g, 256, 1024)})
	assert.JSONEq(t, capabilities("false"), ask(`{"op":"capabilities"}`), "there is no driver")
	assert.Contains(t, ask(`{"op":"memory_target","total_mib":512}`), "no driver")
	g.change(func() { g.has.Driven = true })
	assert.JSONEq(t, capabilities("true"), ask(`{"op":"capabilities"}`))
	assert.JSONEq(t, `{"ok":true,"memory":{"boot_mib":256,"target_mib":512,"current_mib":512,"max_mib":1024}}`, ask(`{"op":"memory_target","total_mib":512}`))
	assert.JSONEq(t, `{"ok":true,"memory":{"boot_mib":256,"target_mib":512,"current_mib":512,"max_mib":1024}}`, ask(`{"op":"memory_state"}`))
	for _, bad := range []string{
		`{"op":"memory_target"}`, `{"op":"memory_target","total_mib":-1}`, `{"op":"memory_target","total_mib":"512"}`, `{"op":"memory_target","total_mib":4294967296}`,
		`{"op":"memory_target","total_mib":512.5}`, `{"op":"cpu_target","online":1}`, `{"op":"cpu_state"}`,
	} {
		assert.Contains(t, ask(bad), `"ok":false`, bad)
	}
	assert.Equal(t, 512, g.Memory().TargetMiB)
}
