package dns

import (
	"net/netip"

	"github.com/gomsb/gomsb/netstack/policy"
)

// reserved are addresses that no public name may stand for, but by leave of the policy:
// those of IANA's special-purpose registries that no public server has.
var reserved = func() (list []netip.Prefix) {
	for _, s := range [...]string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"::/128", "::1/128", "ff00::/8", "fc00::/7", "fe80::/10", "fec0::/10", "100::/64", "64:ff9b:1::/48", "2001:db8::/32", "3fff::/20",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

// isReserved reports that an address, or the IPv4 address that it embeds, is reserved.
func isReserved(a netip.Addr) bool {
	a = policy.Reached(a)
	for _, p := range reserved {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
