package netstack

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var bothFamilies = Families{true, true}

// TestPlan are A1 to A6 of the specification.
func TestPlan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		slot                               uint64
		overrides                          Overrides
		host                               Families
		guest4, gateway4, guest6, gateway6 string
		mac                                [6]byte
	}{
		"A1 slot 0":        {0, Overrides{}, bothFamilies, "172.16.0.2", "172.16.0.1", "fd42:6d73:62::2", "fd42:6d73:62::1", [6]byte{2, 0x6d, 0x73, 0, 0, 2}},
		"A1 slot 1":        {1, Overrides{}, bothFamilies, "172.16.0.6", "172.16.0.5", "fd42:6d73:62:1::2", "fd42:6d73:62:1::1", [6]byte{2, 0x6d, 0x73, 0, 1, 2}},
		"slot 64":          {64, Overrides{}, bothFamilies, "172.16.1.2", "172.16.1.1", "fd42:6d73:62:40::2", "fd42:6d73:62:40::1", [6]byte{2, 0x6d, 0x73, 0, 0x40, 2}},
		"last slot":        {65535, Overrides{}, bothFamilies, "172.19.255.254", "172.19.255.253", "fd42:6d73:62:ffff::2", "fd42:6d73:62:ffff::1", [6]byte{2, 0x6d, 0x73, 0xff, 0xff, 2}},
		"A2 first":         {0, Overrides{IPv4Pool: "172.31.240.0/24"}, Families{IPv4: true}, "172.31.240.2", "172.31.240.1", "", "", [6]byte{2, 0x6d, 0x73, 0, 0, 2}},
		"A2 last":          {63, Overrides{IPv4Pool: "172.31.240.0/24"}, Families{IPv4: true}, "172.31.240.254", "172.31.240.253", "", "", [6]byte{2, 0x6d, 0x73, 0, 63, 2}},
		"A3 first":         {0, Overrides{IPv6Pool: "fd7a:115c:a1e0:100::/56"}, Families{IPv6: true}, "", "", "fd7a:115c:a1e0:100::2", "fd7a:115c:a1e0:100::1", [6]byte{2, 0x6d, 0x73, 0, 0, 2}},
		"A3 third":         {3, Overrides{IPv6Pool: "fd7a:115c:a1e0:100::/56"}, Families{IPv6: true}, "", "", "fd7a:115c:a1e0:103::2", "fd7a:115c:a1e0:103::1", [6]byte{2, 0x6d, 0x73, 0, 3, 2}},
		"A4 neither":       {1, Overrides{}, Families{}, "", "", "", "", [6]byte{2, 0x6d, 0x73, 0, 1, 2}},
		"A5 IPv6 given":    {1, Overrides{IPv6: "fd42:6d73:62:99::2"}, Families{IPv4: true}, "172.16.0.6", "172.16.0.5", "fd42:6d73:62:99::2", "fd42:6d73:62:99::1", [6]byte{2, 0x6d, 0x73, 0, 1, 2}},
		"IPv4 given":       {1, Overrides{IPv4: "10.9.8.7"}, Families{}, "10.9.8.7", "10.9.8.6", "", "", [6]byte{2, 0x6d, 0x73, 0, 1, 2}},
		"one place":        {0, Overrides{IPv4Pool: "10.0.0.0/30", IPv6Pool: "fd00::/64"}, bothFamilies, "10.0.0.2", "10.0.0.1", "fd00::2", "fd00::1", [6]byte{2, 0x6d, 0x73, 0, 0, 2}},
		"hardware address": {1, Overrides{MAC: &[6]byte{2, 2, 2, 2, 2, 2}, MTU: 9000}, Families{}, "", "", "", "", [6]byte{2, 2, 2, 2, 2, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := Plan(c.slot, c.overrides, c.host)
			require.NoError(t, err)
			text := func(a netip.Addr) string {
				if !a.IsValid() {
					return ""
				}
				return a.String()
			}
			assert.Equal(t, []string{c.guest4, c.gateway4, c.guest6, c.gateway6}, []string{text(a.Guest4), text(a.Gateway4), text(a.Guest6), text(a.Gateway6)})
			assert.Equal(t, c.mac, a.GuestMAC)
			assert.Equal(t, [6]byte{2, 0x6d, 0x73, byte(c.slot >> 8), byte(c.slot), 1}, a.GatewayMAC)
			if c.overrides.MTU == 0 {
				assert.EqualValues(t, 1500, a.MTU)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		slot      uint64
		overrides Overrides
	}{
		"A2 beyond the pool": {64, Overrides{IPv4Pool: "172.31.240.0/24"}},
		"A6":                 {65536, Overrides{}},
		"IPv6 pool is full":  {256, Overrides{IPv6Pool: "fd00::/56"}},
		"small pool":         {0, Overrides{IPv4Pool: "10.0.0.0/31"}},
		"small IPv6 pool":    {0, Overrides{IPv6Pool: "fd00::/65"}},
		"pool of the other":  {0, Overrides{IPv4Pool: "fd00::/48"}},
		"no pool":            {0, Overrides{IPv6Pool: "x"}},
		"no IPv4":            {0, Overrides{IPv4: "fd00::1"}},
		"lowest IPv4":        {0, Overrides{IPv4: "0.0.0.0"}},
		"mapped IPv6":        {0, Overrides{IPv6: "::ffff:1.2.3.4"}},
		"the gateway":        {0, Overrides{IPv6: "fd00::1"}},
		"small MTU":          {0, Overrides{MTU: 1279}},
		"multicast":          {0, Overrides{MAC: &[6]byte{1}}},
		"gateway's MAC":      {0, Overrides{MAC: &[6]byte{2, 0x6d, 0x73, 0, 0, 1}}},
	} {
		_, err := Plan(c.slot, c.overrides, bothFamilies)
		assert.ErrorIs(t, err, ErrConfig, name)
	}
}
