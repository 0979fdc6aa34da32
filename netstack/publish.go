package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/policy"
	"github.com/gomsb/gomsb/netstack/reserve"
)

const (
	// maxInbound bounds the connections through published ports.
	maxInbound = 256

	// connectWait is how long the guest may take to accept a connection.
	connectWait = 30 * time.Second

	// The gateway's ports that stand for peers of the host.
	firstEphemeral, lastEphemeral = 49152, 65535

	maxDatagram = 65535
)

// ErrPublish is wrapped by the error for a port of the host that cannot be opened.
var ErrPublish = errors.New("cannot publish port")

// Published is a port of the host that leads to one of the guest.
type Published struct {
	Host      netip.AddrPort // port 0: the host's choice
	GuestPort uint16
	Protocol  policy.Protocol // TCP or UDP
}

// publisher serves one published port.
type publisher struct {
	g        *Gateway
	p        Published
	listener net.Listener   // of TCP
	socket   *net.UDPConn   // of UDP
	guest    netip.AddrPort // where it leads
}

// peer is somebody who sends datagrams to a published port.
type peer struct {
	key  peerKey
	port uint16 // of the gateway; it stands for the peer
	last time.Time
}

type peerKey struct {
	to   *publisher
	addr netip.AddrPort
}

// peerTable holds the peers of all published ports.
type peerTable struct {
	mu     sync.Mutex
	byKey  map[peerKey]*peer // protected by mu, as all below
	byPort map[uint16]*peer
	next   uint16
}

func (t *peerTable) init() {
	t.byKey, t.byPort, t.next = make(map[peerKey]*peer), make(map[uint16]*peer), firstEphemeral
}

// publish opens the published ports.
func (g *Gateway) publish(list []Published) error {
	for _, p := range list {
		guest := g.inboundAddr(p)
		if !guest.IsValid() {
			g.log.Warn("a port is not published: the sandbox has no address that it could lead to", "host", p.Host, "protocol", string(p.Protocol))
			continue
		}
		pub := &publisher{g: g, p: p, guest: netip.AddrPortFrom(guest, p.GuestPort)}
		if err := pub.open(); err != nil {
			return fmt.Errorf("%w %s/%s: %w", ErrPublish, p.Host, p.Protocol, err)
		}
		g.ports = append(g.ports, pub)
		if !p.Host.Addr().IsLoopback() {
			g.log.Warn("a port is published to other machines than this one", "host", pub.addr(), "protocol", string(p.Protocol))
		}
	}
	return nil
}

// inboundAddr is the guest's address that a published port leads to: for TCP whichever
// there is, for UDP that of the peers' family.
func (g *Gateway) inboundAddr(p Published) netip.Addr {
	if p.Protocol == policy.UDP {
		return g.addrs.guestOf(policy.Unwrap(p.Host.Addr()))
	}
	if g.addrs.Guest4.IsValid() {
		return g.addrs.Guest4
	}
	return g.addrs.Guest6
}

func (p *publisher) open() (err error) {
	if p.p.Protocol == policy.UDP {
		p.socket, err = net.ListenUDP(family("udp", p.p.Host), net.UDPAddrFromAddrPort(p.p.Host))
		if err == nil {
			p.g.run(p.receive)
		}
		return err
	}
	p.listener, err = net.Listen(family("tcp", p.p.Host), p.p.Host.String())
	if err == nil {
		p.g.run(p.accept)
	}
	return err
}

// Ports are the published ports as they were opened, in the order of Config.Published but
// for those that lead nowhere.
func (g *Gateway) Ports() (list []Published) {
	for _, p := range g.ports {
		list = append(list, Published{p.addr(), p.p.GuestPort, p.p.Protocol})
	}
	return list
}

// addr is where the port was opened.
func (p *publisher) addr() netip.AddrPort {
	if p.socket != nil {
		return p.socket.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	return p.listener.Addr().(*net.TCPAddr).AddrPort()
}

func (p *publisher) close() {
	if p.socket != nil {
		_ = p.socket.Close()
	}
	if p.listener != nil {
		_ = p.listener.Close()
	}
}

// acceptPause is how long to wait after the host could not accept, as when it is out of
// descriptors.
const acceptPause = 50 * time.Millisecond

// accept takes connections until the listener is closed.
func (p *publisher) accept(ctx context.Context) {
	for {
		c, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(acceptPause):
				continue
			case <-ctx.Done():
				return
			}
		}
		host := c.(*net.TCPConn)
		from := host.RemoteAddr().(*net.TCPAddr).AddrPort()
		if !p.admits(from, policy.TCP) || !p.g.run(func(ctx context.Context) { p.serve(ctx, host) }) {
			reset(host)
		}
	}
}

func (p *publisher) admits(from netip.AddrPort, proto policy.Protocol) bool {
	f := policy.Flow{Protocol: proto, Addr: policy.Unwrap(from.Addr()), Port: p.p.GuestPort}
	d := p.g.policy.Ingress(f, p.g.names)
	if !d.Allowed() {
		p.g.account.deniedInbound.Add(1)
		p.g.log.Info("the policy let no connection in", "protocol", string(proto), "from", f.Addr, "port", f.Port, "decision", d.String())
	}
	return d.Allowed()
}

// serve joins a connection of the host's with one to the guest.
func (p *publisher) serve(ctx context.Context, host *net.TCPConn) {
	defer p.g.inbound.Add(-1)
	if p.g.inbound.Add(1) > maxInbound || !spare(host) {
		p.g.account.tooMany.Add(1)
		reset(host)
		return
	}
	p.g.account.inbound.Add(1)
	guest, err := p.g.connect(ctx, p.guest)
	if err != nil {
		reset(host)
		return
	}
	_ = splice(ctx, guest, host, nil, nil)
}

// spare reports that a connection is none of the last that the process can have.
func spare(c syscall.Conn) bool {
	raw, err := c.SyscallConn()
	return err == nil && reserve.Socket("", "", raw) == nil
}

// connect opens a connection from the gateway to the guest.
func (g *Gateway) connect(ctx context.Context, to netip.AddrPort) (*guestConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	c := &guestConn{link: g.link, workers: &g.workers}
	ep, e := g.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), &c.queue)
	if e != nil {
		return nil, stackError(e)
	}
	c.ep = ep
	c.watch()
	ep.SocketOptions().SetDelayOption(false)
	from := g.addrs.gatewayOf(to.Addr())
	if e := ep.Bind(tcpip.FullAddress{NIC: nicID, Addr: addressOf(from)}); e != nil {
		c.abort()
		return nil, stackError(e)
	}
	e = ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: addressOf(to.Addr()), Port: to.Port()})
	if _, started := e.(*tcpip.ErrConnectStarted); started {
		select {
		case <-c.space:
			e = ep.LastError()
		case <-ctx.Done():
			c.abort()
			return nil, ctx.Err()
		}
	}
	if e != nil {
		c.abort()
		return nil, stackError(e)
	}
	return c, nil
}

// receive takes datagrams until the socket is closed.
func (p *publisher) receive(ctx context.Context) {
	route := p.g.route(p.g.addrs.gatewayOf(p.guest.Addr()), p.guest.Addr())
	if route == nil {
		return
	}
	defer route.Release()
	b := make([]byte, maxDatagram)
	for {
		n, from, err := p.socket.ReadFromUDPAddrPort(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // about an earlier datagram, which could not be sent
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
				return
			}
			continue
		}
		if port, ok := p.g.peers.portFor(peerKey{p, from}); ok {
			sendUDP(route, port, p.guest.Port(), b[:n])
		}
	}
}

// portFor is the gateway's port that stands for a peer, a new one if the policy lets it in.
func (t *peerTable) portFor(k peerKey) (uint16, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.byKey[k]; known != nil {
		known.last = time.Now()
		return known.port, true
	}
	if len(t.byPort) > lastEphemeral-firstEphemeral || !k.to.admits(k.addr, policy.UDP) {
		return 0, false
	}
	for t.byPort[t.next] != nil {
		t.advance()
	}
	n := &peer{key: k, port: t.next, last: time.Now()}
	t.byKey[k], t.byPort[n.port] = n, n
	t.advance()
	return n.port, true
}

func (t *peerTable) advance() {
	if t.next++; t.next < firstEphemeral { // it wrapped around
		t.next = firstEphemeral
	}
}

// expire forgets the peers that nothing was heard of for long.
func (t *peerTable) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, known := range t.byKey {
		if now.Sub(known.last) > udpIdle {
			delete(t.byKey, k)
			delete(t.byPort, known.port)
		}
	}
}

// find is the peer that a port of the gateway stands for, towards the guest's address.
func (t *peerTable) find(port uint16, guest netip.AddrPort) (peerKey, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.byPort[port]
	if known == nil || known.key.to.guest != guest {
		return peerKey{}, false
	}
	known.last = time.Now()
	return known.key, true
}

// publishedReply sends a datagram of the guest's to the peer that its destination stands
// for, if it does; it owns data then.
func (g *Gateway) publishedReply(f flow, data *buffer.View) bool {
	if !g.addrs.isGateway(f.peer.Addr()) {
		return false
	}
	k, ok := g.peers.find(f.peer.Port(), f.guest)
	if ok {
		_, _ = k.to.socket.WriteToUDPAddrPort(data.AsSlice(), k.addr) // it is lost, as datagrams may be
		data.Release()
	}
	return ok
}
