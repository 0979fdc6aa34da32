package netstack

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// GSO is the kind of segments that a frame stands for.
type GSO uint8

// Kinds of segmentation.
const (
	GSONone GSO = iota
	GSOTCPv4
	GSOTCPv6
	GSOUDP
)

// Offload is what the sender of a frame left to its receiver. Its zero value is nothing.
type Offload struct {
	// NeedsChecksum: the Internet checksum of the frame from ChecksumStart on goes to
	// ChecksumOffset behind it, where that of the pseudo-header is now.
	NeedsChecksum                 bool
	ChecksumStart, ChecksumOffset uint16
	// GSO is not GSONone if the frame is to become segments with SegmentSize bytes of
	// payload each. HeaderLen is the length of all headers.
	GSO                    GSO
	HeaderLen, SegmentSize uint16
}

// Port is the guest's network card. Its methods may be called from any goroutine.
type Port interface {
	// Deliver copies a frame to the guest. False means that there is no room now, and
	// that Gateway.Ready will be called when there may be.
	Deliver(o Offload, frame [][]byte) bool
	// Flush says that no frame follows at once.
	Flush()
}

const (
	etherLen = header.EthernetMinimumSize

	// gsoMaxSize is the largest IP packet.
	gsoMaxSize = 65535

	// maxPayload is what the stack puts into one TCP segment at most. More, written at
	// once, becomes a full one and a small one.
	maxPayload = gsoMaxSize - header.TCPTotalHeaderMaximumSize - 1

	// maxQueued bounds the packets, and their bytes, that wait for room in the guest's
	// card. What does not fit is lost, as on any line.
	maxQueued      = 1024
	maxQueuedBytes = 4 << 20
)

// link is the stack's end of the cable: a stack.LinkEndpoint for Ethernet frames to one
// guest, whose hardware address is known. It is the NIC's stack.QueueingDiscipline too: the
// stack's own makes a list of each packet.
type link struct {
	header [etherLen]byte // of every frame but for the type
	addr   tcpip.LinkAddress
	mtu    uint32
	upper  atomic.Pointer[stack.NetworkDispatcher] // nil: no stack

	mu     sync.Mutex
	port   Port                  // nil: not plugged in; protected by mu, as all below
	queue  []*stack.PacketBuffer // from head on
	head   int
	bytes  int
	parts  [][]byte // scratch
	closed bool
	acks   acks
	corks  int // the guest is told of nothing before they are out
}

func newLink(a *Addresses) *link {
	l := &link{mtu: uint32(a.MTU), addr: tcpip.LinkAddress(a.GatewayMAC[:])}
	copy(l.header[:], a.GuestMAC[:])
	copy(l.header[6:], a.GatewayMAC[:])
	l.acks.wait = ackWait
	l.acks.timer = time.AfterFunc(time.Hour, l.late)
	l.acks.timer.Stop()
	return l
}

var (
	_ stack.LinkEndpoint       = (*link)(nil)
	_ stack.GSOEndpoint        = (*link)(nil)
	_ stack.QueueingDiscipline = (*link)(nil)
)

// plug connects the guest's card.
func (l *link) plug(p Port) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.port = p
}

// close drops what waits and everything that comes.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.acks.timer.Stop()
	if pkt := l.acks.take(); pkt != nil {
		pkt.DecRef()
	}
	for _, pkt := range l.queue[l.head:] {
		pkt.DecRef()
	}
	l.queue, l.head, l.bytes = nil, 0, 0
}

// WritePacket sends a packet to the guest.
func (l *link) WritePacket(pkt *stack.PacketBuffer) tcpip.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.acks.held == nil && l.acks.postpone(pkt) {
		return nil
	}
	l.send(pkt)
	l.flush()
	return nil
}

// WritePackets sends packets to the guest.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, pkt := range list.AsSlice() {
		l.send(pkt)
	}
	l.flush()
	return list.Len(), nil
}

// flush tells the guest of what was delivered; mu is held.
func (l *link) flush() {
	if l.port != nil && l.corks == 0 {
		l.port.Flush()
	}
}

// cork has the guest told of nothing that is delivered, until uncork is called as often.
func (l *link) cork() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.corks++
}

func (l *link) uncork() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.corks--
	l.flush()
}

// late sends an acknowledgement that nothing came for to go with.
func (l *link) late() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pkt := l.acks.late(time.Now()); pkt != nil {
		l.push(pkt)
		pkt.DecRef()
		l.flush()
	}
}

// send sends a packet, and before it an acknowledgement that has waited, unless it says that
// too; mu is held.
func (l *link) send(pkt *stack.PacketBuffer) {
	if held := l.acks.take(); held != nil {
		if !sameFlow(held, pkt) {
			l.push(held)
		}
		held.DecRef()
	}
	l.push(pkt)
}

// push delivers a packet or has it wait for room; mu is held.
func (l *link) push(pkt *stack.PacketBuffer) {
	switch {
	case l.closed || l.port == nil:
	case l.head == len(l.queue) && l.deliver(pkt):
	case len(l.queue)-l.head < maxQueued && l.bytes+pkt.Size() <= maxQueuedBytes:
		if l.head > 0 && len(l.queue) == cap(l.queue) {
			l.queue = append(l.queue[:0], l.queue[l.head:]...)
			l.head = 0
		}
		l.queue = append(l.queue, pkt.IncRef())
		l.bytes += pkt.Size()
	}
}

// ready delivers what waits.
func (l *link) ready() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.head < len(l.queue) && l.deliver(l.queue[l.head]) {
		pkt := l.queue[l.head]
		l.queue[l.head] = nil
		l.head++
		l.bytes -= pkt.Size()
		pkt.DecRef()
	}
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	}
	l.flush()
}

// deliver gives one packet to the guest; mu is held.
func (l *link) deliver(pkt *stack.PacketBuffer) bool {
	var o Offload
	if g := &pkt.GSOOptions; g.Type == stack.GSOTCPv4 || g.Type == stack.GSOTCPv6 {
		o.NeedsChecksum = g.NeedsCsum
		o.ChecksumStart = uint16(etherLen + len(pkt.NetworkHeader().Slice()))
		o.ChecksumOffset = g.CsumOffset
		if size := pkt.Data().Size(); size > int(g.MSS) && g.MSS > 0 {
			o.GSO = GSOTCPv4
			if g.Type == stack.GSOTCPv6 {
				o.GSO = GSOTCPv6
			}
			o.HeaderLen = uint16(pkt.HeaderSize())
			o.SegmentSize = g.MSS
		}
	}
	l.parts = l.parts[:0]
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		l.parts = append(l.parts, b[skip:])
		skip = 0
	}
	return l.port.Deliver(o, l.parts)
}

// AddHeader puts the Ethernet header before a packet.
func (l *link) AddHeader(pkt *stack.PacketBuffer) {
	eth := header.Ethernet(pkt.LinkHeader().Push(etherLen))
	copy(eth, l.header[:])
	eth[12], eth[13] = byte(pkt.NetworkProtocolNumber>>8), byte(pkt.NetworkProtocolNumber)
}

// ParseHeader is not used: frames from the guest come without their header.
func (l *link) ParseHeader(*stack.PacketBuffer) bool { return true }

// MTU is that of IP packets.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU does nothing: the guest's interface has the MTU it has.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength is the Ethernet header's.
func (l *link) MaxHeaderLength() uint16 { return etherLen }

// LinkAddress is the gateway's.
func (l *link) LinkAddress() tcpip.LinkAddress { return l.addr }

// SetLinkAddress does nothing.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities: the guest's memory changes no bit on the way, so that checksums need no
// look. There is but one neighbour, who needs no resolution.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// SupportedGSO: the guest takes large segments.
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize is the largest IP packet.
func (l *link) GSOMaxSize() uint32 { return gsoMaxSize }

// Attach connects the stack, or disconnects it.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.upper.Store(nil)
		return
	}
	l.upper.Store(&d)
}

// IsAttached reports that the stack is connected.
func (l *link) IsAttached() bool { return l.upper.Load() != nil }

// deliverUp gives the stack an IP packet of the guest's, of which it takes ownership.
func (l *link) deliverUp(proto tcpip.NetworkProtocolNumber, packet *buffer.View) {
	d := l.upper.Load()
	if d == nil {
		packet.Release()
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(packet)})
	(*d).DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// frame sends the guest a frame that did not come from the stack: Ethernet type and
// payload.
func (l *link) frame(etherType uint16, payload []byte) {
	b := make([]byte, 0, etherLen+len(payload))
	b = append(b, l.header[:12]...)
	b = append(b, byte(etherType>>8), byte(etherType))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(append(b, payload...))})
	defer pkt.DecRef()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.send(pkt)
	l.flush()
}

// Wait has nothing to wait for: there are no goroutines.
func (l *link) Wait() {}

// ARPHardwareType is Ethernet.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// Close does nothing; see close.
func (l *link) Close() {}

// SetOnCloseAction does nothing.
func (l *link) SetOnCloseAction(func()) {}
