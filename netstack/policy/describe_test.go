package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRuleString: what a log shows can be written again.
func TestRuleString(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"allow@public", "allow@any", "allow@meta", "deny@link-local", "deny:any@host", "allow:ingress@private", "allow@public:tcp:443", "allow@public:tcp:80-443",
		"allow@public:icmpv4", "allow@any:any:53", "deny@198.51.100.5/32", "allow@10.0.0.0/8:udp", "allow@[2001:db8::1/128]:tcp:443", "deny@[2001:db8::/32]",
		"allow@example.com:tcp:443", "allow@domain=public", "deny@*.ads.example.com", "allow@dns", "deny@dns", "allow@host:tcp:53", "allow:ingress@any:udp:0-65535",
	} {
		list, err := ParseRules(text)
		require.NoError(t, err, text)
		assert.Equal(t, text, list[0].String())
	}
	r := Rule{Egress, Destination{KindGroup, "public"}, []Protocol{TCP, UDP}, []PortRange{{80, 80}, {443, 445}}, Allow}
	assert.Equal(t, "allow@public:tcp+udp:80+443-445", r.String(), "what --net-rule has no words for")
	assert.Equal(t, "allow@1.2.3.4", Rule{Egress, Destination{KindCIDR, "1.2.3.4"}, nil, nil, Allow}.String())
}
