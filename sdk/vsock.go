package microsandbox

import (
	"encoding/json"
	"path/filepath"

	"github.com/gomsb/gomsb/internal/launch"
)

// VsockSocketType is what a VsockRoute carries.
type VsockSocketType string

// Vsock socket types; the default is VsockSocketTypeStream. Sandboxes of this release
// carry streams only.
const (
	VsockSocketTypeStream VsockSocketType = "stream"
	VsockSocketTypeDgram  VsockSocketType = "dgram"
)

// VsockRoute leads the guest's connections to a vsock port of the host, CID 2, to a Unix
// socket of the host.
type VsockRoute struct {
	HostSocket string // path
	Port       uint32
	SocketType VsockSocketType
}

// WithVsock adds routes from vsock ports to Unix sockets of the host.
func WithVsock(routes ...VsockRoute) SandboxOption {
	return func(c *SandboxConfig) { c.Vsock = append(c.Vsock, routes...) }
}

// vsockSpec checks the routes and makes the row's form of them. It fails with
// ErrInvalidConfig or ErrUnsupportedOperation.
func (c *SandboxConfig) vsockSpec() (json.RawMessage, error) {
	if len(c.Vsock) == 0 {
		return nil, nil
	}
	var routes []launch.VsockRoute
	seen := make(map[uint32]bool)
	for _, r := range c.Vsock {
		switch {
		case r.HostSocket == "":
			return nil, fail(ErrInvalidConfig, "vsock port %d leads to no socket", r.Port)
		case r.Port == 0 || r.Port == 1<<32-1:
			return nil, fail(ErrInvalidConfig, "vsock port %d: choose 1 to 4294967294", r.Port)
		case seen[r.Port]:
			return nil, fail(ErrInvalidConfig, "vsock port %d is routed twice", r.Port)
		case r.SocketType == VsockSocketTypeDgram:
			return nil, fail(ErrUnsupportedOperation, "vsock port %d: datagrams are not available in this release", r.Port)
		case r.SocketType != "" && r.SocketType != VsockSocketTypeStream:
			return nil, fail(ErrInvalidConfig, "vsock port %d: unknown socket type %q: use stream", r.Port, r.SocketType)
		case c.DeploymentProfile == DeploymentProfileMultiTenant:
			return nil, fail(ErrInvalidConfig, "vsock routes are not for the deployment profile multi-tenant")
		}
		seen[r.Port] = true
		path, err := filepath.Abs(r.HostSocket)
		if err != nil {
			return nil, wrap(ErrInvalidConfig, err)
		}
		routes = append(routes, launch.VsockRoute{HostSocket: path, Port: r.Port, SocketType: string(VsockSocketTypeStream)})
	}
	b, err := json.Marshal(routes)
	return b, wrap(ErrInternal, err)
}

// vsockRoutes are the routes of a row.
func (s *spec) vsockRoutes() ([]launch.VsockRoute, error) {
	routes := []launch.VsockRoute{}
	if len(s.Vsock) == 0 {
		return routes, nil
	}
	if err := json.Unmarshal(s.Vsock, &routes); err != nil {
		return nil, &Error{Kind: ErrInvalidConfig, Message: "vsock routes", Cause: err}
	}
	return routes, nil
}
