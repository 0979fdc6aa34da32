//go:build linux

package netconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Sever destroys the TCP and the connected UDP sockets of this network name space whose
// own address is one of was, which were another guest's: whoever uses them learns it at
// once, by ECONNABORTED. So do those who listen on such an address, unless it is one of n
// as well. Who listens on all addresses, and connections by way of others, stay. Kernels
// that cannot do it (no INET_DIAG_DESTROY) leave it to time-outs, which is no error.
func Sever(was []netip.Addr, n *proto.Network) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sock_diag: %w", err)
	}
	doomed := func(own netip.Addr, protocol, state byte) bool {
		switch {
		case !slices.Contains(was, own), protocol == unix.IPPROTO_UDP && state == unconnected:
			return false
		case protocol == unix.IPPROTO_TCP && state == listening:
			return !has(n.IPv4, own) && !has(n.IPv6, own)
		}
		return true
	}
	for _, protocol := range [...]byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, family := range [...]byte{unix.AF_INET, unix.AF_INET6} {
			if err == nil {
				err = sever(fd, family, protocol, doomed)
			}
		}
	}
	return errors.Join(err, unix.Close(fd))
}

func has(a *proto.Address, addr netip.Addr) bool { return a != nil && a.Address.Addr == addr }

// Layout of linux/inet_diag.h: a struct inet_diag_req_v2 is family, protocol, extensions, a
// byte of padding, a mask of states and a struct inet_diag_sockid; a struct inet_diag_msg
// begins with family, state, timer and retransmits before the sockid. A sockid begins with
// two ports, the source, and the destination.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	socketIDSize     = 48
	socketIDSource   = 4 // offset
	socketHead       = 4 // bytes of an inet_diag_msg before the sockid
	allStates        = 1<<32 - 1
)

// States of include/net/tcp_states.h. Sockets of UDP have the one for closed until they are
// connected.
const (
	unconnected = 7
	listening   = 10
)

// destroyAtOnce is how many sockets are destroyed in one message: the answers must fit the
// socket's buffer.
const destroyAtOnce = 64

// sever destroys the doomed sockets of one family and protocol.
func sever(fd int, family, protocol byte, doomed func(own netip.Addr, protocol, state byte) bool) error {
	request := socketRequest(family, protocol, make([]byte, socketIDSize))
	var ids [][]byte
	err := dump(fd, sockDiagByFamily, request, func(body []byte) error {
		id, own, err := parseSocket(body)
		if err == nil && doomed(own, protocol, body[1]) {
			ids = append(ids, slices.Clone(id))
		}
		return err
	})
	if errors.Is(err, unix.ENOENT) { // the kernel lists no such sockets
		return nil
	}
	for chunk := range slices.Chunk(ids, destroyAtOnce) {
		if err != nil {
			break
		}
		b := &batch{}
		for _, id := range chunk {
			b.begin("destroy a socket", sockDestroy, 0)
			// It is gone, perhaps with its far end, another has its place, or the kernel
			// cannot, such as listeners of multipath TCP.
			b.unless(unix.ENOENT, unix.ESTALE, unix.EOPNOTSUPP, unix.EINVAL)
			b.buf = append(b.buf, socketRequest(family, protocol, id)...)
		}
		err = b.run(fd)
	}
	return err
}

// socketRequest is a struct inet_diag_req_v2.
func socketRequest(family, protocol byte, id []byte) []byte {
	return append(binary.NativeEndian.AppendUint32([]byte{family, protocol, 0, 0}, allStates), id...)
}

// parseSocket returns a socket's identity and its own address.
func parseSocket(body []byte) (id []byte, own netip.Addr, err error) {
	if len(body) < socketHead+socketIDSize {
		return nil, own, errAnswer
	}
	id = body[socketHead : socketHead+socketIDSize]
	if source := id[socketIDSource:]; body[0] == unix.AF_INET {
		own, _ = netip.AddrFromSlice(source[:4])
	} else {
		own, _ = netip.AddrFromSlice(source[:16])
	}
	return id, own.Unmap(), nil
}
