package policy

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	py  = netip.MustParseAddr("151.101.0.223")
	fi  = netip.MustParseAddr("151.101.64.223")
	v6  = netip.MustParseAddr("2606:4700:4700::1111")
	gw4 = netip.MustParseAddr("100.96.0.1")
	gw6 = netip.MustParseAddr("fd42:6d73:62::1")
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// names is an index with each name bound to the addresses.
func names(bound map[string][]netip.Addr) *Index {
	x := NewIndex(nil)
	for name, addrs := range bound {
		var list4, list6 []netip.Addr
		for _, a := range addrs {
			if a.Is4() {
				list4 = append(list4, a)
			} else {
				list6 = append(list6, a)
			}
		}
		x.Set(name, false, list4, time.Hour)
		x.Set(name, true, list6, time.Hour)
	}
	return x
}

func engine(t testing.TB, p *Policy) *Engine {
	t.Helper()
	e, err := New(p, []netip.Addr{gw4, gw6})
	require.NoError(t, err)
	return e
}

// with is a policy with defaults and the rules of the grammar.
func with(t testing.TB, egress, ingress Action, rules string) *Policy {
	t.Helper()
	list, err := ParseRules(rules)
	require.NoError(t, err)
	return &Policy{DefaultEgress: egress, DefaultIngress: ingress, Rules: list}
}

// TestGroups are G1 to G8.
func TestGroups(t *testing.T) {
	t.Parallel()
	e := engine(t, NoTraffic())
	for group, list := range map[Group][]string{
		Loopback:  {"127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"},
		Private:   {"10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd42:6d73:62:2a::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "fd00:ec2::254", "fec0::1", "64:ff9b:1::1"},
		LinkLocal: {"169.254.1.1", "fe80::1", "fe80::1%eth0"},
		Metadata:  {"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254"},
		Multicast: {"224.0.0.1", "ff02::1"},
		Public:    {"8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2001:db8::1", "64:ff9b::8.8.8.8"},
		Host:      {"100.96.0.1", "fd42:6d73:62::1", "::ffff:100.96.0.1"},
		"":        {"0.0.0.0", "::", "0.1.2.3", "255.255.255.255", "240.0.0.1", "64:ff9b::0.0.0.0"},
	} {
		for _, a := range list {
			assert.Equal(t, group, e.groupOf(addr(a)), a)
		}
	}
}

// TestNames are N1 to N3.
func TestNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Shop.Test.": "shop.test", ".mirror.test": "mirror.test", "_http._tcp.example.com": "_http._tcp.example.com", "com": "com",
	} {
		got, err := Canonical(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got)
		again, err := Canonical(got)
		require.NoError(t, err)
		assert.Equal(t, got, again)
	}
	long := ""
	for range 64 {
		long += "abc."
	}
	for _, in := range []string{"", "...", "foo bar.example", "bar.example:443", "user@example.com", "https://example.com", "example.com/path", "a.com?q", "a.com#f", "a..b", "-a.com", long, "ü.com"} {
		_, err := Canonical(in)
		assert.ErrorIs(t, err, ErrInvalid, in)
		b, err := json.Marshal(Policy{DefaultEgress: Deny, DefaultIngress: Deny, Rules: []Rule{{Direction: Egress, Action: Allow, Destination: Destination{KindDomain, in}}}})
		require.NoError(t, err)
		var p Policy
		require.NoError(t, json.Unmarshal(b, &p))
		assert.ErrorIs(t, p.Validate(), ErrInvalid, in)
	}
	for _, in := range []string{"com", "local", "internal", "intranet", "lan", "*.com"} {
		_, err := CanonicalSuffix(in)
		assert.ErrorContains(t, err, "match every domain", in)
	}
}

// TestRules are R1 to R13, R17 of the specification, and G8, G9.
func TestRules(t *testing.T) {
	t.Parallel()
	shop := map[string][]netip.Addr{"shop.test": {py}}
	public, err := json.Marshal(Default())
	require.NoError(t, err)
	plus := func(egress Action, rules string) *Policy { return with(t, egress, Allow, rules) }
	prepend := func(p *Policy, rules string) *Policy {
		list, err := ParseRules(rules)
		require.NoError(t, err)
		return &Policy{p.DefaultEgress, p.DefaultIngress, append(list, p.Rules...)}
	}
	suffix := plus(Deny, "allow@*.mirror.test")
	web := plus(Deny, "allow@public:tcp:443,allow@public:udp:443")
	ports := plus(Deny, "allow@public:tcp:80,allow@public:tcp:443")
	for name, c := range map[string]struct {
		policy *Policy
		names  map[string][]netip.Addr
		flow   Flow
		want   bool
	}{
		"R1":           {plus(Deny, "allow@shop.test"), shop, Flow{TCP, py, 443}, true},
		"R1 unknown":   {plus(Deny, "allow@shop.test"), nil, Flow{TCP, py, 443}, false},
		"R1 ICMP":      {plus(Deny, "allow@shop.test"), shop, Flow{ICMPv4, py, 0}, true},
		"R2 below":     {suffix, map[string][]netip.Addr{"files.mirror.test": {fi}}, Flow{TCP, fi, 443}, true},
		"R2 apex":      {suffix, map[string][]netip.Addr{"mirror.test": {fi}}, Flow{TCP, fi, 443}, true},
		"R2 evil":      {suffix, map[string][]netip.Addr{"evilmirror.test": {fi}}, Flow{TCP, fi, 443}, false},
		"R3":           {plus(Deny, "allow@example.com"), shop, Flow{TCP, py, 443}, false},
		"R4":           {plus(Deny, "allow@shop.test,deny@151.101.0.0/16"), shop, Flow{TCP, py, 443}, true},
		"R5":           {plus(Deny, "allow@shop.test"), shop, Flow{TCP, v6, 443}, false},
		"R6":           {plus(Deny, "allow@shop.test:udp:443"), shop, Flow{UDP, py, 443}, true},
		"R6 tcp":       {plus(Deny, "allow@shop.test:udp:443"), shop, Flow{TCP, py, 443}, false},
		"R7 gateway 4": {plus(Allow, "deny@host"), nil, Flow{TCP, gw4, 80}, false},
		"R7 gateway 6": {plus(Allow, "deny@host"), nil, Flow{TCP, gw6, 80}, false},
		"R7 other":     {plus(Allow, "deny@host"), nil, Flow{TCP, addr("8.8.8.8"), 80}, true},
		"R8 gateway 4": {Default(), nil, Flow{TCP, gw4, 80}, false},
		"R8 gateway 6": {Default(), nil, Flow{TCP, gw6, 80}, false},
		"R8 private":   {Default(), nil, Flow{TCP, addr("10.0.0.5"), 80}, false},
		"R8 host":      {prepend(Default(), "allow@host"), nil, Flow{TCP, gw4, 80}, true},
		"R8 host only": {prepend(Default(), "allow@host"), nil, Flow{TCP, addr("10.0.0.5"), 80}, false},
		"R12 tcp":      {web, nil, Flow{TCP, py, 443}, true},
		"R12 udp":      {web, nil, Flow{UDP, py, 443}, true},
		"R12 icmp":     {web, nil, Flow{ICMPv4, py, 0}, false},
		"R13 80":       {ports, nil, Flow{TCP, py, 80}, true},
		"R13 443":      {ports, nil, Flow{TCP, py, 443}, true},
		"R13 8080":     {ports, nil, Flow{TCP, py, 8080}, false},
		"R17":          {prepend(Default(), "deny@evil.com"), map[string][]netip.Addr{"evil.com": {py}}, Flow{TCP, py, 443}, false},
		"G8":           {Default(), nil, Flow{TCP, addr("0.0.0.0"), 80}, false},
		"G8 IPv6":      {Default(), nil, Flow{TCP, addr("::"), 80}, false},
		"G9":           {plus(Allow, "deny@169.254.0.0/16"), nil, Flow{TCP, addr("::ffff:169.254.169.254"), 80}, false},
		"NAT64 deny":   {plus(Allow, "deny@10.0.0.0/8"), nil, Flow{TCP, addr("64:ff9b::10.0.0.5"), 80}, false},
		"metadata":     {Default(), nil, Flow{TCP, addr("169.254.169.254"), 80}, false},
		"mapped":       {plus(Deny, "allow@shop.test"), shop, Flow{TCP, addr("::ffff:151.101.0.223"), 443}, true},
		"ingress only": {plus(Deny, "allow:ingress@any"), nil, Flow{TCP, py, 80}, false},
		"host bits":    {&Policy{Deny, Deny, []Rule{{Egress, Destination{KindCIDR, "151.101.3.4/16"}, nil, nil, Allow}}}, nil, Flow{TCP, py, 80}, true},
		"bare address": {&Policy{Deny, Deny, []Rule{{Egress, Destination{KindCIDR, "151.101.0.223"}, nil, nil, Allow}}}, nil, Flow{TCP, py, 80}, true},
		"mapped rule":  {&Policy{Deny, Deny, []Rule{{Egress, Destination{KindCIDR, "::ffff:151.101.0.0/112"}, nil, nil, Allow}}}, nil, Flow{TCP, py, 80}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := engine(t, c.policy).Egress(c.flow, ByIndex(), names(c.names))
			assert.Equal(t, c.want, got.Allowed(), got)
		})
	}
	again, err := json.Marshal(Default())
	require.NoError(t, err)
	assert.Equal(t, string(public), string(again), "presets are not shared")
}

// TestIngress are R9 to R11.
func TestIngress(t *testing.T) {
	t.Parallel()
	peer, other := addr("198.51.100.10"), addr("10.0.0.5")
	x := NewIndex(nil)
	assert.True(t, engine(t, Default()).Ingress(Flow{TCP, peer, 8080}, x).Allowed(), "R9")
	e := engine(t, with(t, Deny, Deny, "allow:ingress@private"))
	assert.False(t, e.Egress(Flow{TCP, other, 443}, ByIndex(), x).Allowed(), "R10")
	assert.True(t, e.Ingress(Flow{TCP, other, 443}, x).Allowed(), "R10")
	e = engine(t, with(t, Allow, Allow, "deny:any@1.2.3.4"))
	assert.False(t, e.Egress(Flow{TCP, addr("1.2.3.4"), 1}, ByIndex(), x).Allowed(), "R11")
	assert.False(t, e.Ingress(Flow{TCP, addr("1.2.3.4"), 1}, x).Allowed(), "R11")
	assert.True(t, e.Ingress(Flow{TCP, addr("1.2.3.5"), 1}, x).Allowed(), "R11")
	assert.Equal(t, "allowed by default", e.Ingress(Flow{TCP, addr("1.2.3.5"), 1}, x).String())
	assert.Equal(t, "denied by rule 1, deny:any@1.2.3.4/32", e.Ingress(Flow{TCP, addr("1.2.3.4"), 1}, x).String())
}

// TestSources are S1 to S14.
func TestSources(t *testing.T) {
	t.Parallel()
	shop := map[string][]netip.Addr{"shop.test": {py}}
	both := map[string][]netip.Addr{"evil.com": {py}, "shop.test": {py}}
	evil := map[string][]netip.Addr{"evil.com": {py}}
	for name, c := range map[string]struct {
		egress Action
		rules  string
		names  map[string][]netip.Addr
		addr   netip.Addr
		source Source
		want   Verdict
	}{
		"S1":             {Deny, "allow@shop.test", both, py, BySNI("shop.test"), Allowed},
		"S2":             {Deny, "allow@shop.test", evil, py, BySNI("shop.test"), Denied},
		"S2 empty":       {Deny, "allow@shop.test", nil, py, BySNI("shop.test"), Denied},
		"S3":             {Deny, "allow@shop.test", shop, py, BySNI("evil.com"), Denied},
		"S4":             {Allow, "deny@evil.com", nil, py, BySNI("evil.com"), Denied},
		"S4 suffix":      {Allow, "deny@*.evil.com", nil, py, BySNI("api.evil.com"), Denied},
		"S5":             {Allow, "deny@ads.example.com", map[string][]netip.Addr{"ads.example.com": {py}}, py, BySNI("api.example.com"), Allowed},
		"S6":             {Deny, "allow@*.mirror.test", map[string][]netip.Addr{"other.mirror.test": {fi}}, fi, BySNI("files.mirror.test"), Allowed},
		"S6 empty":       {Deny, "allow@*.mirror.test", nil, fi, BySNI("files.mirror.test"), Denied},
		"S7":             {Deny, "allow@shop.test", nil, py, Deferred(), Denied},
		"S8":             {Deny, "allow@shop.test", shop, py, Deferred(), Defer},
		"S8 mapped":      {Deny, "allow@shop.test", shop, addr("::ffff:151.101.0.223"), Deferred(), Defer},
		"S9 allow":       {Deny, "allow@151.101.0.0/16,allow@shop.test", shop, py, Deferred(), Allowed},
		"S9 deny":        {Deny, "deny@151.101.0.0/16,allow@shop.test", shop, py, Deferred(), Denied},
		"S10 udp":        {Deny, "allow@shop.test:udp", shop, py, Deferred(), Denied},
		"S10 80":         {Deny, "allow@shop.test:tcp:80", shop, py, Deferred(), Denied},
		"S11":            {Deny, "deny@evil.com", nil, py, Deferred(), Denied},
		"S12":            {Allow, "deny@evil.com", nil, py, Deferred(), Defer},
		"S13":            {Deny, "deny@evil.com,allow@151.101.0.0/16", nil, py, Deferred(), Defer},
		"S14":            {Deny, "deny@evil.com,deny@151.101.0.0/16,allow@any", nil, py, Deferred(), Denied},
		"deny, then yes": {Deny, "deny@evil.com,allow@shop.test", shop, py, Deferred(), Defer},
		"deny twice":     {Deny, "deny@evil.com,deny@bad.com,allow:ingress@any", shop, py, Deferred(), Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engine(t, with(t, c.egress, Allow, c.rules))
			assert.True(t, e.Named())
			assert.Equal(t, c.want, e.Egress(Flow{TCP, c.addr, 443}, c.source, names(c.names)).Verdict)
		})
	}
}

// TestQueries are D1 to D11.
func TestQueries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		egress Action
		rules  string
		query  string
		proto  Protocol
		port   uint16
		want   bool
	}{
		"D1 evil":          {Allow, "deny@evil.com", "evil.com", UDP, 53, false},
		"D1 good":          {Allow, "deny@evil.com", "good.com", UDP, 53, true},
		"D2 apex":          {Allow, "deny@*.evil.com", "evil.com", UDP, 53, false},
		"D2 below":         {Allow, "deny@*.evil.com", "deep.sub.evil.com", UDP, 53, false},
		"D2 other":         {Allow, "deny@*.evil.com", "notevil.com", UDP, 53, true},
		"D3":               {Allow, "deny@10.0.0.0/8,deny@public", "x.com", UDP, 53, true},
		"D3 any":           {Allow, "deny@10.0.0.0/8,deny@public,deny@any", "x.com", UDP, 53, false},
		"D4 udp":           {Deny, "allow@dns", "x.com", UDP, 53, true},
		"D4 tcp":           {Deny, "allow@dns", "x.com", TCP, 53, true},
		"D4 DoT":           {Deny, "allow@dns", "x.com", TCP, 853, false},
		"D5 udp":           {Deny, "allow@host:udp:53", "x.com", UDP, 53, true},
		"D5 tcp":           {Deny, "allow@host:udp:53", "x.com", TCP, 53, false},
		"D6 evil":          {Deny, "allow@evil.com,deny@*.evil.com", "evil.com", UDP, 53, true},
		"D6 below":         {Deny, "allow@evil.com,deny@*.evil.com", "foo.evil.com", UDP, 53, false},
		"D7 allow":         {Deny, "allow@example.com:tcp:443", "example.com", UDP, 53, true},
		"D7 deny":          {Allow, "deny@example.com:tcp:443", "example.com", UDP, 53, false},
		"D8":               {Deny, "", "x.com", UDP, 53, false},
		"D9 udp":           {Deny, "allow@any:udp", "x.com", UDP, 53, true},
		"D9 tcp":           {Deny, "allow@any:udp", "x.com", TCP, 53, false},
		"D10 domain":       {Deny, "allow@*.x.com", "", UDP, 53, false},
		"D10 host":         {Deny, "allow@dns", "", UDP, 53, true},
		"D11 ingress":      {Allow, "deny:ingress@x.com", "x.com", UDP, 53, true},
		"D11 any":          {Allow, "deny:any@x.com", "x.com", UDP, 53, false},
		"public alone":     {Deny, "allow@public", "x.com", UDP, 53, false},
		"other host ports": {Deny, "allow@host:tcp:80", "x.com", TCP, 53, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, engine(t, with(t, c.egress, Allow, c.rules)).Query(c.query, c.proto, c.port).Allowed())
		})
	}
}

// TestKeeps is U2: which private answers are no rebinding.
func TestKeeps(t *testing.T) {
	t.Parallel()
	inside := addr("10.1.2.3")
	both, err := FromProfiles(Public, Private)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		policy *Policy
		addr   netip.Addr
		want   bool
	}{
		"profile private":   {both, inside, true},
		"mapped":            {both, addr("::ffff:10.1.2.3"), true},
		"profile public":    {Default(), inside, false},
		"all traffic":       {AllTraffic(), inside, false},
		"allow any":         {with(t, Deny, Allow, "allow@any"), inside, false},
		"deny before":       {with(t, Deny, Allow, "deny@10.0.0.0/8,allow@private"), inside, false},
		"one of two":        {with(t, Deny, Allow, "deny@10.0.0.0/8:tcp,allow@private"), inside, true},
		"ports only":        {with(t, Deny, Allow, "allow@private:tcp:80"), inside, false},
		"ICMP only":         {with(t, Deny, Allow, "allow@private:icmpv4"), inside, false},
		"unspecified":       {with(t, Deny, Allow, "allow@0.0.0.0/0"), addr("0.0.0.0"), false},
		"IPv6 unspecified":  {with(t, Deny, Allow, "allow@[::/0]"), addr("::"), false},
		"ingress is not it": {with(t, Deny, Allow, "allow:ingress@private"), inside, false},
	} {
		assert.Equal(t, c.want, engine(t, c.policy).Keeps(c.addr), name)
	}
}

// TestUnder: a bound takes away, and gives nothing.
func TestUnder(t *testing.T) {
	t.Parallel()
	public := engine(t, Default())
	x := names(map[string][]netip.Addr{"good.com": {py}, "evil.com": {addr("10.0.0.1")}})
	all := engine(t, AllTraffic()).Under(public)
	assert.True(t, all.Egress(Flow{TCP, py, 443}, ByIndex(), x).Allowed())
	for _, a := range []string{"10.0.0.1", "169.254.169.254", "100.96.0.1", "::ffff:10.0.0.1"} {
		d := all.Egress(Flow{TCP, addr(a), 80}, ByIndex(), x)
		assert.Equal(t, "denied by the platform", d.String(), a)
	}
	assert.False(t, all.Egress(Flow{ICMPv4, gw4, 0}, ByIndex(), x).Allowed(), "a ping of the gateway")
	assert.True(t, all.Query("any.com", UDP, 53).Allowed())
	private := engine(t, with(t, Deny, Allow, "allow@private,allow@good.com,allow@evil.com"))
	assert.True(t, private.Keeps(addr("10.0.0.1")))
	bounded := private.Under(public)
	assert.False(t, bounded.Keeps(addr("10.0.0.1")))
	assert.True(t, private.Keeps(addr("10.0.0.1")), "the other one is as it was")
	assert.Equal(t, Defer, bounded.Egress(Flow{TCP, py, 443}, Deferred(), x).Verdict)
	assert.Equal(t, Denied, bounded.Egress(Flow{TCP, addr("10.0.0.1"), 443}, Deferred(), x).Verdict)
	assert.False(t, bounded.Egress(Flow{TCP, addr("8.8.8.8"), 443}, ByIndex(), x).Allowed(), "nor does it open anything")
	assert.True(t, bounded.Named())
}

// TestPresets are R15 and R16.
func TestPresets(t *testing.T) {
	t.Parallel()
	p, err := FromProfiles(Host, Private, Public, Private)
	require.NoError(t, err)
	var targets []string
	for _, r := range p.Rules {
		targets = append(targets, r.Destination.Value)
	}
	assert.Equal(t, []string{"host", "public", "private", "host"}, targets, "R15: dns, then in order")
	none, err := FromProfiles()
	require.NoError(t, err)
	assert.Equal(t, &Policy{Deny, Allow, []Rule{}}, none, "R16")
	_, err = FromProfiles(Loopback)
	assert.ErrorIs(t, err, ErrInvalid)
	for _, p := range []*Policy{p, none, Default(), NoTraffic(), AllTraffic()} {
		require.NoError(t, p.Validate())
	}
}

// TestJSON is R14.
func TestJSON(t *testing.T) {
	t.Parallel()
	const text = `{"default_egress":"deny","default_ingress":"allow","rules":[` +
		`{"direction":"egress","destination":{"group":"link_local"},"protocols":["udp","tcp"],"ports":[{"start":53,"end":53}],"action":"allow"},` +
		`{"direction":"any","destination":"any","protocols":[],"ports":[],"action":"deny"},` +
		`{"direction":"ingress","destination":{"domain_suffix":"example.com"},"protocols":["icmpv6"],"ports":[],"action":"deny"},` +
		`{"direction":"egress","destination":{"cidr":"10.0.0.0/8"},"protocols":[],"ports":[],"action":"deny"},` +
		`{"direction":"egress","destination":{"domain":"example.com"},"protocols":[],"ports":[],"action":"deny"}]}`
	var p Policy
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	require.NoError(t, p.Validate())
	b, err := json.Marshal(&p)
	require.NoError(t, err)
	assert.JSONEq(t, text, string(b), "R14")
	require.NoError(t, json.Unmarshal([]byte(`{"rules":null}`), &p))
	assert.Equal(t, *NoTraffic(), p, "what is left out denies")
	for _, bad := range []string{`{"rules":[{"destination":"all"}]}`, `{"rules":[{"destination":{"cidr":"a","group":"b"}}]}`, `{"rules":[{"destination":{"x":"y"}}]}`, `{"rules":[{"destination":7}]}`} {
		assert.Error(t, json.Unmarshal([]byte(bad), &p), bad)
	}
	good := Rule{Egress, Destination{Kind: KindAny}, nil, nil, Allow}
	for name, change := range map[string]func(p *Policy, r *Rule){
		"egress":    func(p *Policy, _ *Rule) { p.DefaultEgress = "" },
		"ingress":   func(p *Policy, _ *Rule) { p.DefaultIngress = "Allow" },
		"direction": func(_ *Policy, r *Rule) { r.Direction = "in" },
		"action":    func(_ *Policy, r *Rule) { r.Action = "drop" },
		"protocol":  func(_ *Policy, r *Rule) { r.Protocols = []Protocol{"icmp"} },
		"ports":     func(_ *Policy, r *Rule) { r.Ports = []PortRange{{2, 1}} },
		"group":     func(_ *Policy, r *Rule) { r.Destination = Destination{KindGroup, "meta"} },
		"cidr":      func(_ *Policy, r *Rule) { r.Destination = Destination{KindCIDR, "10.0.0.0/33"} },
		"kind":      func(_ *Policy, r *Rule) { r.Destination = Destination{"x", "y"} },
	} {
		r, p := good, *NoTraffic()
		change(&p, &r)
		p.Rules = []Rule{r}
		assert.ErrorIs(t, p.Validate(), ErrInvalid, name)
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	x := NewIndex(func() time.Time { return now })
	is := func(want string) Matcher { return &rule{kind: KindDomain, name: want} }
	x.Set("a.com", false, []netip.Addr{py, py, fi}, 10*time.Second)
	x.Set("a.com", true, []netip.Addr{v6}, 20*time.Second)
	x.Set("b.com", false, []netip.Addr{addr("::ffff:151.101.0.223")}, 0)
	assert.True(t, x.Bound(py, is("a.com")))
	assert.True(t, x.Bound(addr("::ffff:151.101.0.223"), is("a.com")))
	assert.True(t, x.Bound(py, is("b.com")))
	assert.False(t, x.Bound(fi, is("b.com")))
	now = now.Add(999 * time.Millisecond)
	assert.True(t, x.Bound(py, is("b.com")), "TTL 0 is a second")
	now = now.Add(time.Millisecond)
	assert.False(t, x.Bound(py, is("b.com")))
	x.Set("a.com", false, []netip.Addr{fi}, time.Second)
	assert.False(t, x.Bound(py, is("a.com")), "answers replace each other")
	assert.True(t, x.Bound(v6, is("a.com")), "families do not")
	x.Set("a.com", true, nil, time.Hour)
	assert.False(t, x.Bound(v6, is("a.com")), "nothing unbinds")
	now = now.Add(time.Minute)
	x.Sweep()
	assert.Empty(t, x.entries)
	assert.Empty(t, x.byAddr)
	for i := range maxNames + 10 {
		x.Set(string(rune('a'+i%26))+time.Duration(i).String(), false, []netip.Addr{py}, time.Duration(i+1)*time.Second)
	}
	assert.Len(t, x.entries, maxNames)
	assert.Len(t, x.byAddr[py], maxNames)
}

func TestEvaluationDoesNotAllocate(t *testing.T) {
	e := engine(t, with(t, Deny, Allow, "deny@*.ads.example.com,allow@shop.test,allow@public:tcp:443"))
	x := names(map[string][]netip.Addr{"other.org": {py}})
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if !e.Egress(Flow{TCP, py, 443}, ByIndex(), x).Allowed() {
			t.Error("denied")
		}
	}))
}
