//go:build linux

package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent"
	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
)

func main() { os.Exit(agent.Main(agent.Options{Version: "test", Dial: dial})) }

// ports are the console's ports by the host's vsock ports.
var ports = map[uint32]string{hostlink.AgentPort: "/dev/vport0p1", hostlink.HeartbeatPort: "/dev/vport0p2"}

// dial joins a port to a socket pair, since the agent expects a socket.
func dial(port uint32) (*hostlink.Conn, error) {
	path, ok := ports[port]
	if !ok {
		return nil, fmt.Errorf("no port of the console stands for %d", port)
	}
	// Opened twice by one descriptor each would be EBUSY: one file for both directions.
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fds[1], true); err != nil {
		return nil, err
	}
	far := os.NewFile(uintptr(fds[1]), "port")
	go func() { _, _ = io.Copy(far, file) }()
	go func() { _, _ = io.Copy(file, far) }()
	return hostlink.Adopt(fds[0]), nil
}
