package netstack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrConfig is wrapped by every error that a change of the configuration mends.
var ErrConfig = errors.New("invalid network configuration")

func badConfig(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}

// Facts about the addresses.
const (
	DefaultIPv4Pool = "172.16.0.0/12"
	DefaultIPv6Pool = "fd42:6d73:62::/48"
	DefaultMTU      = 1500

	// The guest's prefixes are always that long.
	PrefixLen4 = 30
	PrefixLen6 = 64

	// maxSlot is the largest slot: hardware addresses have 16 bits for it.
	maxSlot = 1<<16 - 1
)

// Overrides replace what is derived from a slot; empty ones do not.
type Overrides struct {
	MAC        *[6]byte
	MTU        uint16
	IPv4, IPv6 string // the guest's address
	// IPv4Pool has a /30 for each slot, IPv6Pool a /64.
	IPv4Pool, IPv6Pool string
}

// Addresses are those of a guest and its gateway. A family without addresses is not there.
type Addresses struct {
	GuestMAC, GatewayMAC [6]byte
	MTU                  uint16
	Guest4, Gateway4     netip.Addr
	Guest6, Gateway6     netip.Addr
}

// Families says which families the host can reach the world with.
type Families struct{ IPv4, IPv6 bool }

// HostFamilies asks the host's routing table. Nothing is sent.
func HostFamilies() Families {
	routed := func(network, addr string) bool {
		c, err := net.Dial(network, addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	// Addresses for documentation, RFC 5737 and RFC 3849: only a default route leads there.
	return Families{routed("udp4", "192.0.2.1:443"), routed("udp6", "[2001:db8::1]:443")}
}

// Plan derives the addresses of a sandbox from its slot. A family is there if the host
// has it, or if the overrides give an address of it. The error wraps ErrConfig.
func Plan(slot uint64, o Overrides, host Families) (Addresses, error) {
	if slot > maxSlot {
		return Addresses{}, badConfig("network slot %d: at most %d sandboxes have a network", slot, maxSlot)
	}
	a := Addresses{
		GuestMAC:   [6]byte{0x02, 0x6d, 0x73, byte(slot >> 8), byte(slot), 0x02},
		GatewayMAC: [6]byte{0x02, 0x6d, 0x73, byte(slot >> 8), byte(slot), 0x01},
		MTU:        DefaultMTU,
	}
	if o.MTU != 0 {
		a.MTU = o.MTU
	}
	if a.MTU < 1280 {
		return Addresses{}, badConfig("MTU %d: choose 1280 to 65535", a.MTU)
	}
	if o.MAC != nil {
		a.GuestMAC = *o.MAC
	}
	if a.GuestMAC[0]&1 != 0 || a.GuestMAC == a.GatewayMAC {
		return Addresses{}, badConfig("hardware address %s is not one for a guest", net.HardwareAddr(a.GuestMAC[:]))
	}
	var err error
	if host.IPv4 || o.IPv4 != "" {
		if a.Guest4, err = guestIPv4(slot, o); err != nil {
			return Addresses{}, err
		}
		a.Gateway4 = a.Guest4.Prev()
	}
	if host.IPv6 || o.IPv6 != "" {
		if a.Guest6, err = guestIPv6(slot, o); err != nil {
			return Addresses{}, err
		}
		b := a.Guest6.As16()
		clear(b[8:])
		b[15] = 1
		a.Gateway6 = netip.AddrFrom16(b)
		if a.Gateway6 == a.Guest6 {
			return Addresses{}, badConfig("address %s is the gateway's own", a.Guest6)
		}
	}
	return a, nil
}

func guestIPv4(slot uint64, o Overrides) (netip.Addr, error) {
	if o.IPv4 != "" {
		a, err := netip.ParseAddr(o.IPv4)
		if err != nil || !a.Is4() || !a.Prev().IsValid() {
			return a, badConfig("%q is no IPv4 address for a guest", o.IPv4)
		}
		return a, nil
	}
	pool, err := parsePool(o.IPv4Pool, DefaultIPv4Pool, PrefixLen4, 4)
	if err != nil {
		return netip.Addr{}, err
	}
	if slot>>(PrefixLen4-pool.Bits()) != 0 {
		return netip.Addr{}, badConfig("pool %s has no place for slot %d: choose a larger one", pool, slot)
	}
	b := pool.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(slot)*4+2)
	return netip.AddrFrom4(b), nil
}

func guestIPv6(slot uint64, o Overrides) (netip.Addr, error) {
	if o.IPv6 != "" {
		a, err := netip.ParseAddr(o.IPv6)
		if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
			return a, badConfig("%q is no IPv6 address for a guest", o.IPv6)
		}
		return a, nil
	}
	pool, err := parsePool(o.IPv6Pool, DefaultIPv6Pool, PrefixLen6, 16)
	if err != nil {
		return netip.Addr{}, err
	}
	if n := PrefixLen6 - pool.Bits(); n < 64 && slot>>n != 0 {
		return netip.Addr{}, badConfig("pool %s has no place for slot %d: choose a larger one", pool, slot)
	}
	b := pool.Addr().As16()
	binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])+slot)
	b[15] = 2
	return netip.AddrFrom16(b), nil
}

// parsePool reads a pool of prefixes of length bits, of addresses of size bytes.
func parsePool(s, def string, bits, size int) (netip.Prefix, error) {
	if s == "" {
		s = def
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().BitLen() != 8*size || p.Addr().Is4In6() {
		return p, badConfig("%q is no pool of IPv%d addresses", s, map[int]int{4: 4, 16: 6}[size])
	}
	if p.Bits() > bits {
		return p, badConfig("pool %s is smaller than a /%d", s, bits)
	}
	return p.Masked(), nil
}

// Gateways are the gateway's addresses.
func (a *Addresses) Gateways() (list []netip.Addr) {
	for _, g := range [...]netip.Addr{a.Gateway4, a.Gateway6} {
		if g.IsValid() {
			list = append(list, g)
		}
	}
	return list
}

// guestOf is the guest's address of the family of a, invalid if there is none.
func (a *Addresses) guestOf(peer netip.Addr) netip.Addr {
	if peer.Is4() {
		return a.Guest4
	}
	return a.Guest6
}

// gatewayOf is the gateway's address of the family of a, invalid if there is none.
func (a *Addresses) gatewayOf(peer netip.Addr) netip.Addr {
	if peer.Is4() {
		return a.Gateway4
	}
	return a.Gateway6
}

// isGateway reports that addr is one of the gateway's.
func (a *Addresses) isGateway(addr netip.Addr) bool {
	return addr.IsValid() && (addr == a.Gateway4 || addr == a.Gateway6)
}
