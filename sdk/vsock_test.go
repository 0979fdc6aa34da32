package microsandbox

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

func TestVsockRoutes(t *testing.T) {
	c := SandboxConfig{}
	WithVsock(VsockRoute{HostSocket: "/run/a.sock", Port: 5000})(&c)
	WithVsock(VsockRoute{HostSocket: "b.sock", Port: 5001, SocketType: VsockSocketTypeStream})(&c)
	b, err := c.vsockSpec()
	require.NoError(t, err)
	abs, err := filepath.Abs("b.sock")
	require.NoError(t, err)
	want := []launch.VsockRoute{{HostSocket: "/run/a.sock", Port: 5000, SocketType: "stream"}, {HostSocket: abs, Port: 5001, SocketType: "stream"}}
	got, err := (&spec{Vsock: b}).vsockRoutes()
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for _, empty := range []string{"", "null", "[]"} {
		got, err = (&spec{Vsock: []byte(empty)}).vsockRoutes()
		require.NoError(t, err)
		assert.Empty(t, got)
	}
	_, err = (&spec{Vsock: []byte("7")}).vsockRoutes()
	assert.True(t, IsKind(err, ErrInvalidConfig))
	for name, bad := range map[string][]VsockRoute{
		"no socket": {{Port: 1}}, "no port": {{HostSocket: "/s"}}, "any port": {{HostSocket: "/s", Port: 1<<32 - 1}},
		"twice": {{HostSocket: "/s", Port: 1}, {HostSocket: "/t", Port: 1}}, "type": {{HostSocket: "/s", Port: 1, SocketType: "seqpacket"}},
	} {
		c := SandboxConfig{Name: "x", Image: "y", Vsock: bad}
		assert.True(t, IsKind(c.validate(), ErrInvalidConfig), name)
	}
	c = SandboxConfig{Name: "x", Image: "y", Vsock: []VsockRoute{{HostSocket: "/s", Port: 1, SocketType: VsockSocketTypeDgram}}}
	assert.True(t, IsKind(c.validate(), ErrUnsupportedOperation))
	c = SandboxConfig{Name: "x", Image: "y", Vsock: []VsockRoute{{HostSocket: "/s", Port: 1}}, DeploymentProfile: DeploymentProfileMultiTenant}
	assert.True(t, IsKind(c.validate(), ErrInvalidConfig))
}
