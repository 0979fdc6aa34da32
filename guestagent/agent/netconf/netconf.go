//go:build linux

package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// loopback is the index of lo: the first interface of every network name space.
const loopback = 1

// ErrNoInterface reports that there is no interface of the name that a network has.
var ErrNoInterface = errors.New("no such interface")

// Setup brings the loopback up, whose addresses the kernel then adds by itself, and
// configures the interface of n, which may be nil. All of it is one message to the kernel.
func Setup(n *proto.Network) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	b := &batch{}
	b.linkUp("bring the loopback up", loopback)
	if n != nil {
		var index int32
		if index, err = indexOf(fd, n.Interface); err == nil {
			b.network(index, n)
		}
	}
	if err == nil {
		err = b.run(fd)
	}
	return errors.Join(err, unix.Close(fd))
}

// network adds what configures one interface, in the order that the kernel needs. What
// fails because of settings that users have made is excused with the errors of theirs.
func (b *batch) network(index int32, n *proto.Network, theirs ...unix.Errno) {
	b.link(n.Interface+": set address and MTU", index, n.MAC, n.MTU)
	if a := n.IPv4; a != nil {
		b.address(n.Interface+": add the IPv4 address", index, unix.AF_INET, a)
	}
	if a := n.IPv6; a != nil {
		b.address(n.Interface+": add the IPv6 address", index, unix.AF_INET6, a)
		b.unless(theirs...)
	}
	b.linkUp(n.Interface+": bring it up", index)
	if a := n.IPv4; a != nil {
		b.defaultRoute(n.Interface+": add the IPv4 default route", unix.AF_INET, a)
		b.unless(theirs...)
	}
	if a := n.IPv6; a != nil {
		b.defaultRoute(n.Interface+": add the IPv6 default route", unix.AF_INET6, a)
		b.unless(theirs...)
	}
}

// indexOf asks for an interface's index; any socket will do.
func indexOf(fd int, name string) (int32, error) {
	req, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
	}
	if errors.Is(err, unix.ENODEV) {
		return 0, fmt.Errorf("find interface %q: %w", name, ErrNoInterface)
	}
	if err != nil {
		return 0, fmt.Errorf("find interface %q: %w", name, err)
	}
	return int32(req.Uint32()), nil
}

func (b *batch) linkUp(what string, index int32) {
	b.begin(what, unix.RTM_NEWLINK, 0)
	b.ifinfo(index, unix.IFF_UP, unix.IFF_UP)
}

func (b *batch) link(what string, index int32, mac proto.MAC, mtu uint16) {
	b.begin(what, unix.RTM_NEWLINK, 0)
	b.ifinfo(index, 0, 0)
	b.attribute(unix.IFLA_ADDRESS, mac[:])
	if mtu != 0 {
		b.attribute(unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(mtu)))
	}
}

// ifinfo appends a struct ifinfomsg that changes those of mask to flags.
func (b *batch) ifinfo(index int32, flags, mask uint32) {
	b.buf = append(b.buf, unix.AF_UNSPEC, 0, 0, 0)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, uint32(index))
	b.buf = binary.NativeEndian.AppendUint32(b.buf, flags)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, mask)
}

func (b *batch) address(what string, index int32, family byte, a *proto.Address) {
	b.begin(what, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	flags := byte(0)
	if family == unix.AF_INET6 {
		flags = unix.IFA_F_NODAD // nobody else is on this link
	}
	b.buf = append(b.buf, family, a.PrefixLen, flags, unix.RT_SCOPE_UNIVERSE)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, uint32(index))
	b.attribute(unix.IFA_ADDRESS, a.Address.AsSlice())
	if family == unix.AF_INET {
		b.attribute(unix.IFA_LOCAL, a.Address.AsSlice())
	}
}

func (b *batch) defaultRoute(what string, family byte, a *proto.Address) {
	b.begin(what, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.buf = append(b.buf, family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0) // flags
	b.attribute(unix.RTA_GATEWAY, a.Gateway.AsSlice())
}
