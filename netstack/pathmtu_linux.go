package netstack

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// udpPath is the path of a connected socket for datagrams; see ip(7) and ipv6(7).
type udpPath struct {
	raw                  syscall.RawConn
	level, discover, mtu int
}

// socketPath is the path of a socket, which sends datagrams whole from now on; nil if it is
// none for datagrams.
func socketPath(c net.Conn) path {
	u, ok := c.(*net.UDPConn)
	if !ok {
		return nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil
	}
	p := &udpPath{raw, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU}
	if a, ok := u.RemoteAddr().(*net.UDPAddr); ok && a.AddrPort().Addr().Is6() {
		p.level, p.discover, p.mtu = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU
	}
	if p.Whole(true) != nil {
		return nil
	}
	return p
}

// Whole implements path.
func (p *udpPath) Whole(whole bool) error {
	mode := unix.IP_PMTUDISC_DONT // the values of IPv6 are the same
	if whole {
		mode = unix.IP_PMTUDISC_DO
	}
	var failed error
	err := p.raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), p.level, p.discover, mode) })
	if err != nil {
		return err
	}
	return failed
}

// MTU implements path.
func (p *udpPath) MTU() (mtu int) {
	err := p.raw.Control(func(fd uintptr) {
		if n, err := unix.GetsockoptInt(int(fd), p.level, p.mtu); err == nil {
			mtu = n
		}
	})
	if err != nil {
		return 0
	}
	return mtu
}
