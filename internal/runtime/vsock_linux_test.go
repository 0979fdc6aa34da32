package runtime

import (
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

func TestSwitchboardTakesEachPortOnce(t *testing.T) {
	s := newSwitchboard(t.Context(), nil, slog.New(slog.DiscardHandler))
	for _, port := range []uint32{AgentPort, HeartbeatPort} {
		a, b := net.Pipe()
		assert.True(t, s.connect(port, a))
		assert.False(t, s.connect(port, b))
		_ = b.Close()
	}
	assert.False(t, s.connect(1, nil))
	agent := <-s.agent
	assert.False(t, s.connect(AgentPort, agent), "nor when the first was picked up")
	_ = agent.Close()
	s.stopAll() // closes the heartbeat, which nobody picked up
	assert.False(t, s.connect(HeartbeatPort, nil))
	s.stopAll()
}

// A route joins the guest to a host socket, half-closes included.
func TestRoute(t *testing.T) {
	dir := socketDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "host.sock"))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	s := newSwitchboard(t.Context(), []launch.VsockRoute{{HostSocket: l.Addr().String(), Port: 5000}}, slog.New(slog.DiscardHandler))
	host, guest, err := socketPair()
	require.NoError(t, err)
	require.True(t, s.connect(5000, host))
	far, err := l.Accept()
	require.NoError(t, err)
	_, err = guest.Write([]byte("request"))
	require.NoError(t, err)
	require.NoError(t, guest.(*net.UnixConn).CloseWrite())
	b, err := io.ReadAll(far)
	require.NoError(t, err)
	assert.Equal(t, "request", string(b))
	_, err = far.Write([]byte("answer after the end of the request"))
	require.NoError(t, err)
	require.NoError(t, far.Close())
	b, err = io.ReadAll(guest)
	require.NoError(t, err)
	assert.Equal(t, "answer after the end of the request", string(b))
	_ = guest.Close()

	// One under way does not survive the machine.
	host, guest, err = socketPair()
	require.NoError(t, err)
	require.True(t, s.connect(5000, host))
	far, err = l.Accept()
	require.NoError(t, err)
	s.stopAll()
	_, err = far.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
	_ = far.Close()
	_ = guest.Close()
}

func TestRouteToNowhere(t *testing.T) {
	s := newSwitchboard(t.Context(), []launch.VsockRoute{{HostSocket: "/no/such/socket", Port: 5000}}, slog.New(slog.DiscardHandler))
	host, guest, err := socketPair()
	require.NoError(t, err)
	require.True(t, s.connect(5000, host))
	_, err = guest.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
	_ = guest.Close()
	s.stopAll()
}
