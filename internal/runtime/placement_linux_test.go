package runtime

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

// TestPlacement: a placed sandbox has a lease as long as it runs.
func TestPlacement(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.CPUPlacement = "spread"
	h.options = func(o *launch.Options) { o.VCPUs = 1 } // every host has as many
	leases := func() []string {
		list, err := filepath.Glob(filepath.Join(h.config.CPULeaseDir, "gomsb-*.json"))
		require.NoError(t, err)
		return list
	}
	p := h.spawn(fakePlan{})
	c := p.dial()
	assert.Len(t, leases(), 1)
	assert.Contains(t, h.log("runtime.log"), "virtual processors are placed")
	require.NoError(t, c.Close())
	require.NoError(t, p.Signal(syscall.SIGTERM))
	assert.Zero(t, p.code())
	assert.Empty(t, leases())
}

// TestNoPlacement: where nobody can be placed the sandbox runs anyway.
func TestNoPlacement(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.CPUPlacement, h.config.CPULeaseDir = "compact", filepath.Join(h.config.LogDir, "exec.log", "no folder")
	p := h.spawn(fakePlan{})
	p.dial()
	assert.Contains(t, h.log("runtime.log"), "virtual processors run where the host's scheduler puts them")
}
