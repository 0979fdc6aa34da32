package netstack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/gomsb/gomsb/netstack/policy"
)

const watchdog = 20 * time.Second

// Addresses of the world outside.
var (
	world4 = netip.MustParseAddr("93.184.216.34")
	world6 = netip.MustParseAddr("2606:2800:220:1::34")
)

// guest is a sandbox: another stack at the other end of the cable, which finds the gateway
// by ARP and neighbour discovery as Linux does.
type guest struct {
	*Gateway
	t     testing.TB
	stack *stack.Stack
	nic   *channel.Endpoint
	world *world
	raw   chan []byte // frames of the gateway's, once sniff was called

	sniffing atomic.Bool
	full     atomic.Bool // the card has no room
}

// world maps addresses of the Internet to sockets of this machine.
type world struct {
	mu    sync.Mutex
	hosts map[string]string // "tcp 1.2.3.4:80" to a local address
}

func (w *world) set(network, from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[network+" "+from] = to
}

// lookup is the local address for one of the world's.
func (w *world) lookup(network, addr string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	to, ok := w.hosts[network[:3]+" "+addr]
	return to, ok
}

func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	to, ok := w.lookup(network, addr)
	var d net.Dialer
	if ok {
		return d.DialContext(ctx, network[:3], to)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("no way to %s", addr)
	}
	return d.DialContext(ctx, network, addr)
}

// newGuest starts a sandbox under a policy; change may adjust the gateway.
func newGuest(t testing.TB, p *policy.Policy, change func(*Config)) *guest {
	t.Helper()
	a, err := Plan(1, Overrides{}, bothFamilies)
	require.NoError(t, err)
	e, err := policy.New(p, a.Gateways())
	require.NoError(t, err)
	g := &guest{t: t, world: &world{hosts: map[string]string{}}, raw: make(chan []byte, 1000)}
	cfg := Config{Addresses: a, Policy: e, Names: policy.NewIndex(nil), Dial: g.world.dial}
	if change != nil {
		change(&cfg)
	}
	g.Gateway, err = New(cfg)
	require.NoError(t, err)
	g.boot(a)
	return g
}

// mustClose closes the gateway, which must not take for ever.
func (g *guest) mustClose() {
	g.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.Gateway.Close()
	}()
	select {
	case <-done:
	case <-time.After(watchdog):
		require.Fail(g.t, "Close does not return")
	}
}

// boot brings the guest's stack up.
func (g *guest) boot(a Addresses) {
	g.nic = channel.New(4096, uint32(a.MTU)+etherLen, tcpip.LinkAddress(a.GuestMAC[:]))
	g.nic.LinkEPCapabilities = stack.CapabilityRXChecksumOffload
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	require.Nil(g.t, g.stack.CreateNIC(1, ethernet.New(g.nic)))
	for _, x := range []struct {
		addr netip.Addr
		bits int
	}{{a.Guest4, 30}, {a.Guest6, 64}} {
		require.Nil(g.t, g.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{
			Protocol:          protocolOf(x.addr),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(x.addr.AsSlice()), PrefixLen: x.bits},
		}, stack.AddressProperties{}))
	}
	g.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFromSlice(a.Gateway4.AsSlice()), NIC: 1},
		{Destination: header.IPv6EmptySubnet, Gateway: tcpip.AddrFromSlice(a.Gateway6.AsSlice()), NIC: 1},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			pkt := g.nic.ReadContext(ctx)
			if pkt == nil {
				return
			}
			g.Transmit(Offload{}, pkt.AsSlices())
			pkt.DecRef()
		}
	}()
	g.Plug(g)
	g.t.Cleanup(func() {
		g.Gateway.Close()
		g.stack.Close()
		cancel()
		<-done
		g.nic.Close()
		g.stack.Wait()
	})
}

// Deliver is the guest's card.
func (g *guest) Deliver(_ Offload, frame [][]byte) bool {
	if g.full.Load() {
		return false
	}
	b := bytes.Join(frame, nil)
	if g.sniffing.Load() {
		select {
		case g.raw <- b:
		default:
		}
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	g.nic.InjectInbound(0, pkt)
	pkt.DecRef()
	return true
}

// Flush does nothing: Deliver has done it all.
func (g *guest) Flush() {}

// sniff has frames for the guest seen by hear too.
func (g *guest) sniff() { g.sniffing.Store(true) }

// hear waits for a frame that ok accepts.
func (g *guest) hear(ok func(frame []byte) bool) []byte {
	g.t.Helper()
	for end := time.After(watchdog); ; {
		select {
		case b := <-g.raw:
			if ok(b) {
				return b
			}
		case <-end:
			require.Fail(g.t, "no such frame comes")
		}
	}
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

// dial opens a TCP connection in the guest.
func (g *guest) dial(to netip.AddrPort) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.stack, full(to), protocolOf(to.Addr()))
}

func (g *guest) mustDial(to netip.AddrPort) *gonet.TCPConn {
	g.t.Helper()
	c, err := g.dial(to)
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

// udp opens a socket for datagrams in the guest; from port 0 is any.
func (g *guest) udp(from uint16, to netip.AddrPort) *gonet.UDPConn {
	g.t.Helper()
	local := full(netip.AddrPortFrom(g.addrs.guestOf(to.Addr()), from))
	remote := full(to)
	c, err := gonet.DialUDP(g.stack, &local, &remote, protocolOf(to.Addr()))
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

// listen is a listener in the guest.
func (g *guest) listen(port uint16) net.Listener {
	g.t.Helper()
	l, err := gonet.ListenTCP(g.stack, full(netip.AddrPortFrom(g.addrs.Guest4, port)), ipv4.ProtocolNumber)
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = l.Close() })
	return l
}

// server is a listener of the host's that serves each connection with handle.
func server(t testing.TB, addr string, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// echoes sends back what it gets, and FIN after FIN.
func echoes(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// tcpWorld makes a server of the Internet at an address.
func (g *guest) tcpWorld(at netip.AddrPort, handle func(*net.TCPConn)) {
	g.world.set("tcp", at.String(), server(g.t, "127.0.0.1:0", handle).String())
}

// udpWorld makes an echo of datagrams at an address.
func (g *guest) udpWorld(at netip.AddrPort) {
	g.world.set("udp", at.String(), udpEcho(g.t).String())
}

// udpEcho sends each datagram back to where it came from.
func udpEcho(t testing.TB) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(b[:n], from) // too large ones fail
		}
	}()
	t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// ping sends an echo request in the guest and waits for its reply's data.
func (g *guest) ping(to netip.Addr, data string, wait time.Duration) (string, bool) {
	g.t.Helper()
	var wq waiter.Queue
	number, request := icmp.ProtocolNumber4, byte(echoRequest4)
	if to.Is6() {
		number, request = icmp.ProtocolNumber6, echoRequest6
	}
	ep, e := g.stack.NewEndpoint(number, protocolOf(to), &wq)
	require.Nil(g.t, e)
	defer ep.Close()
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	require.Nil(g.t, ep.Connect(full(netip.AddrPortFrom(to, 0))))
	m := append([]byte{request, 0, 0, 0, 0, 0, 0xab, 0xcd}, data...)
	_, e = ep.Write(bytes.NewReader(m), tcpip.WriteOptions{})
	require.Nil(g.t, e)
	select {
	case <-readable:
	case <-time.After(wait):
		return "", false
	}
	var b bytes.Buffer
	_, e = ep.Read(&b, tcpip.ReadOptions{})
	require.Nil(g.t, e)
	require.Equal(g.t, []byte{0xab, 0xcd}, b.Bytes()[6:8])
	return string(b.Bytes()[8:]), true
}

// rules is a policy with these rules that denies all else.
func rules(t testing.TB, text string) *policy.Policy {
	t.Helper()
	list, err := policy.ParseRules(text)
	require.NoError(t, err)
	return &policy.Policy{DefaultEgress: policy.Deny, DefaultIngress: policy.Deny, Rules: list}
}
