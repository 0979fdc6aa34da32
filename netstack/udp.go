package netstack

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/netstack/policy"
)

const (
	// maxSessions bounds the flows of datagrams; the one that was idle longest goes first.
	maxSessions = 256
	udpIdle     = 60 * time.Second

	// What waits for the host's socket, for each flow.
	sessionQueue = 64
	sessionBytes = 512 << 10

	// maxQueries bounds the questions about names under way, those on connections too, and
	// maxQuery the size of one in a datagram.
	maxQueries = 64
	maxQuery   = 4096
)

// refusedUDP are ports that would let names be resolved without the policy: DNS over QUIC,
// mDNS, LLMNR and NetBIOS.
var refusedUDP = [...]uint16{853, 5353, 5355, 137}

// flow is the two ends of a datagram.
type flow struct{ guest, peer netip.AddrPort }

// udpTable holds the flows of datagrams that the guest has opened.
type udpTable struct {
	mu       sync.Mutex
	sessions map[flow]*udpSession // protected by mu
}

func (t *udpTable) init() { t.sessions = make(map[flow]*udpSession) }

// handleUDP takes a datagram of the guest's, on the goroutine of its card. It returns true:
// no datagram is answered with an ICMP error.
func (g *Gateway) handleUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	f := flow{
		guest: netip.AddrPortFrom(addrOf(id.RemoteAddress), id.RemotePort),
		peer:  netip.AddrPortFrom(addrOf(id.LocalAddress), id.LocalPort),
	}
	h := header.UDP(pkt.TransportHeader().Slice())
	size := int(h.Length()) - header.UDPMinimumSize
	if size < 0 || size > pkt.Data().Size() || f.guest.Port() == 0 || f.peer.Port() == 0 {
		return true
	}
	data := pkt.Data().AsRange().Capped(size).ToView()
	if data == nil { // it is empty
		data = buffer.NewViewSize(0)
	}
	if f.peer.Port() == dnsPort {
		g.query(f, data)
		return true
	}
	if g.publishedReply(f, data) {
		return true
	}
	if slices.Contains(refusedUDP[:], f.peer.Port()) || g.tls.BlocksUDP(f.peer.Port()) {
		data.Release()
		return true
	}
	g.forward(f, data)
	return true
}

// query has a question answered. It owns data.
func (g *Gateway) query(f flow, data *buffer.View) {
	defer data.Release()
	if g.resolver == nil || data.Size() > maxQuery {
		return
	}
	select {
	case g.queries <- struct{}{}:
	default:
		return
	}
	q := append([]byte(nil), data.AsSlice()...)
	if !g.run(func(ctx context.Context) {
		defer func() { <-g.queries }()
		if a := g.resolver.Answer(ctx, q, dns.Way{Protocol: policy.UDP, Resolver: g.resolverOf(f.peer.Addr())}); a != nil {
			g.answerUDP(f.peer, f.guest, a)
		}
	}) {
		<-g.queries
	}
}

// resolverOf is where a question goes that the guest sent to an address: invalid for the
// gateway's.
func (g *Gateway) resolverOf(a netip.Addr) netip.Addr {
	if g.addrs.isGateway(a) {
		return netip.Addr{}
	}
	return policy.Unwrap(a)
}

// forward sends a datagram out on its flow's socket. It owns data.
func (g *Gateway) forward(f flow, data *buffer.View) {
	s := g.session(f)
	if s == nil || !s.enqueue(data) {
		data.Release()
	}
}

// session is the flow's, a new one if the policy admits it.
func (g *Gateway) session(f flow) *udpSession {
	g.udp.mu.Lock()
	defer g.udp.mu.Unlock()
	if s := g.udp.sessions[f]; s != nil {
		return s
	}
	dst := policy.Unwrap(f.peer.Addr())
	if !g.admit(policy.Flow{Protocol: policy.UDP, Addr: dst, Port: f.peer.Port()}) {
		return nil
	}
	if len(g.udp.sessions) >= maxSessions {
		g.udp.evict()
	}
	s := &udpSession{g: g, flow: f, queue: make(chan *buffer.View, sessionQueue)}
	s.ctx, s.cancel = context.WithCancel(g.ctx)
	s.touch()
	if !g.run(s.run) {
		s.cancel()
		return nil
	}
	g.udp.sessions[f] = s
	g.account.flows.Add(1)
	return s
}

// evict ends the flow that was idle longest; mu is held.
func (t *udpTable) evict() {
	var oldest *udpSession
	for _, s := range t.sessions {
		if oldest == nil || s.last.Load() < oldest.last.Load() {
			oldest = s
		}
	}
	if oldest != nil {
		t.end(oldest)
	}
}

// end forgets a flow and has its goroutines end; mu is held.
func (t *udpTable) end(s *udpSession) {
	if t.sessions[s.flow] == s {
		delete(t.sessions, s.flow)
		s.cancel()
	}
}

// finish is end without mu.
func (t *udpTable) finish(s *udpSession) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end(s)
}

// expire ends the flows that the guest has not used for long.
func (t *udpTable) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.sessions {
		if now.UnixNano()-s.last.Load() > int64(udpIdle) {
			t.end(s)
		}
	}
}

func (t *udpTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.sessions {
		t.end(s)
	}
}

// udpSession is one flow of datagrams with a socket of the host's.
type udpSession struct {
	g      *Gateway
	flow   flow
	queue  chan *buffer.View
	ctx    context.Context // done when the flow is over
	cancel context.CancelFunc
	last   atomic.Int64 // when the guest sent something, unix nanoseconds
	bytes  atomic.Int64 // in queue

	largest atomic.Int64 // length of the largest packet that the guest sent whole
	loose   bool         // the socket sends fragments if need be; send's alone
}

func (s *udpSession) touch() { s.last.Store(time.Now().UnixNano()) }

// enqueue takes a datagram to send; false if it does not, as when too much waits.
func (s *udpSession) enqueue(data *buffer.View) bool {
	s.touch()
	n := int64(data.Size())
	if s.bytes.Add(n) > sessionBytes {
		s.bytes.Add(-n)
		return false
	}
	select {
	case s.queue <- data:
		return true
	default:
		s.bytes.Add(-n)
		return false
	}
}

// run sends what is queued, and has what comes back sent to the guest.
func (s *udpSession) run(context.Context) {
	defer s.g.udp.finish(s)
	dst := netip.AddrPortFrom(policy.Unwrap(s.flow.peer.Addr()), s.flow.peer.Port())
	c, err := s.g.dial(s.ctx, "udp", dst) // a proxy may take long
	if err != nil {
		return
	}
	way := pathOf(c)
	receiving := make(chan struct{})
	s.g.workers.run(func() {
		defer close(receiving)
		s.receive(c, way)
		s.g.udp.finish(s)
	})
	s.send(c, way)
	_ = c.Close()
	<-receiving
}

// send writes datagrams until the flow is over.
func (s *udpSession) send(c net.Conn, way path) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case data := <-s.queue:
			s.bytes.Add(-int64(data.Size()))
			err := s.write(c, way, data.AsSlice())
			data.Release()
			if refused(err) {
				s.g.portUnreachable(s.flow)
			}
			if err != nil && !tooLong(err) {
				return
			}
		}
	}
}

// receive gives the guest what comes, until the socket fails.
func (s *udpSession) receive(c net.Conn, way path) {
	route := s.g.route(s.flow.peer.Addr(), s.flow.guest.Addr())
	if route == nil {
		return
	}
	defer route.Release()
	r := newHostReader(c)
	for {
		b, n, err := r.read()
		if err == nil {
			sendUDP(route, s.flow.peer.Port(), s.flow.guest.Port(), b[:n])
		}
		r.release(b)
		switch {
		case err == nil:
		case tooLong(err): // a datagram of the guest's was, on its way
			if way != nil {
				s.tooBig(way)
			}
		case refused(err):
			s.g.portUnreachable(s.flow)
			return
		default:
			return
		}
	}
}

// route leads from an address, which need not be the gateway's, to one of the guest's. The
// caller releases it; nil if there is none.
func (g *Gateway) route(from, to netip.Addr) *stack.Route {
	r, err := g.stack.FindRoute(nicID, addressOf(from), addressOf(to), protocolOf(to), false)
	if err != nil {
		return nil
	}
	return r
}

// answerUDP sends the guest one datagram.
func (g *Gateway) answerUDP(from, to netip.AddrPort, data []byte) {
	if r := g.route(from.Addr(), to.Addr()); r != nil {
		defer r.Release()
		sendUDP(r, from.Port(), to.Port(), data)
	}
}

// sendUDP sends the guest a datagram on a route, between two ports, in fragments if need be.
func sendUDP(route *stack.Route, from, to uint16, data []byte) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(route.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(data),
	})
	defer pkt.DecRef()
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	size := header.UDPMinimumSize + len(data)
	if size > gsoMaxSize {
		return
	}
	h.Encode(&header.UDPFields{SrcPort: from, DstPort: to, Length: uint16(size)})
	sum := checksum.Combine(route.PseudoHeaderChecksum(udp.ProtocolNumber, uint16(size)), pkt.Data().Checksum())
	if sum = ^h.CalculateChecksum(sum); sum == 0 {
		sum = 0xffff // 0 stands for none (RFC 768)
	}
	h.SetChecksum(sum)
	_ = route.WritePacket(stack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: replyTTL}, pkt) // too long: lost
}
