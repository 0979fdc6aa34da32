package dns

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/reserve"
)

const (
	// HostAlias is the name by which a guest knows its host.
	HostAlias = "host.microsandbox.internal"
	aliasTTL  = 60 // seconds

	// DefaultTimeout is how long an upstream server may take.
	DefaultTimeout = 5 * time.Second

	// askAgain is how long an answer may take before the question is sent once more by UDP,
	// and the first of the times between further ones, which double.
	askAgain = time.Second

	maxMessage = 65535
)

// Why a question has no answer.
var (
	errRefused = errors.New("the policy refuses the resolver")
	errNobody  = errors.New("no name server answers")
	errNoTLS   = errors.New("connections to resolvers by TLS are not set up")
)

// Config describes a forwarder.
type Config struct {
	Policy *policy.Engine
	Names  *policy.Index // is told what names stand for
	// Gateway4 and Gateway6 are what HostAlias stands for; a family without one has no
	// addresses for the guest.
	Gateway4, Gateway6 netip.Addr
	// Upstreams are asked in their order, each if those before it did not answer at all.
	Upstreams Servers
	// Timeout bounds the wait for each; 0 is DefaultTimeout.
	Timeout time.Duration
	// AllowRebinding lets answers pass whose addresses are reserved for private use.
	AllowRebinding bool
	// Dial opens connections to servers; nil is net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Proxy opens connections to resolvers of the guest's choice, always by TCP, which any
	// proxy carries; nil is Dial.
	Proxy func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is how to connect to the server of a name or address by TLS; nil has questions
	// that came by TLS refused.
	TLS func(server string) *tls.Config
	// Logger receives which questions were refused; nil discards it.
	Logger *slog.Logger
}

// Way is how a question came.
type Way struct {
	Protocol policy.Protocol // UDP or TCP
	// Resolver is where the guest sent it; invalid for the gateway.
	Resolver netip.Addr
	// Server is whom the guest meant to ask by TLS (RFC 7858), a name or address; "" if it
	// did not ask by TLS.
	Server string
}

// port is where the guest sent the question.
func (w Way) port() uint16 {
	if w.Server != "" {
		return TLSPort
	}
	return Port
}

// Forwarder answers questions. It is safe for concurrent use.
type Forwarder struct {
	cfg Config
}

// New makes a forwarder.
func New(cfg Config) *Forwarder {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Control: reserve.Socket}).DialContext
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Forwarder{cfg: cfg}
}

// Answer is the reply to one message, nil for none.
func (f *Forwarder) Answer(ctx context.Context, m []byte, w Way) []byte {
	q, ok := parseQuery(m)
	if !ok {
		return nil
	}
	a := f.answer(ctx, m, &q, w)
	if w.Protocol == policy.UDP && len(a) > q.size {
		return q.truncated()
	}
	return a
}

func (f *Forwarder) answer(ctx context.Context, m []byte, q *query, w Way) []byte {
	if q.count != 1 {
		return q.reply(dnsmessage.RCodeFormatError, netip.Addr{})
	}
	name, err := policy.Canonical(q.question.Name.String())
	if err != nil {
		name = ""
	}
	if d := f.cfg.Policy.Query(name, w.Protocol, w.port()); !d.Allowed() {
		f.cfg.Logger.Info("the policy refused a question", "name", name, "decision", d.String())
		return q.reply(dnsmessage.RCodeNameError, netip.Addr{})
	}
	if a, ours := f.ours(q, name); ours {
		return q.reply(dnsmessage.RCodeSuccess, a)
	}
	reply, err := f.forward(ctx, m, q, w)
	switch {
	case errors.Is(err, errRefused):
		return q.reply(dnsmessage.RCodeNameError, netip.Addr{})
	case err != nil:
		f.bind(q, name, nil)
		return q.reply(dnsmessage.RCodeServerFailure, netip.Addr{})
	}
	return f.judge(reply, q, name)
}

// forward has the guest's own choice of a resolver answer, over what it was asked over, or
// else the upstream servers. The error is errRefused for a choice that the policy denies.
func (f *Forwarder) forward(ctx context.Context, m []byte, q *query, w Way) ([]byte, error) {
	if !w.Resolver.IsValid() {
		return f.ask(ctx, m, q, w.Protocol, f.cfg.Upstreams.List(ctx))
	}
	to := netip.AddrPortFrom(w.Resolver, w.port())
	d := f.cfg.Policy.Egress(policy.Flow{Protocol: w.Protocol, Addr: to.Addr(), Port: to.Port()}, policy.ByIndex(), f.cfg.Names)
	if !d.Allowed() {
		f.cfg.Logger.Info("the policy refused a resolver", "resolver", to.Addr(), "port", to.Port(), "decision", d.String())
		return nil, errRefused
	}
	how := route{dial: f.cfg.Dial, protocol: w.Protocol}
	if w.Server != "" {
		if f.cfg.TLS == nil {
			return nil, errNoTLS
		}
		how.tls = f.cfg.TLS(w.Server) // not on the server's time: it may read certificates first
	}
	if f.cfg.Proxy != nil {
		how.dial, how.protocol = f.cfg.Proxy, policy.TCP
	}
	reply, err := f.askOne(ctx, m, q, how, to)
	if err != nil {
		f.cfg.Logger.Debug("a resolver did not answer", "resolver", to, "name", w.Server, "error", err)
	}
	return reply, err
}

// ours answers what no upstream is asked: the addresses of the host, and those of a family
// that the guest does not have.
func (f *Forwarder) ours(q *query, name string) (netip.Addr, bool) {
	var gateway netip.Addr
	switch {
	case q.question.Class != dnsmessage.ClassINET:
		return gateway, false
	case q.question.Type == dnsmessage.TypeA:
		gateway = f.cfg.Gateway4
	case q.question.Type == dnsmessage.TypeAAAA:
		gateway = f.cfg.Gateway6
	default:
		return gateway, false
	}
	if !gateway.IsValid() {
		f.bind(q, name, nil)
		return gateway, true
	}
	return gateway, name == HostAlias
}

// judge turns a server's answer into the guest's.
func (f *Forwarder) judge(reply []byte, q *query, name string) []byte {
	a, err := q.parseAnswer(reply)
	if err != nil {
		f.bind(q, name, nil)
		return q.reply(dnsmessage.RCodeServerFailure, netip.Addr{})
	}
	for _, addr := range a.addrs {
		if !f.cfg.AllowRebinding && isReserved(addr) && !f.cfg.Policy.Keeps(addr) {
			f.cfg.Logger.Warn("an answer led into a private network and was refused", "name", name, "address", addr)
			return q.reply(dnsmessage.RCodeNameError, netip.Addr{})
		}
	}
	f.bind(q, name, a)
	binary.BigEndian.PutUint16(reply, q.header.ID)
	return reply
}

// bind tells the policy what a name stands for now; nothing if a is nil.
func (f *Forwarder) bind(q *query, name string, a *answer) {
	v6 := q.question.Type == dnsmessage.TypeAAAA
	if name == "" || q.question.Class != dnsmessage.ClassINET || !v6 && q.question.Type != dnsmessage.TypeA {
		return
	}
	if a == nil || len(a.bound) == 0 {
		f.cfg.Names.Set(name, v6, nil, 0)
		return
	}
	f.cfg.Names.Set(name, v6, a.bound, time.Duration(a.ttl)*time.Second)
}

// route is how servers are asked.
type route struct {
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	protocol policy.Protocol
	tls      *tls.Config // nil: not by TLS
}

// ask puts the question to the servers in turn, until one answers anything.
func (f *Forwarder) ask(ctx context.Context, m []byte, q *query, p policy.Protocol, servers []netip.AddrPort) ([]byte, error) {
	for _, s := range servers {
		reply, err := f.askOne(ctx, m, q, route{dial: f.cfg.Dial, protocol: p}, s)
		if err == nil {
			return reply, nil
		}
		f.cfg.Logger.Debug("a name server did not answer", "server", s, "error", err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errNobody
}

// askOne puts the question to one server, under an identifier of its own.
func (f *Forwarder) askOne(ctx context.Context, m []byte, q *query, how route, server netip.AddrPort) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	var id [2]byte
	if _, err := io.ReadFull(rand.Reader, id[:]); err != nil {
		return nil, err
	}
	c, err := how.dial(ctx, string(how.protocol), server.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	raw := c
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if how.tls != nil {
		c = tls.Client(c, how.tls)
	}
	ask := append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
	copy(ask[2:], id[:])
	if how.protocol == policy.TCP {
		return exchangeTCP(c, ask, q, binary.BigEndian.Uint16(id[:]))
	}
	return exchangeUDP(ctx, c, ask[2:], q, binary.BigEndian.Uint16(id[:]))
}

// exchangeUDP asks, and asks again where nothing came back for a while: datagrams get lost,
// and a guest's own resolver has given up when the wait for a server is over.
func exchangeUDP(ctx context.Context, c net.Conn, ask []byte, q *query, id uint16) ([]byte, error) {
	for wait := askAgain; ; wait *= 2 {
		if _, err := c.Write(ask); err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil { // before this deadline, which has undone its own
			return nil, err
		}
		reply, err := readUDP(c, q, id)
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return reply, err
		}
	}
}

// readUDP waits for the answer among whatever else arrives.
func readUDP(c net.Conn, q *query, id uint16) ([]byte, error) {
	b := make([]byte, maxMessage)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil, err
		}
		if q.matches(b[:n], id) {
			return b[:n:n], nil
		}
	}
}

func exchangeTCP(c net.Conn, ask []byte, q *query, id uint16) ([]byte, error) {
	if _, err := c.Write(ask); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	if !q.matches(b, id) {
		return nil, errNoAnswer
	}
	return b, nil
}
