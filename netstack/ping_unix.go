//go:build unix

package netstack

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/netstack/reserve"
)

// pingSocket opens an ICMP socket for datagrams of the family of to. On Linux,
// net.ipv4.ping_group_range says who may.
func pingSocket(to netip.Addr) (net.PacketConn, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if to.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, proto)
	if err != nil {
		return nil, fmt.Errorf("ping socket: %w", err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "ping")
	defer func() { _ = f.Close() }()
	if err := reserve.Check(fd); err != nil {
		return nil, err
	}
	return net.FilePacketConn(f)
}
