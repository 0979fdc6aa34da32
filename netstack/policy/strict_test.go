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
	x := names(map[string][]netip.Addr{"pypi.org": {py}, "evil.com": {fi}})
	for name, c := range map[string]struct {
		rules  string
		egress Action
		flow   Flow
		source Source
		want   string
	}{
		"inspected":               {"allow@pypi.org", Deny, Flow{TCP, py, 443}, BySNI("pypi.org").Inspected(), "allowed by rule 1"},
		"inspected suffix":        {"allow@*.pypi.org", Deny, Flow{TCP, py, 443}, BySNI("pypi.org").Inspected(), "allowed by rule 1"},
		"inspected, not bound":    {"allow@pypi.org", Deny, Flow{TCP, fi, 443}, BySNI("pypi.org").Inspected(), "denied by default"},
		"inspected, another name": {"allow@pypi.org", Deny, Flow{TCP, py, 443}, BySNI("evil.com").Inspected(), "denied by default"},
		"no name to inspect":      {"allow@pypi.org", Deny, Flow{TCP, py, 443}, ByIndex().Inspected(), "denied in strict mode"},
		"TLS as it is":            {"allow@pypi.org", Deny, Flow{TCP, py, 443}, BySNI("pypi.org"), "denied in strict mode"},
		"no TLS":                  {"allow@pypi.org", Deny, Flow{TCP, py, 22}, ByIndex(), "denied in strict mode"},
		"datagram":                {"allow@pypi.org", Deny, Flow{UDP, py, 443}, ByIndex(), "denied in strict mode"},
		"ping":                    {"allow@pypi.org", Deny, Flow{ICMPv4, py, 0}, ByIndex(), "denied in strict mode"},
		"allowed by default too":  {"allow@pypi.org", Allow, Flow{TCP, py, 443}, BySNI("pypi.org"), "denied in strict mode"},
		"allowed later too":       {"allow@pypi.org,allow@public", Deny, Flow{TCP, py, 443}, BySNI("pypi.org"), "denied in strict mode"},
		"allowed before":          {"allow@151.101.0.0/16,allow@pypi.org", Deny, Flow{TCP, py, 443}, BySNI("pypi.org"), "allowed by rule 1"},
		"another name by default": {"allow@pypi.org", Allow, Flow{TCP, fi, 443}, BySNI("evil.com"), "allowed by default"},
		"denied name":             {"deny@evil.com", Allow, Flow{TCP, fi, 443}, BySNI("evil.com"), "denied by rule 1"},
		"denied inspected name":   {"deny@evil.com", Allow, Flow{TCP, fi, 443}, BySNI("evil.com").Inspected(), "denied by rule 1"},
		"not known yet":           {"allow@pypi.org", Deny, Flow{TCP, py, 443}, Deferred(), "deferred by rule 1"},
	} {
		plain := engine(t, with(t, c.egress, Allow, c.rules))
		d := plain.Strict().Egress(c.flow, c.source, x)
		assert.Contains(t, d.String(), c.want, name)
		if d.Opaque {
			assert.True(t, plain.Egress(c.flow, c.source, x).Allowed(), "%s without strict mode", name)
		}
	}
	e := engine(t, with(t, Deny, Allow, "allow@pypi.org,allow@private")).Strict()
	assert.True(t, e.Query("pypi.org", UDP, 53).Allowed(), "names are resolved as ever")
	assert.True(t, e.Keeps(addr("10.0.0.1")))
	assert.False(t, e.Under(engine(t, Default())).Egress(Flow{TCP, py, 443}, BySNI("pypi.org"), x).Allowed())
}
