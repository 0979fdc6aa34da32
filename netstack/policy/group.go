package policy

import "net/netip"

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func within(a netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

var (
	metadata  = netip.MustParseAddr("169.254.169.254")
	private   = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10", "64:ff9b:1::/48")
	linkLocal = prefixes("169.254.0.0/16", "fe80::/10")
	nowhere   = prefixes("0.0.0.0/8", "240.0.0.0/4", "::/128")
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
)

// Unwrap is the address that a is about: the IPv4 address in a mapped one, and a without
// its zone otherwise.
func Unwrap(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Reached is the address that a packet to a ends up at: an IPv4 address that a embeds, be
// it as a mapped one or by the prefix of NAT64, and a itself otherwise.
func Reached(a netip.Addr) netip.Addr {
	a = Unwrap(a)
	if nat64.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// groupOf is the group of an address, "" if it is in none.
func (e *Engine) groupOf(a netip.Addr) Group {
	a = Unwrap(a)
	for _, g := range e.gateways {
		if a == g {
			return Host
		}
	}
	a = Reached(a)
	switch {
	case within(a, nowhere):
		return ""
	case a == metadata:
		return Metadata
	case a.IsLoopback():
		return Loopback
	case within(a, private):
		return Private
	case within(a, linkLocal):
		return LinkLocal
	case a.IsMulticast():
		return Multicast
	}
	return Public
}
