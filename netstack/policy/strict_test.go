package policy

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestStrict: a rule about a name allows what is inspected, and decides on all that it is
// about.
func TestStrict(t *testing.T) {
	t.Parallel()
	x := names(map[string][]netip.Addr{"shop.test": {py}, "evil.com": {fi}})
	for name, c := range map[string]struct {
		rules  string
		egress Action
		flow   Flow
		source Source
		want   string
	}{
		"inspected":               {"allow@shop.test", Deny, Flow{TCP, py, 443}, BySNI("shop.test").Inspected(), "allowed by rule 1"},
		"inspected suffix":        {"allow@*.shop.test", Deny, Flow{TCP, py, 443}, BySNI("shop.test").Inspected(), "allowed by rule 1"},
		"inspected, not bound":    {"allow@shop.test", Deny, Flow{TCP, fi, 443}, BySNI("shop.test").Inspected(), "denied by default"},
		"inspected, another name": {"allow@shop.test", Deny, Flow{TCP, py, 443}, BySNI("evil.com").Inspected(), "denied by default"},
		"no name to inspect":      {"allow@shop.test", Deny, Flow{TCP, py, 443}, ByIndex().Inspected(), "denied in strict mode"},
		"TLS as it is":            {"allow@shop.test", Deny, Flow{TCP, py, 443}, BySNI("shop.test"), "denied in strict mode"},
		"no TLS":                  {"allow@shop.test", Deny, Flow{TCP, py, 22}, ByIndex(), "denied in strict mode"},
		"datagram":                {"allow@shop.test", Deny, Flow{UDP, py, 443}, ByIndex(), "denied in strict mode"},
		"ping":                    {"allow@shop.test", Deny, Flow{ICMPv4, py, 0}, ByIndex(), "denied in strict mode"},
		"allowed by default too":  {"allow@shop.test", Allow, Flow{TCP, py, 443}, BySNI("shop.test"), "denied in strict mode"},
		"allowed later too":       {"allow@shop.test,allow@public", Deny, Flow{TCP, py, 443}, BySNI("shop.test"), "denied in strict mode"},
		"allowed before":          {"allow@151.101.0.0/16,allow@shop.test", Deny, Flow{TCP, py, 443}, BySNI("shop.test"), "allowed by rule 1"},
		"another name by default": {"allow@shop.test", Allow, Flow{TCP, fi, 443}, BySNI("evil.com"), "allowed by default"},
		"denied name":             {"deny@evil.com", Allow, Flow{TCP, fi, 443}, BySNI("evil.com"), "denied by rule 1"},
		"denied inspected name":   {"deny@evil.com", Allow, Flow{TCP, fi, 443}, BySNI("evil.com").Inspected(), "denied by rule 1"},
		"not known yet":           {"allow@shop.test", Deny, Flow{TCP, py, 443}, Deferred(), "deferred by rule 1"},
	} {
		plain := engine(t, with(t, c.egress, Allow, c.rules))
		d := plain.Strict().Egress(c.flow, c.source, x)
		assert.Contains(t, d.String(), c.want, name)
		if d.Opaque {
			assert.True(t, plain.Egress(c.flow, c.source, x).Allowed(), "%s without strict mode", name)
		}
	}
	e := engine(t, with(t, Deny, Allow, "allow@shop.test,allow@private")).Strict()
	assert.True(t, e.Query("shop.test", UDP, 53).Allowed(), "names are resolved as ever")
	assert.True(t, e.Keeps(addr("10.0.0.1")))
	assert.False(t, e.Under(engine(t, Default())).Egress(Flow{TCP, py, 443}, BySNI("shop.test"), x).Allowed())
}
