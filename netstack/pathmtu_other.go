//go:build !linux

package netstack

import "net"

// socketPath is nil: the system sends in fragments what does not fit, and tells nothing.
func socketPath(net.Conn) path { return nil }
