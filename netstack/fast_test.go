package netstack

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/policy"
)

// newFastGuest is a guest with what a card of ours offers it: large segments and no
// checksums, both ways. It speaks IPv4 TCP only.
func newFastGuest(t testing.TB) *guest {
	t.Helper()
	a, err := Plan(1, Overrides{}, bothFamilies)
	require.NoError(t, err)
	e, err := policy.New(policy.Default(), a.Gateways())
	require.NoError(t, err)
	g := &guest{t: t, world: &world{hosts: map[string]string{}}}
	g.Gateway, err = New(Config{Addresses: a, Policy: e, Names: policy.NewIndex(nil), Dial: g.world.dial})
	require.NoError(t, err)

	there := a
	there.GuestMAC, there.GatewayMAC = a.GatewayMAC, a.GuestMAC
	nic := newLink(&there)
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	sack := tcpip.TCPSACKEnabled(true)
	require.Nil(t, g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack))
	require.Nil(t, g.stack.CreateNICWithOptions(1, nic, stack.NICOptions{QDisc: nic}))
	require.Nil(t, g.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFromSlice(a.Guest4.AsSlice()).WithPrefix(),
	}, stack.AddressProperties{}))
	g.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})

	var in, out wire
	in.start(g.Ready, func(_ Offload, frame []byte) {
		view := buffer.NewViewWithData(frame[etherLen:])
		nic.deliverUp(ipv4.ProtocolNumber, view)
	})
	out.start(nic.ready, func(o Offload, frame []byte) { g.Transmit(o, [][]byte{frame}) })
	g.Plug(&in)
	nic.plug(&out)
	t.Cleanup(func() {
		g.Gateway.Close()
		g.stack.Close()
		in.stop()
		out.stop()
		nic.close()
		g.stack.Wait()
	})
	return g
}

// open opens a connection of a fast guest's, as cheap as the gateway's own.
func (g *guest) open(to netip.AddrPort) *guestConn {
	g.t.Helper()
	c := &guestConn{}
	var e tcpip.Error
	c.ep, e = g.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &c.queue)
	require.Nil(g.t, e)
	c.watch()
	g.t.Cleanup(c.abort)
	e = c.ep.Connect(full(to))
	require.IsType(g.t, &tcpip.ErrConnectStarted{}, e)
	select {
	case <-c.space:
	case <-time.After(watchdog):
		require.Fail(g.t, "no connection")
	}
	require.Nil(g.t, c.ep.LastError())
	return c
}

// fill reads p whole.
func (c *guestConn) fill(t testing.TB, p []byte) {
	for len(p) > 0 {
		n, err := c.read(t.Context(), p)
		require.NoError(t, err)
		p = p[n:]
	}
}

// wire is a card's queue: a Port whose frames another goroutine takes.
type wire struct {
	full chan sent
	free chan []byte
	end  sync.WaitGroup
	dry  chan struct{} // somebody waits for room
}

type sent struct {
	o     Offload
	frame []byte
}

// start takes frames until stop; room is called when there is some again.
func (w *wire) start(room func(), take func(Offload, []byte)) {
	const frames = 16
	w.full, w.free, w.dry = make(chan sent, frames), make(chan []byte, frames), make(chan struct{}, 1)
	for range frames {
		w.free <- make([]byte, 0, etherLen+gsoMaxSize)
	}
	w.end.Go(func() {
		for s := range w.full {
			take(s.o, s.frame)
			w.free <- s.frame
			select {
			case <-w.dry:
				room()
			default:
			}
		}
	})
}

func (w *wire) stop() {
	close(w.full)
	w.end.Wait()
}

// Deliver implements Port.
func (w *wire) Deliver(o Offload, frame [][]byte) bool {
	select {
	case b := <-w.free:
		b = b[:0]
		for _, p := range frame {
			b = append(b, p...)
		}
		w.full <- sent{o, b}
		return true
	default:
	}
	select {
	case w.dry <- struct{}{}:
	default:
	}
	return false
}

// Flush implements Port.
func (w *wire) Flush() {}
