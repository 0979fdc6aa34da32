package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/gomsb/gomsb/netstack/reserve"
)

// datagramHead is what comes before the address in a relayed datagram: two reserved
// bytes and the fragment's number (RFC 1928 §7).
const datagramHead = 3

// maxHead is the longest header of a relayed datagram whose sender is an address.
const maxHead = datagramHead + 1 + 16 + 2

// relayed is a flow of datagrams with one destination through a proxy: a connected
// net.Conn. It ends with the connection that it was agreed on.
type relayed struct {
	net.Conn // to the relay; not its type, whose other methods know nothing of headers
	control  net.Conn
	head     []byte // of every datagram
	to       netip.AddrPort
	watching chan struct{} // closed when nobody reads from control any more
	buffers  sync.Pool
}

// associate opens the flow to a relay that the proxy named. It owns control if it succeeds.
func (p *Proxy) associate(control net.Conn, relay, to netip.AddrPort) (net.Conn, error) {
	if relay.Port() == 0 {
		return nil, fmt.Errorf("%w: a relay of datagrams without a usable address", ErrProtocol)
	}
	relay = netip.AddrPortFrom(relay.Addr().Unmap(), relay.Port())
	if relay.Addr().IsUnspecified() { // where the proxy itself is
		relay = netip.AddrPortFrom(p.cfg.Address.Addr(), relay.Port())
	}
	if !mayRelay(p.cfg.Address.Addr(), relay.Addr()) {
		return nil, fmt.Errorf("%w: a relay of datagrams at %s, where the proxy itself could not send to", ErrProtocol, relay)
	}
	c, err := (&net.Dialer{Control: reserve.Socket}).Dial("udp", relay.String())
	if err != nil {
		return nil, err
	}
	r := &relayed{Conn: c, control: control, head: appendAddr(make([]byte, datagramHead, maxHead), to), to: to, watching: make(chan struct{})}
	r.buffers.New = func() any { return new([maxHead + 1<<16]byte) }
	go r.watch()
	return r, nil
}

// mayRelay reports that datagrams may go where a proxy says that its relay is. The guest says
// what is in them, and its policy knows nothing of that place: it must be none that is
// nearer to this machine than the proxy.
func mayRelay(proxy, relay netip.Addr) bool {
	return !relay.IsMulticast() && nearness(relay) <= nearness(proxy)
}

// nearness is how few machines could be meant by an address: 0 for one of the Internet.
func nearness(a netip.Addr) int {
	switch a = a.Unmap(); {
	case a.IsLoopback() || a.IsUnspecified():
		return 3
	case a.IsLinkLocalUnicast():
		return 2
	case a.IsPrivate() || sharedSpace.Contains(a):
		return 1
	}
	return 0
}

// sharedSpace is between a provider and its customers (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// watch ends the flow when the proxy ends its connection.
func (r *relayed) watch() {
	defer close(r.watching)
	_, _ = io.Copy(io.Discard, r.control)
	_ = r.Conn.Close()
}

// Write sends one datagram.
func (r *relayed) Write(p []byte) (int, error) {
	b := r.buffers.Get().(*[maxHead + 1<<16]byte)
	defer r.buffers.Put(b)
	head := copy(b[:], r.head)
	n := copy(b[head:], p)
	if _, err := r.Conn.Write(b[:head+n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Read waits for a datagram of the destination's. Others, and fragments, are lost.
func (r *relayed) Read(p []byte) (int, error) {
	b := r.buffers.Get().(*[maxHead + 1<<16]byte)
	defer r.buffers.Put(b)
	for {
		n, err := r.Conn.Read(b[:])
		if err != nil {
			return 0, err
		}
		if data, ok := r.open(b[:n]); ok {
			return copy(p, data), nil
		}
	}
}

// open takes the header off a datagram.
func (r *relayed) open(b []byte) ([]byte, bool) {
	if len(b) <= datagramHead || b[2] != 0 {
		return nil, false
	}
	n, rest := addrLength(b[datagramHead]), b[datagramHead+1:]
	if n == 0 || len(rest) < n {
		return nil, false
	}
	from := parseAddr(rest[:n])
	return rest[n:], from.Port() == r.to.Port() && from.Addr().Unmap() == r.to.Addr()
}

// Close ends the flow.
func (r *relayed) Close() error {
	err := r.Conn.Close()
	_ = r.control.Close()
	<-r.watching
	return err
}
