package netstack

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/gomsb/gomsb/netstack/policy"
)

// ears are a card that remembers what it was given, and how often it was told.
type ears struct {
	mu      sync.Mutex
	frames  [][]byte
	flushes int
}

func (e *ears) Deliver(_ Offload, parts [][]byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	e.frames = append(e.frames, b)
	return true
}

func (e *ears) Flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flushes++
}

// acked are the numbers that the frames acknowledge, and how often the guest was told.
func (e *ears) acked() ([]int, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []int
	for _, b := range e.frames {
		all = append(all, int(header.TCP(b[etherLen+header.IPv4MinimumSize:]).AckNumber()))
	}
	return all, e.flushes
}

// heard is a link of which nothing that waits goes by itself, and its card.
func heard(t *testing.T) (*link, *ears) {
	a, err := Plan(1, Overrides{}, bothFamilies)
	require.NoError(t, err)
	l, e := newLink(&a), &ears{}
	l.acks.wait = time.Hour
	l.plug(e)
	t.Cleanup(l.close)
	return l, e
}

// request is a segment of the guest's, of n bytes from sequence number 100 on.
func request(port uint16, flags header.TCPFlags, n int) []byte {
	p := make([]byte, header.TCPMinimumSize+n)
	header.TCP(p).Encode(&header.TCPFields{SrcPort: port, DstPort: 80, SeqNum: 100, DataOffset: header.TCPMinimumSize, Flags: flags})
	return p
}

// reply sends the guest a segment.
func (l *link) reply(port uint16, flags header.TCPFlags, ack, n, window int) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: etherLen + header.IPv4MinimumSize + header.TCPMinimumSize, Payload: buffer.MakeWithData(make([]byte, n)),
	})
	defer pkt.DecRef()
	header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize)).Encode(&header.TCPFields{
		SrcPort: 80, DstPort: port, AckNum: uint32(ack), DataOffset: header.TCPMinimumSize, Flags: flags, WindowSize: uint16(window),
	})
	pkt.TransportProtocolNumber, pkt.NetworkProtocolNumber = header.TCPProtocolNumber, header.IPv4ProtocolNumber
	copy(pkt.NetworkHeader().Push(header.IPv4MinimumSize)[12:], world4.AsSlice())
	l.AddHeader(pkt)
	_ = l.WritePacket(pkt)
}

const (
	ack = header.TCPFlagAck
	psh = header.TCPFlagAck | header.TCPFlagPsh
	fin = header.TCPFlagAck | header.TCPFlagFin
)

func TestAcknowledgementsWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags            header.TCPFlags // of the guest's segment, with n bytes
		n                int
		port             uint16 // of the answer
		answer           header.TCPFlags
		ack, size, space int
		sent             []int
	}{
		"a request":               {psh, 10, 5, ack, 110, 0, 1000, nil},
		"a request with FIN":      {psh | fin, 10, 5, ack, 111, 0, 1000, nil},
		"FIN":                     {fin, 0, 5, ack, 101, 0, 1000, nil},
		"more to come":            {ack, 10, 5, ack, 110, 0, 1000, []int{110}},
		"nothing":                 {ack, 0, 5, ack, 100, 0, 1000, []int{100}},
		"SYN":                     {header.TCPFlagSyn | psh, 10, 5, ack, 110, 0, 1000, []int{110}},
		"only a part":             {psh, 10, 5, ack, 109, 0, 1000, []int{109}},
		"of another connection":   {psh, 10, 6, ack, 110, 0, 1000, []int{110}},
		"with bytes":              {psh, 10, 5, psh, 110, 3, 1000, []int{110}},
		"with FIN":                {psh, 10, 5, fin, 110, 0, 1000, []int{110}},
		"no room for more":        {psh, 10, 5, ack, 110, 0, 0, []int{110}},
		"a header that is broken": {psh, -1, 5, ack, 99, 0, 1000, []int{99}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, e := heard(t)
			p := request(5, c.flags, max(c.n, 0))
			if c.n < 0 {
				p = p[:header.TCPMinimumSize-1]
			}
			l.acks.expect(p)
			l.reply(c.port, c.answer, c.ack, c.size, c.space)
			got, flushes := e.acked()
			assert.Equal(t, c.sent, got)
			assert.Equal(t, len(c.sent), flushes)
		})
	}
}

func TestAcknowledgementsGoWithOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		port  uint16 // of what follows an acknowledgement of 110 on port 5
		flags header.TCPFlags
		ack   int
		sent  []int
	}{
		"with the answer":          {5, psh, 110, []int{110}},
		"with the second one":      {5, ack, 120, []int{120}},
		"before another's segment": {6, psh, 7, []int{110, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, e := heard(t)
			l.acks.expect(request(5, psh, 10))
			l.reply(5, ack, 110, 0, 1000)
			l.acks.expect(request(5, psh, 20))
			l.reply(c.port, c.flags, c.ack, 0, 1000)
			got, flushes := e.acked()
			assert.Equal(t, c.sent, got)
			assert.Equal(t, 1, flushes, "one interrupt")
		})
	}
}

// TestAcknowledgementsWaitInVain: the first goes when it has waited long enough, the next at
// once.
func TestAcknowledgementsWaitInVain(t *testing.T) {
	t.Parallel()
	l, e := heard(t)
	l.acks.wait = time.Millisecond
	l.acks.expect(request(5, psh, 10))
	l.reply(5, ack, 110, 0, 1000)
	require.Eventually(t, func() bool { got, _ := e.acked(); return len(got) == 1 }, watchdog, time.Millisecond)
	l.mu.Lock()
	l.acks.wait = time.Hour
	l.mu.Unlock()
	for range eagerAcks + 1 {
		l.acks.expect(request(5, psh, 10))
		l.reply(5, ack, 110, 0, 1000)
	}
	got, flushes := e.acked()
	assert.Len(t, got, 1+eagerAcks, "then one waits again")
	assert.Equal(t, 1+eagerAcks, flushes)
}

func TestCork(t *testing.T) {
	t.Parallel()
	l, e := heard(t)
	l.cork()
	l.reply(5, psh, 1, 10, 1000)
	l.reply(5, fin, 1, 0, 1000)
	got, flushes := e.acked()
	assert.Equal(t, []int{1, 1}, got)
	assert.Zero(t, flushes)
	l.uncork()
	_, flushes = e.acked()
	assert.Equal(t, 1, flushes)
}

// TestShortExchange counts what goes to the guest for a request on a connection of its own,
// until it was done without anything sent twice.
func TestShortExchange(t *testing.T) {
	t.Parallel()
	g := newGuest(t, policy.Default(), nil)
	g.link.mu.Lock()
	g.link.acks.wait = time.Hour
	g.link.mu.Unlock()
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) {
		var b [100]byte
		_, _ = c.Read(b[:])
		_, _ = c.Write(b[:])
	})
	g.sniff()
	again := func() uint64 {
		return g.stack.Stats().TCP.Retransmits.Value() + g.Gateway.stack.Stats().TCP.Retransmits.Value()
	}
	for {
		before := again()
		all := g.exchange()
		if again() == before {
			assert.Equal(t, []header.TCPFlags{header.TCPFlagSyn | ack, psh, fin}, all)
			return
		}
	}
}

// exchange asks one question and returns the flags of what comes until FIN.
func (g *guest) exchange() []header.TCPFlags {
	c := g.mustDial(at(world4, 80))
	_, err := c.Write([]byte("question"))
	require.NoError(g.t, err)
	port := uint16(c.LocalAddr().(*net.TCPAddr).Port)
	var all []header.TCPFlags
	g.hear(func(b []byte) bool {
		if b[12] != 8 || b[13] != 0 || b[etherLen+9] != protoTCP {
			return false
		}
		h := header.TCP(b[etherLen+header.IPv4MinimumSize:])
		if h.DestinationPort() != port {
			return false
		}
		all = append(all, h.Flags())
		return h.Flags()&header.TCPFlagFin != 0
	})
	return all
}
