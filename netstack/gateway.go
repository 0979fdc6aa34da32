package netstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/reserve"
	"github.com/gomsb/gomsb/netstack/secrets"
	mitm "github.com/gomsb/gomsb/netstack/tls"
)

const (
	nicID = 1

	// DefaultConnections bounds a guest's TCP connections, MaxConnections what can be
	// asked for.
	DefaultConnections = 256
	MaxConnections     = 4096

	// Buffers of a TCP connection in each direction, bytes. They grow with need.
	minBuffer, startBuffer, maxBuffer = 4 << 10, 256 << 10, 1 << 20

	// timeWait is how long a closed connection is remembered. Nothing is reordered on the
	// way to the guest, so that it need not be long.
	timeWait = 2 * time.Second

	dialTimeout = 30 * time.Second
)

// Resolver answers the guest's questions about names.
type Resolver interface {
	// Answer is the reply to one message, nil for none.
	Answer(ctx context.Context, query []byte, way dns.Way) []byte
}

// Config describes a gateway.
type Config struct {
	Addresses Addresses
	Policy    *policy.Engine // made with the gateway's addresses
	// Names is what the Resolver has bound; the gateway reads it.
	Names *policy.Index
	// Resolver answers on port 53 of all addresses, and on 853 with TLS; nil answers
	// nothing.
	Resolver Resolver
	// Published are ports of the host that lead to the guest.
	Published []Published
	// MaxConnections bounds the guest's TCP connections; 0 is DefaultConnections.
	MaxConnections int
	// Dial opens connections of the host, to literal addresses only; nil is net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Proxy opens what leads out of the host, of what the policy has admitted; nil is Dial.
	// With it the guest's pings go nowhere, since a proxy carries none.
	Proxy func(ctx context.Context, network, address string) (net.Conn, error)
	// Ping sends an ICMP echo request with a body of identifier, sequence number and data
	// and returns the data that came back; nil uses the host's ping sockets.
	Ping func(ctx context.Context, to netip.Addr, body []byte) ([]byte, error)
	// TLS says which connections are intercepted, and how; nil has none.
	TLS *mitm.Interceptor
	// Secrets makes what the guest's bytes of a connection pass through on their way to
	// the server, nil if they go as they are. nil: there are no secrets.
	Secrets func(secrets.Connection) secrets.Rewriter
	// Terminate is called, on a goroutine of its own, when a secret's violation is to end
	// the sandbox.
	Terminate func()
	// Logger receives what was denied and what failed, as often as the guest causes it;
	// nil discards it.
	Logger *slog.Logger
}

// Gateway is the other end of the guest's network: it answers as the gateway, and opens
// on the host what the guest may open. It is made before the guest's card; Plug connects
// the two.
type Gateway struct {
	addrs    Addresses
	policy   *policy.Engine
	names    *policy.Index
	resolver Resolver
	dialer   func(ctx context.Context, network, address string) (net.Conn, error)
	proxy    func(ctx context.Context, network, address string) (net.Conn, error) // nil: there is none
	ping     func(ctx context.Context, to netip.Addr, body []byte) ([]byte, error)
	log      *slog.Logger

	tls       *mitm.Interceptor                         // nil: none
	secrets   func(secrets.Connection) secrets.Rewriter // nil: none
	terminate func()                                    // nil: nothing

	link  *link
	stack *stack.Stack

	tcpLimit int64
	tcpCount atomic.Int64
	echoes   chan struct{} // one element for each under way
	queries  chan struct{} // likewise
	udp      udpTable
	ports    []*publisher
	peers    peerTable
	inbound  atomic.Int64 // connections through published ports
	account  account
	workers  workers

	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool // starts nothing more; protected by mu
	wg     sync.WaitGroup
}

// New makes a gateway and opens its published ports. It fails with an error that wraps
// ErrConfig or ErrPublish; nothing is left behind then.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.MaxConnections < 0 || cfg.MaxConnections > MaxConnections:
		return nil, badConfig("max_connections %d exceeds hard limit %d", cfg.MaxConnections, MaxConnections)
	case cfg.Policy == nil || cfg.Names == nil:
		return nil, badConfig("no policy")
	}
	g := &Gateway{
		addrs: cfg.Addresses, policy: cfg.Policy, names: cfg.Names, resolver: cfg.Resolver, dialer: cfg.Dial, proxy: cfg.Proxy, ping: cfg.Ping,
		tls: cfg.TLS, secrets: cfg.Secrets, terminate: cfg.Terminate, log: cfg.Logger, link: newLink(&cfg.Addresses),
		tcpLimit: int64(cfg.MaxConnections), echoes: make(chan struct{}, maxEchoes), queries: make(chan struct{}, maxQueries),
	}
	if g.tcpLimit == 0 {
		g.tcpLimit = DefaultConnections
	}
	if g.secrets == nil && cfg.Policy.InStrictMode() {
		none, err := secrets.NewStore(secrets.Config{}, secrets.Where{Names: cfg.Names, Gateways: cfg.Addresses.Gateways()})
		if err != nil {
			return nil, err
		}
		g.secrets = none.Rewriter // it holds requests to the names that let them out
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.dialer == nil {
		g.dialer = (&net.Dialer{Timeout: dialTimeout, Control: reserve.Socket}).DialContext
	}
	if g.ping == nil {
		g.ping = hostPing
	}
	g.workers.init()
	g.udp.init()
	g.peers.init()
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if err := g.build(); err != nil {
		g.cancel()
		g.workers.close()
		return nil, fmt.Errorf("network stack: %w", err)
	}
	if err := g.publish(cfg.Published); err != nil {
		g.Close()
		return nil, err
	}
	g.run(g.housekeep)
	return g, nil
}

// stackError makes an error of one of the stack's.
func stackError(err tcpip.Error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.String())
}

// build sets the stack up.
func (g *Gateway) build() error {
	g.stack = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocolWithOptions(ipv6.Options{
			NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
		})},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	sack, moderate, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.TCPRecovery(0)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: startBuffer, Max: maxBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: startBuffer, Max: maxBuffer}
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	var errs []error
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &recovery, &receive, &send, &wait} {
		errs = append(errs, stackError(g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o)))
	}
	errs = append(errs,
		stackError(g.stack.CreateNICWithOptions(nicID, g.link, stack.NICOptions{QDisc: g.link})),
		stackError(g.stack.SetPromiscuousMode(nicID, true)),
		stackError(g.stack.SetSpoofing(nicID, true)))
	for _, a := range g.addrs.Gateways() {
		proto := protocolOf(a)
		bits := PrefixLen4
		if a.Is6() {
			bits = PrefixLen6
		}
		errs = append(errs, stackError(g.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol: proto, AddressWithPrefix: tcpip.AddressWithPrefix{Address: addressOf(a), PrefixLen: bits},
		}, stack.AddressProperties{})))
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}, {Destination: header.IPv6EmptySubnet, NIC: nicID}})
	forwarder := tcp.NewForwarder(g.stack, 0, int(g.tcpLimit)+maxInbound, g.acceptTCP)
	g.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, forwarder.HandlePacket)
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, g.handleUDP)
	return errors.Join(errs...)
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// addrOf is an address of the stack's.
func addrOf(a tcpip.Address) netip.Addr {
	if a.Len() == header.IPv4AddressSize {
		return netip.AddrFrom4(a.As4())
	}
	return netip.AddrFrom16(a.As16())
}

// addressOf is an address for the stack.
func addressOf(a netip.Addr) tcpip.Address {
	if a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

// Plug connects the guest's card, before the guest runs.
func (g *Gateway) Plug(p Port) { g.link.plug(p) }

// Ready says that the guest's card may have room again.
func (g *Gateway) Ready() { g.link.ready() }

// begin reports that something may start that Close waits for; it calls g.wg.Done then.
func (g *Gateway) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Add(1)
	return true
}

// run calls f on a goroutine that Close waits for, unless the gateway is closed.
func (g *Gateway) run(f func(context.Context)) bool {
	if !g.begin() {
		return false
	}
	g.workers.run(func() {
		defer g.wg.Done()
		f(g.ctx)
	})
	return true
}

// housekeep forgets what is over, every second.
func (g *Gateway) housekeep(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			g.names.Sweep()
			g.udp.expire(now)
			g.peers.expire(now)
		}
	}
}

// Close ends all connections and waits until nothing of the gateway runs. It is
// idempotent.
func (g *Gateway) Close() {
	g.mu.Lock()
	was := g.closed
	g.closed = true
	g.mu.Unlock()
	if was {
		return
	}
	g.cancel()
	for _, p := range g.ports {
		p.close()
	}
	g.udp.closeAll()
	g.abortAll()
	g.workers.close()
	g.stack.Close()
	g.link.close()
	g.stack.Wait()
}

// abortAll aborts the guest's connections until nobody serves one any more. Once is not
// enough: a handshake that begins meanwhile would wait for the guest for two minutes.
func (g *Gateway) abortAll() {
	done := make(chan struct{})
	go func() {
		g.wg.Wait()
		close(done)
	}()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		for _, e := range g.stack.RegisteredEndpoints() {
			e.Abort()
		}
		select {
		case <-done:
			return
		case <-again.C:
		}
	}
}

// admit reports whether the policy lets a flow of the guest's out now, and logs it if not.
func (g *Gateway) admit(f policy.Flow) bool {
	d := g.policy.Egress(f, policy.ByIndex(), g.names)
	if !d.Allowed() {
		g.denied(f, d, "")
	}
	return d.Allowed()
}

// dial opens a connection to where the guest wants to go; for the gateway's own address,
// that is the host's loopback, which no proxy leads to.
func (g *Gateway) dial(ctx context.Context, network string, dst netip.AddrPort) (net.Conn, error) {
	if g.proxy != nil && !g.addrs.isGateway(dst.Addr()) {
		c, err := g.proxy(ctx, family(network, dst), dst.String())
		if err != nil {
			g.log.Warn("the proxy opened no connection", "protocol", network, "to", dst, "error", err)
		}
		return c, err
	}
	targets := g.targets(network, dst)
	c, err := g.dialer(ctx, family(network, targets[0]), targets[0].String())
	if err != nil && len(targets) > 1 && otherFamilyMayHelp(err) {
		c, err = g.dialer(ctx, family(network, targets[1]), targets[1].String())
	}
	return c, err
}

func family(network string, a netip.AddrPort) string {
	if a.Addr().Is4() {
		return network + "4"
	}
	return network + "6"
}

// targets are the addresses to try for dst.
func (g *Gateway) targets(network string, dst netip.AddrPort) []netip.AddrPort {
	if !g.addrs.isGateway(dst.Addr()) {
		return []netip.AddrPort{dst}
	}
	own := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dst.Port())
	other := netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port())
	if dst.Addr().Is6() {
		own, other = other, own
	}
	if network != "tcp" {
		return []netip.AddrPort{own}
	}
	return []netip.AddrPort{own, other}
}
