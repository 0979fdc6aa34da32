//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent"
	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
)

// bridgeName is argv[0] of the processes that join ports to sockets. They are processes
// because another init may take this one's place.
const bridgeName = "bridge"

func main() {
	if os.Args[0] == bridgeName {
		bridge()
		return
	}
	os.Exit(agent.Main(agent.Options{Version: "test", Dial: dial}))
}

// ports are the console's ports by the host's vsock ports.
var ports = map[uint32]string{hostlink.AgentPort: "/dev/vport0p1", hostlink.HeartbeatPort: "/dev/vport0p2"}

// dial joins a port to a socket, which the agent expects.
func dial(port uint32) (*hostlink.Conn, error) {
	path, ok := ports[port]
	if !ok {
		return nil, fmt.Errorf("no port of the console stands for %d", port)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	_, err = syscall.ForkExec("/proc/self/exe", []string{bridgeName}, &syscall.ProcAttr{
		Env: []string{}, Files: []uintptr{2, 2, 2, file.Fd(), uintptr(fds[1])},
	})
	if errors.Is(err, unix.ENOENT) { // no /proc yet
		_, err = syscall.ForkExec("/init", []string{bridgeName}, &syscall.ProcAttr{
			Env: []string{}, Files: []uintptr{2, 2, 2, file.Fd(), uintptr(fds[1])},
		})
	}
	_ = unix.Close(fds[1])
	return hostlink.Adopt(fds[0]), err
}

func bridge() {
	file, far := os.NewFile(3, "port"), os.NewFile(4, "socket")
	go func() { _, _ = io.Copy(far, file) }()
	_, _ = io.Copy(file, far)
}
