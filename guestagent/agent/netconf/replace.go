//go:build linux

package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Replace gives the interface of n, which may have other addresses, those of n alone: the
// guest is a copy of one that has the others. All routes through the interface are gone
// then but for the default routes. It returns the addresses that the interface had. What
// users have set stays: a default route through another interface, and that IPv6 is off.
func Replace(n *proto.Network) (was []netip.Addr, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	was, err = replace(fd, n)
	return was, errors.Join(err, unix.Close(fd))
}

func replace(fd int, n *proto.Network) (was []netip.Addr, err error) {
	index, err := indexOf(fd, n.Interface)
	if err != nil {
		return nil, err
	}
	had, err := addressesOf(fd, index)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", n.Interface, err)
	}
	b := &batch{}
	b.begin(n.Interface+": take it down", unix.RTM_NEWLINK, 0)
	b.ifinfo(index, 0, unix.IFF_UP) // this removes routes and neighbours, too
	for _, a := range had {
		b.remove(n.Interface+": remove address "+a.String(), index, a)
		was = append(was, a.Addr())
	}
	b.network(index, n, unix.EEXIST, unix.EACCES, unix.EHOSTUNREACH, unix.ENETUNREACH)
	return was, b.run(fd)
}

// remove removes an address, unless something else has.
func (b *batch) remove(what string, index int32, a netip.Prefix) {
	b.begin(what, unix.RTM_DELADDR, 0)
	b.unless(unix.EADDRNOTAVAIL)
	family := byte(unix.AF_INET)
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	b.buf = append(b.buf, family, byte(a.Bits()), 0, 0)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, uint32(index))
	b.attribute(unix.IFA_LOCAL, a.Addr().AsSlice())
}

// addressesOf lists the addresses of an interface.
func addressesOf(fd int, index int32) (all []netip.Prefix, err error) {
	err = dump(fd, unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func(body []byte) error {
		a, at, err := parseAddress(body)
		if err == nil && at == index && a.IsValid() {
			all = append(all, a)
		}
		return err
	})
	return all, err
}

// parseAddress reads a struct ifaddrmsg with its attributes. The prefix is not valid if
// there is no address that we know of.
func parseAddress(body []byte) (a netip.Prefix, index int32, err error) {
	if len(body) < unix.SizeofIfAddrmsg {
		return a, 0, errAnswer
	}
	bits, index := int(body[1]), int32(binary.NativeEndian.Uint32(body[4:]))
	var own, other netip.Addr // of a point-to-point link, whose far end is the other
	for p := body[unix.SizeofIfAddrmsg:]; len(p) >= unix.SizeofRtAttr; {
		size, typ := int(binary.NativeEndian.Uint16(p)), binary.NativeEndian.Uint16(p[2:])
		if size < unix.SizeofRtAttr || size > len(p) {
			return a, 0, errAnswer
		}
		value, ok := netip.AddrFromSlice(p[unix.SizeofRtAttr:size])
		switch {
		case !ok:
		case typ == unix.IFA_LOCAL:
			own = value
		case typ == unix.IFA_ADDRESS:
			other = value
		}
		p = p[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(p)):]
	}
	if !own.IsValid() {
		own = other
	}
	return netip.PrefixFrom(own, bits), index, nil
}
