package netstack

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// ackWait is how long an acknowledgement may wait for something to go with: the least
	// that Linux has them wait.
	ackWait = 40 * time.Millisecond

	// eagerAcks is how many go at once after one has waited in vain. A guest that sends
	// nothing more until it has them (RFC 896) then waits seldom.
	eagerAcks = 16
)

// acks has what acknowledges a short request wait for the answer, which acknowledges it too,
// or for anything else that goes to the guest: each frame by itself is an interrupt of the
// guest's. The stack acknowledges all that it gets at once. One waits at most, so that of two
// segments one is acknowledged at least (RFC 1122 §4.2.3.2). All but expect is called with
// the link's mu held.
type acks struct {
	next atomic.Uint64 // see keyOf; what may wait
	wait time.Duration

	held  *stack.PacketBuffer // nil: none
	since time.Time           // when it began to wait
	data  bool                // it acknowledges more than FIN
	eager int                 // that go at once
	timer *time.Timer         // calls the link's late
	armed bool                // it will
}

// keyOf names an acknowledgement: the guest's port, whether it is for bytes, and the number.
// It is not 0.
func keyOf(port uint16, data bool, ack uint32) uint64 {
	key := uint64(port)<<32 | uint64(ack) | 1<<63
	if data {
		key |= 1 << 62
	}
	return key
}

// expect looks at a segment of the guest's, from its TCP header on, whose acknowledgement may
// wait if the segment is the end of something: of a write, or of the connection.
func (a *acks) expect(p []byte) {
	if len(p) < header.TCPMinimumSize {
		return
	}
	h := header.TCP(p)
	flags, n := h.Flags(), len(p)-int(h.DataOffset())
	fin := uint32(0)
	if flags&header.TCPFlagFin != 0 {
		fin = 1
	}
	if n < 0 || flags&(header.TCPFlagSyn|header.TCPFlagRst) != 0 || fin == 0 && (n == 0 || flags&header.TCPFlagPsh == 0) {
		return
	}
	a.next.Store(keyOf(h.SourcePort(), n > 0, h.SequenceNumber()+uint32(n)+fin))
}

// awaits reports that pkt is the acknowledgement that may wait, and no more than that.
func (a *acks) awaits(pkt *stack.PacketBuffer) (data, yes bool) {
	next := a.next.Load()
	if next == 0 || pkt.TransportProtocolNumber != header.TCPProtocolNumber || pkt.Data().Size() > 0 {
		return false, false
	}
	h := header.TCP(pkt.TransportHeader().Slice())
	data = next&(1<<62) != 0
	yes = len(h) >= header.TCPMinimumSize && h.Flags() == header.TCPFlagAck && h.WindowSize() > 0 && next == keyOf(h.DestinationPort(), data, h.AckNumber())
	return data, yes && a.next.CompareAndSwap(next, 0)
}

// postpone takes pkt, which then goes later or never, and reports that it did.
func (a *acks) postpone(pkt *stack.PacketBuffer) bool {
	data, yes := a.awaits(pkt)
	if !yes {
		return false
	}
	if data && a.eager > 0 {
		a.eager--
		return false
	}
	a.held, a.since, a.data = pkt.IncRef(), time.Now(), data
	if !a.armed {
		a.arm(a.wait)
	}
	return true
}

func (a *acks) arm(wait time.Duration) {
	a.armed = true
	a.timer.Reset(wait)
}

// take is what waits, which the caller owns then; nil if nothing does.
func (a *acks) take() *stack.PacketBuffer {
	pkt := a.held
	a.held = nil
	return pkt
}

// late is take when the timer has run out: it leaves what has not waited long enough.
func (a *acks) late(now time.Time) *stack.PacketBuffer {
	a.armed = false
	if a.held == nil {
		return nil
	}
	if left := a.wait - now.Sub(a.since); left > 0 {
		a.arm(left)
		return nil
	}
	if a.data {
		a.eager = eagerAcks
	}
	return a.take()
}

// sameFlow reports that two packets for the guest are of the same TCP connection.
func sameFlow(a, b *stack.PacketBuffer) bool {
	if a.NetworkProtocolNumber != b.NetworkProtocolNumber || a.TransportProtocolNumber != b.TransportProtocolNumber {
		return false
	}
	at, bt := a.TransportHeader().Slice(), b.TransportHeader().Slice()
	if len(at) < 4 || len(bt) < 4 || binary.BigEndian.Uint32(at) != binary.BigEndian.Uint32(bt) { // both ports
		return false
	}
	from, to := 12, 16 // source; the destination is the guest
	if a.NetworkProtocolNumber == header.IPv6ProtocolNumber {
		from, to = 8, 24
	}
	return bytes.Equal(a.NetworkHeader().Slice()[from:to], b.NetworkHeader().Slice()[from:to])
}
