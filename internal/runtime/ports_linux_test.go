package runtime

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// TestChosenPortsAreRecorded: the row says them while the sandbox runs, and again those of
// the next run.
func TestChosenPortsAreRecorded(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config.Network = networked(func(c *launch.NetworkConfig) {
		c.Ports = []launch.PublishedPort{publish(0, 80, "tcp", "127.0.0.1")}
	}).Network
	const asked = `{"name":"x","network":{"enabled":true,"ports":[{"host_port":0,"guest_port":80}]}}`
	for range 2 {
		db := h.open()
		_, err := db.SetStatus(t.Context(), h.id, store.Stopped)
		require.NoError(t, err)
		_, ok, err := db.StartSandbox(t.Context(), h.id, asked)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, db.Close())
		p := h.spawn(fakePlan{})
		c := p.dial()
		box, _ := h.rows()
		var active struct {
			Name    string
			Network launch.NetworkConfig
		}
		require.NoError(t, json.Unmarshal([]byte(box.ActiveConfig), &active))
		assert.Equal(t, "x", active.Name)
		require.Len(t, active.Network.Ports, 1)
		assert.NotZero(t, active.Network.Ports[0].HostPort)
		assert.EqualValues(t, 80, active.Network.Ports[0].GuestPort)
		require.NoError(t, shutdown(c))
		assert.Equal(t, 0, p.code())
		box, _ = h.rows()
		assert.Empty(t, box.ActiveConfig)
		assert.Contains(t, h.log("runtime.log"), "account.connections=0")
	}
}
