package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/gomsb/gomsb/netstack/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	gateway4 = netip.MustParseAddr("172.16.0.5")
	gateway6 = netip.MustParseAddr("fd42:6d73:62:1::1")
)

const watchdog = 20 * time.Second

func rr(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

func a(name string, ttl uint32, ip string) dnsmessage.Resource {
	return rr(name, ttl, &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()})
}

func aaaa(name string, ttl uint32, ip string) dnsmessage.Resource {
	return rr(name, ttl, &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(ip).As16()})
}

func cname(name string, ttl uint32, target string) dnsmessage.Resource {
	return rr(name, ttl, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target)})
}

// ask is a question with identifier 0x1234.
func ask(t testing.TB, name string, kind dnsmessage.Type, edns int, questions int) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 0x1234, RecursionDesired: true}}
	for range questions {
		m.Questions = append(m.Questions, dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET})
	}
	if edns > 0 {
		var h dnsmessage.ResourceHeader
		require.NoError(t, h.SetEDNS0(edns, dnsmessage.RCodeSuccess, true))
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}})
	}
	b, err := m.Pack()
	require.NoError(t, err)
	return b
}

// upstream is a name server on this machine.
type upstream struct {
	addr   netip.AddrPort
	asked  atomic.Int64
	answer func(q dnsmessage.Message) *dnsmessage.Message // nil result: silence

	mu   sync.Mutex
	last []byte // the last question as it came
}

func (u *upstream) reply(m []byte) []byte {
	u.asked.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock() // packing writes to the records, too
	u.last = bytes.Clone(m)
	var q dnsmessage.Message
	if q.Unpack(m) != nil {
		return nil
	}
	r := u.answer(q)
	if r == nil {
		return nil
	}
	b, err := r.Pack()
	if err != nil {
		return nil
	}
	return b
}

// records answers every question with the same records.
func records(list ...dnsmessage.Resource) func(dnsmessage.Message) *dnsmessage.Message {
	return func(q dnsmessage.Message) *dnsmessage.Message {
		return &dnsmessage.Message{
			Header:    dnsmessage.Header{ID: q.ID, Response: true, RecursionDesired: true, RecursionAvailable: true},
			Questions: q.Questions, Answers: slices.Clone(list), Additionals: q.Additionals,
		}
	}
}

func silence(dnsmessage.Message) *dnsmessage.Message { return nil }

// start serves UDP and TCP on one port.
func start(t testing.TB, answer func(dnsmessage.Message) *dnsmessage.Message) *upstream {
	t.Helper()
	u := &upstream{answer: answer}
	var l net.Listener
	var c *net.UDPConn
	require.Eventually(t, func() bool { // until a port is free for both
		var err error
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return false
		}
		u.addr = l.Addr().(*net.TCPAddr).AddrPort()
		if c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(u.addr)); err != nil {
			_ = l.Close()
		}
		return err == nil
	}, watchdog, time.Millisecond)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, maxMessage)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if r := u.reply(b[:n]); r != nil {
				_, _ = c.WriteToUDPAddrPort([]byte("noise"), from)
				wrong := bytes.Clone(r)
				wrong[0] ^= 0xff // somebody guesses
				_, _ = c.WriteToUDPAddrPort(wrong, from)
				_, _ = c.WriteToUDPAddrPort(r, from)
			}
		}
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				var size [2]byte
				if _, err := io.ReadFull(c, size[:]); err != nil {
					return
				}
				b := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				if r := u.reply(b); r != nil {
					_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...))
					return
				}
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		_ = c.Close()
		wg.Wait()
	})
	return u
}

// forwarder is one under a policy; change may adjust it.
func forwarder(t testing.TB, p *policy.Policy, change func(*Config), up ...*upstream) (*Forwarder, *policy.Index) {
	t.Helper()
	e, err := policy.New(p, []netip.Addr{gateway4, gateway6})
	require.NoError(t, err)
	cfg := Config{Policy: e, Names: policy.NewIndex(nil), Gateway4: gateway4, Gateway6: gateway6, Timeout: watchdog}
	var servers Fixed
	for _, u := range up {
		servers = append(servers, u.addr)
	}
	cfg.Upstreams = servers
	if change != nil {
		change(&cfg)
	}
	return New(cfg), cfg.Names
}

// unpack reads a reply.
func unpack(t testing.TB, b []byte) dnsmessage.Message {
	t.Helper()
	require.NotNil(t, b, "a reply")
	var m dnsmessage.Message
	require.NoError(t, m.Unpack(b))
	require.EqualValues(t, 0x1234, m.ID, "the guest's own identifier")
	require.True(t, m.Response)
	require.True(t, m.RecursionDesired)
	require.True(t, m.RecursionAvailable)
	require.Len(t, m.Questions, 1)
	return m
}

type name string

func (n name) Fits(s string) bool { return s == string(n) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, p := range []policy.Protocol{policy.UDP, policy.TCP} {
		u := start(t, records(a("Example.com.", 300, "93.184.216.34"), a("example.com.", 20, "93.184.216.35")))
		f, names := forwarder(t, policy.Default(), nil, u)
		var m dnsmessage.Message
		ids := map[string]bool{}
		for range 4 {
			m = unpack(t, f.Answer(t.Context(), ask(t, "eXample.com.", dnsmessage.TypeA, 0, 1), Way{Protocol: p}))
			u.mu.Lock()
			ids[string(u.last[:2])] = true
			u.mu.Unlock()
		}
		assert.Greater(t, len(ids), 1, "identifiers of our own")
		assert.Equal(t, dnsmessage.RCodeSuccess, m.RCode)
		assert.Len(t, m.Answers, 2)
		assert.Equal(t, "eXample.com.", m.Questions[0].Name.String(), "as it was asked")
		assert.True(t, names.Bound(addr("93.184.216.34"), name("example.com")))
	}
}

// TestRefusedQuestions is U4, and U7 where the policy refuses the resolver.
func TestRefusedQuestions(t *testing.T) {
	t.Parallel()
	u := start(t, records(a("x.", 1, "93.184.216.34")))
	rules, err := policy.ParseRules("deny@*.blocked.test,deny@blocked.example.com,deny@8.8.8.8")
	require.NoError(t, err)
	f, names := forwarder(t, &policy.Policy{DefaultEgress: policy.Allow, DefaultIngress: policy.Deny, Rules: rules}, nil, u)
	names.Set("blocked.test", false, []netip.Addr{addr("1.2.3.4")}, time.Hour)
	for _, q := range []string{"blocked.test.", "a.b.blocked.test.", "BLOCKED.example.com."} {
		for _, p := range []policy.Protocol{policy.UDP, policy.TCP} {
			m := unpack(t, f.Answer(t.Context(), ask(t, q, dnsmessage.TypeA, 0, 1), Way{Protocol: p}))
			assert.Equal(t, dnsmessage.RCodeNameError, m.RCode, q)
			assert.Empty(t, m.Answers)
		}
	}
	m := unpack(t, f.Answer(t.Context(), ask(t, "example.com.", dnsmessage.TypeA, 0, 1), Way{Protocol: policy.UDP, Resolver: addr("8.8.8.8")}))
	assert.Equal(t, dnsmessage.RCodeNameError, m.RCode, "a resolver that is denied")
	assert.Zero(t, u.asked.Load(), "nobody was asked")
	m = unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 0, 2), Way{Protocol: policy.UDP}))
	assert.Equal(t, dnsmessage.RCodeFormatError, m.RCode, "two questions")
	none, _ := forwarder(t, policy.NoTraffic(), nil, u)
	m = unpack(t, none.Answer(t.Context(), ask(t, HostAlias+".", dnsmessage.TypeA, 0, 1), Way{Protocol: policy.UDP}))
	assert.Equal(t, dnsmessage.RCodeNameError, m.RCode, "the alias too")
}

func TestNoReply(t *testing.T) {
	t.Parallel()
	f, _ := forwarder(t, policy.AllTraffic(), nil)
	response := ask(t, "x.", dnsmessage.TypeA, 0, 1)
	response[2] |= 0x80
	for what, m := range map[string][]byte{
		"nothing": nil, "a header": make([]byte, headerSize), "a response": response, "half": response[:14],
		"P25 compression loop": append([]byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0xc0, 12, 0, 1, 0, 1),
	} {
		assert.Nil(t, f.Answer(t.Context(), m, Way{Protocol: policy.UDP}), what)
	}
}

func TestHostAlias(t *testing.T) {
	t.Parallel()
	u := start(t, records())
	f, names := forwarder(t, policy.Default(), nil, u)
	m := unpack(t, f.Answer(t.Context(), ask(t, "Host.Microsandbox.Internal.", dnsmessage.TypeA, 0, 1), Way{Protocol: policy.UDP}))
	require.Len(t, m.Answers, 1)
	assert.True(t, m.Authoritative)
	assert.Equal(t, gateway4.As4(), m.Answers[0].Body.(*dnsmessage.AResource).A)
	assert.EqualValues(t, aliasTTL, m.Answers[0].Header.TTL)
	m = unpack(t, f.Answer(t.Context(), ask(t, HostAlias+".", dnsmessage.TypeAAAA, 0, 1), Way{Protocol: policy.TCP}))
	require.Len(t, m.Answers, 1)
	assert.Equal(t, gateway6.As16(), m.Answers[0].Body.(*dnsmessage.AAAAResource).AAAA)
	assert.False(t, names.Bound(gateway4, name(HostAlias)))
	assert.Zero(t, u.asked.Load())
	unpack(t, f.Answer(t.Context(), ask(t, HostAlias+".", dnsmessage.TypeTXT, 0, 1), Way{Protocol: policy.TCP}))
	assert.EqualValues(t, 1, u.asked.Load(), "other types go upstream")
}

func TestFamilyThatIsNotThere(t *testing.T) {
	t.Parallel()
	u := start(t, records())
	f, names := forwarder(t, policy.Default(), func(c *Config) { c.Gateway6 = netip.Addr{} }, u)
	names.Set("example.com", true, []netip.Addr{addr("2606::1")}, time.Hour)
	for _, n := range []string{"example.com.", HostAlias + "."} {
		m := unpack(t, f.Answer(t.Context(), ask(t, n, dnsmessage.TypeAAAA, 0, 1), Way{Protocol: policy.UDP}))
		assert.Equal(t, dnsmessage.RCodeSuccess, m.RCode)
		assert.Empty(t, m.Answers)
	}
	assert.Zero(t, u.asked.Load())
	assert.False(t, names.Bound(addr("2606::1"), name("example.com")), "and is bound to nothing")
}

// TestFailover is U3 and U8.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, p := range []policy.Protocol{policy.UDP, policy.TCP} {
		hole, good, other := start(t, silence), start(t, records(a("x.", 1, "93.184.216.34"))), start(t, records())
		failing := start(t, func(q dnsmessage.Message) *dnsmessage.Message {
			r := records()(q)
			r.RCode = dnsmessage.RCodeServerFailure
			return r
		})
		short := func(c *Config) { c.Timeout = 50 * time.Millisecond }
		question := ask(t, "x.", dnsmessage.TypeA, 0, 1)
		f, _ := forwarder(t, policy.Default(), short, hole, hole, good)
		assert.Eventually(t, func() bool { // the good one may be too slow for that time too
			return len(unpack(t, f.Answer(t.Context(), question, Way{Protocol: p})).Answers) == 1
		}, watchdog, time.Millisecond)
		assert.GreaterOrEqual(t, hole.asked.Load(), int64(2))

		f, _ = forwarder(t, policy.Default(), nil, good, other)
		assert.Len(t, unpack(t, f.Answer(t.Context(), question, Way{Protocol: p})).Answers, 1)
		f, _ = forwarder(t, policy.Default(), nil, failing, other)
		assert.Equal(t, dnsmessage.RCodeServerFailure, unpack(t, f.Answer(t.Context(), question, Way{Protocol: p})).RCode)
		assert.Zero(t, other.asked.Load(), "any answer is one")

		f, names := forwarder(t, policy.Default(), short, hole, hole)
		names.Set("x", false, []netip.Addr{addr("1.2.3.4")}, time.Hour)
		assert.Equal(t, dnsmessage.RCodeServerFailure, unpack(t, f.Answer(t.Context(), question, Way{Protocol: p})).RCode)
		assert.False(t, names.Bound(addr("1.2.3.4"), name("x")))
		f, _ = forwarder(t, policy.Default(), nil)
		assert.Equal(t, dnsmessage.RCodeServerFailure, unpack(t, f.Answer(t.Context(), question, Way{Protocol: p})).RCode, "nobody to ask")
	}
}

// TestLostDatagram: a question or answer that is lost costs a second, not the answer.
func TestLostDatagram(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	lossy := start(t, func(q dnsmessage.Message) *dnsmessage.Message {
		if asked.Add(1) == 1 {
			return nil
		}
		return records(a("x.", 1, "93.184.216.34"))(q)
	})
	f, _ := forwarder(t, policy.Default(), func(c *Config) { c.Timeout = watchdog }, lossy)
	reply := f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 0, 1), Way{Protocol: policy.UDP})
	assert.Len(t, unpack(t, reply).Answers, 1)
}

func TestResolverOfTheGuestsChoice(t *testing.T) {
	t.Parallel()
	u := start(t, records(a("x.", 1, "93.184.216.34")))
	f, _ := forwarder(t, policy.Default(), func(c *Config) {
		c.Dial = func(ctx context.Context, network, to string) (net.Conn, error) {
			assert.Equal(t, "1.1.1.1:53", to)
			return new(net.Dialer).DialContext(ctx, network, u.addr.String())
		}
	})
	for _, p := range []policy.Protocol{policy.UDP, policy.TCP} {
		assert.Len(t, unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 0, 1), Way{Protocol: p, Resolver: addr("1.1.1.1")})).Answers, 1)
	}
	// The rule's protocol is that of the question.
	list, err := policy.ParseRules("allow@dns,allow@1.1.1.1:udp")
	require.NoError(t, err)
	f, _ = forwarder(t, &policy.Policy{DefaultEgress: policy.Deny, DefaultIngress: policy.Deny, Rules: list}, nil)
	m := unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 0, 1), Way{Protocol: policy.TCP, Resolver: addr("1.1.1.1")}))
	assert.Equal(t, dnsmessage.RCodeNameError, m.RCode)
}

// TestResolverBehindAProxy: a resolver of the guest's choice is asked through the proxy, by
// TCP whatever the guest used; the host's own resolvers are not.
func TestResolverBehindAProxy(t *testing.T) {
	t.Parallel()
	far := start(t, records(a("x.", 1, "93.184.216.34")))
	near := start(t, records(a("x.", 1, "93.184.216.35")))
	var proxied atomic.Int64
	f, _ := forwarder(t, policy.Default(), func(c *Config) {
		c.Proxy = func(ctx context.Context, network, to string) (net.Conn, error) {
			proxied.Add(1)
			assert.Equal(t, "tcp 1.1.1.1:53", network+" "+to)
			return new(net.Dialer).DialContext(ctx, network, far.addr.String())
		}
	}, near)
	for _, p := range []policy.Protocol{policy.UDP, policy.TCP} {
		m := unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 0, 1), Way{Protocol: p, Resolver: addr("1.1.1.1")}))
		assert.Equal(t, &dnsmessage.AResource{A: [4]byte{93, 184, 216, 34}}, m.Answers[0].Body)
		m = unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 0, 1), Way{Protocol: p}))
		assert.Equal(t, &dnsmessage.AResource{A: [4]byte{93, 184, 216, 35}}, m.Answers[0].Body)
	}
	assert.EqualValues(t, 2, proxied.Load())
}

// TestRebinding is U1 and U2.
func TestRebinding(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]bool{
		"0.1.2.3": true, "10.0.0.1": true, "100.64.0.1": true, "127.0.0.1": true, "169.254.169.254": true, "172.16.0.1": true, "192.168.0.1": true,
		"192.0.0.8": true, "192.0.2.1": true, "192.88.99.1": true, "198.18.0.1": true, "198.51.100.7": true, "203.0.113.10": true, "224.0.0.1": true, "255.255.255.255": true,
		"1.1.1.1": false, "8.8.8.8": false, "93.184.216.34": false,
		"::": true, "::1": true, "ff02::1": true, "fec0::1": true, "fe80::1": true, "fd00::1": true, "100::1": true, "64:ff9b:1::1": true, "2001:db8::1": true, "3fff::1": true,
		"::ffff:10.0.0.1": true, "64:ff9b::10.0.0.1": true, "::ffff:8.8.8.8": false, "64:ff9b::8.8.8.8": false, "2606:4700:4700::1111": false,
	} {
		assert.Equal(t, want, isReserved(addr(ip)), ip)
	}
	both, err := policy.FromProfiles(policy.Public, policy.Private)
	require.NoError(t, err)
	inside := []dnsmessage.Resource{a("evil.com.", 60, "93.184.216.34"), a("evil.com.", 60, "10.0.0.1")}
	for what, c := range map[string]struct {
		policy *policy.Policy
		answer []dnsmessage.Resource
		kind   dnsmessage.Type
		allow  bool
		want   dnsmessage.RCode
	}{
		"one of two":        {policy.Default(), inside, dnsmessage.TypeA, false, dnsmessage.RCodeNameError},
		"mapped":            {policy.Default(), []dnsmessage.Resource{aaaa("evil.com.", 60, "::ffff:10.0.0.1")}, dnsmessage.TypeAAAA, false, dnsmessage.RCodeNameError},
		"NAT64":             {policy.Default(), []dnsmessage.Resource{aaaa("evil.com.", 60, "64:ff9b::10.0.0.1")}, dnsmessage.TypeAAAA, false, dnsmessage.RCodeNameError},
		"by an alias":       {policy.Default(), []dnsmessage.Resource{cname("evil.com.", 60, "x.lan."), a("x.lan.", 60, "192.168.0.1")}, dnsmessage.TypeA, false, dnsmessage.RCodeNameError},
		"whatever is asked": {policy.Default(), inside, dnsmessage.TypeMX, false, dnsmessage.RCodeNameError},
		"all traffic":       {policy.AllTraffic(), inside, dnsmessage.TypeA, false, dnsmessage.RCodeNameError},
		"private profile":   {both, inside, dnsmessage.TypeA, false, dnsmessage.RCodeSuccess},
		"switched off":      {policy.Default(), inside, dnsmessage.TypeA, true, dnsmessage.RCodeSuccess},
	} {
		u := start(t, records(c.answer...))
		f, names := forwarder(t, c.policy, func(cfg *Config) { cfg.AllowRebinding = c.allow }, u)
		m := unpack(t, f.Answer(t.Context(), ask(t, "evil.com.", c.kind, 0, 1), Way{Protocol: policy.UDP}))
		assert.Equal(t, c.want, m.RCode, what)
		assert.Equal(t, c.want == dnsmessage.RCodeSuccess, names.Bound(addr("10.0.0.1"), name("evil.com")), what)
	}
}

// TestEDNS is U5.
func TestEDNS(t *testing.T) {
	t.Parallel()
	var many []dnsmessage.Resource
	for i := range 100 {
		many = append(many, a("x.", 1, netip.AddrFrom4([4]byte{93, 184, 216, byte(i)}).String()))
	}
	u := start(t, records(many...))
	f, _ := forwarder(t, policy.Default(), nil, u)
	m := unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 4096, 1), Way{Protocol: policy.UDP}))
	assert.Len(t, m.Answers, 100)
	require.Len(t, m.Additionals, 1)
	assert.True(t, m.Additionals[0].Header.DNSSECAllowed(), "the DO bit passes both ways")
	for _, edns := range []int{0, 512, 600} {
		m = unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, edns, 1), Way{Protocol: policy.UDP}))
		assert.True(t, m.Truncated)
		assert.Empty(t, m.Answers)
	}
	m = unpack(t, f.Answer(t.Context(), ask(t, "x.", dnsmessage.TypeA, 0, 1), Way{Protocol: policy.TCP}))
	assert.Len(t, m.Answers, 100)
}

// TestBinding is U6.
func TestBinding(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	for what, c := range map[string]struct {
		answer []dnsmessage.Resource
		code   dnsmessage.RCode
		bound  string // address
		ttl    time.Duration
	}{
		"plain":          {[]dnsmessage.Resource{a("a.com.", 300, "93.184.216.34")}, 0, "93.184.216.34", 300 * time.Second},
		"least":          {[]dnsmessage.Resource{a("a.com.", 300, "93.184.216.34"), a("a.com.", 7, "93.184.216.35")}, 0, "93.184.216.34", 7 * time.Second},
		"chain":          {[]dnsmessage.Resource{a("c.net.", 300, "93.184.216.34"), cname("b.net.", 20, "C.net."), cname("a.com.", 60, "b.net.")}, 0, "93.184.216.34", 20 * time.Second},
		"another owner":  {[]dnsmessage.Resource{a("b.com.", 300, "93.184.216.34")}, 0, "", 0},
		"another family": {[]dnsmessage.Resource{aaaa("a.com.", 300, "2606::1")}, 0, "", 0},
		"an error":       {[]dnsmessage.Resource{a("a.com.", 300, "93.184.216.34")}, dnsmessage.RCodeServerFailure, "", 0},
		"TTL 0":          {[]dnsmessage.Resource{a("a.com.", 0, "93.184.216.34")}, 0, "93.184.216.34", time.Second},
		"a loop":         {[]dnsmessage.Resource{cname("a.com.", 9, "b.com."), cname("b.com.", 9, "a.com."), a("b.com.", 9, "93.184.216.34")}, 0, "93.184.216.34", 9 * time.Second},
		"nothing":        {nil, 0, "", 0},
	} {
		u := start(t, func(q dnsmessage.Message) *dnsmessage.Message {
			r := records(c.answer...)(q)
			r.RCode = c.code
			return r
		})
		names := policy.NewIndex(clock)
		f, _ := forwarder(t, policy.Default(), func(cfg *Config) { cfg.Names = names }, u)
		old := addr("1.2.3.4")
		names.Set("a.com", false, []netip.Addr{old}, time.Hour)
		unpack(t, f.Answer(t.Context(), ask(t, "a.com.", dnsmessage.TypeA, 0, 1), Way{Protocol: policy.UDP}))
		assert.False(t, names.Bound(old, name("a.com")), what)
		if c.bound == "" {
			continue
		}
		is := func() bool { return names.Bound(addr(c.bound), name("a.com")) }
		assert.True(t, is(), what)
		mu.Lock()
		now = now.Add(c.ttl - 1)
		mu.Unlock()
		assert.True(t, is(), what)
		mu.Lock()
		now = now.Add(1)
		mu.Unlock()
		assert.False(t, is(), what)
	}
}

// TestBrokenAnswer: what cannot be read is not passed on.
func TestBrokenAnswer(t *testing.T) {
	t.Parallel()
	q, ok := parseQuery(ask(t, "a.com.", dnsmessage.TypeA, 0, 1))
	require.True(t, ok)
	f, _ := forwarder(t, policy.Default(), nil)
	reply := bytes.Clone(ask(t, "a.com.", dnsmessage.TypeA, 0, 1))
	reply[2] |= 0x80
	reply[7] = 1 // an answer that is not there
	m := unpack(t, f.judge(reply, &q, "a.com"))
	assert.Equal(t, dnsmessage.RCodeServerFailure, m.RCode)
}

// TestNameservers is U9.
func TestNameservers(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"1.1.1.1": "1.1.1.1:53", "8.8.8.8:5353": "8.8.8.8:5353", "2606:4700:4700::1111": "[2606:4700:4700::1111]:53", "[::1]": "[::1]:53",
		"[2606:4700:4700::1111]:53": "[2606:4700:4700::1111]:53", "dns.google": "dns.google:53", "my-dns.corp.internal:5353": "my-dns.corp.internal:5353", " 1.1.1.1 ": "1.1.1.1:53",
	} {
		got, err := ParseNameserver(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got)
		again, err := ParseNameserver(got)
		require.NoError(t, err, got)
		assert.Equal(t, got, again)
	}
	for _, in := range []string{"", " ", "dns google", "dns.google:notaport", "1.1.1.1:99999", "1.1.1.1:0", ":53", "[::1", "[::1]:x", "[dns.google]:53", "a:b:c", "http://1.1.1.1"} {
		_, err := ParseNameserver(in)
		assert.ErrorIs(t, err, ErrNameserver, in)
	}
	_, err := NewNamed([]string{"1.1.1.1", "x:y"})
	assert.ErrorIs(t, err, ErrNameserver)
	n, err := NewNamed([]string{"1.1.1.1", "no-such-host.invalid", "[::1]:5353"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is looked up
	assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:53"), netip.MustParseAddrPort("[::1]:5353")}, n.List(ctx))
}

// TestResolvConf is U10.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	list, err := parseResolvConf(strings.NewReader("# nameserver 9.9.9.9\nsearch example.com\nnameserver 127.0.0.53 # local\nnameserver\t2606:4700:4700::1111\noptions edns0\n; x\nnameserver x\nnameserver 8.8.8.8;no\nnameserver\n"))
	require.NoError(t, err)
	assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53"), netip.MustParseAddrPort("[2606:4700:4700::1111]:53"), netip.MustParseAddrPort("8.8.8.8:53")}, list)
}

// TestHostServers: the file may change while a sandbox runs.
func TestHostServers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	h := &HostServers{Path: path}
	assert.Empty(t, h.List(t.Context()))
	require.NoError(t, os.WriteFile(path, []byte("nameserver 127.0.0.53\n"), 0o644))
	assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53")}, h.List(t.Context()))
	require.NoError(t, os.WriteFile(path+".new", []byte("nameserver 10.0.0.53\n"), 0o644))
	require.NoError(t, os.Rename(path+".new", path))
	assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.53:53")}, h.List(t.Context()))
	require.NoError(t, os.Remove(path))
	assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.53:53")}, h.List(t.Context()), "the last that was known")
}

// FuzzMessages: any question has an answer that is one, or none; any answer of a server's
// is passed on or refused.
func FuzzMessages(f *testing.F) {
	f.Add(ask(f, "a.com.", dnsmessage.TypeA, 4096, 1), ask(f, "a.com.", dnsmessage.TypeA, 0, 1))
	f.Add(ask(f, "a.com.", dnsmessage.TypeAAAA, 0, 2), []byte{})
	m, err := records(cname("a.com.", 9, "b.com."), a("b.com.", 9, "10.0.0.1"))(dnsmessage.Message{
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}).Pack()
	require.NoError(f, err)
	f.Add(ask(f, "a.com.", dnsmessage.TypeA, 0, 1), m)
	f.Fuzz(func(t *testing.T, question, reply []byte) {
		fw, _ := forwarder(t, policy.Default(), func(c *Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
		})
		q, ok := parseQuery(question)
		got := fw.Answer(t.Context(), question, Way{Protocol: policy.UDP})
		if !ok {
			require.Nil(t, got)
			return
		}
		if got != nil {
			require.LessOrEqual(t, len(got), q.size)
			require.Equal(t, question[:2], got[:2])
		}
		if q.matches(reply, q.header.ID) {
			if b := fw.judge(bytes.Clone(reply), &q, "a.com"); b != nil {
				require.Equal(t, question[:2], b[:2])
			}
		}
	})
}
