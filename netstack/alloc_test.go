//go:build !race

package netstack

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/policy"
)

// TestCarriedBytesAllocateNothing lets 1 MiB through, again and again: 16 packets at least,
// and their acknowledgements. The pools that the collector empties are refilled now and then.
func TestCarriedBytesAllocateNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		server func(*net.TCPConn)
		carry  func(*guestConn, []byte)
	}{
		{"to the guest", pours, func(c *guestConn, p []byte) { c.fill(t, p) }},
		{"from the guest", drinks, func(c *guestConn, p []byte) { require.NoError(t, c.write(t.Context(), p)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newFastGuest(t)
			g.tcpWorld(at(world4, 80), c.server)
			conn, p := g.open(at(world4, 80)), make([]byte, chunk)
			c.carry(conn, p)
			assert.LessOrEqual(t, testing.AllocsPerRun(50, func() { c.carry(conn, p) }), 10.0)
		})
	}
}

// bell is a card that only says that there is a frame.
type bell chan struct{}

func (c bell) Deliver(Offload, [][]byte) bool {
	c <- struct{}{}
	return true
}
func (bell) Flush() {}

// TestDatagramsAllocateNothing of ours: it sends one out and has an answer come, over and over.
func TestDatagramsAllocateNothing(t *testing.T) {
	a, err := Plan(1, Overrides{}, bothFamilies)
	require.NoError(t, err)
	e, err := policy.New(policy.Default(), a.Gateways())
	require.NoError(t, err)
	w := &world{hosts: map[string]string{}}
	w.set("udp", at(world4, 7).String(), udpEcho(t).String())
	g, err := New(Config{Addresses: a, Policy: e, Names: policy.NewIndex(nil), Dial: w.dial})
	require.NoError(t, err)
	defer g.Close()
	got := make(bell, 10)
	g.Plug(got)
	frame := [][]byte{ether(&a, etherIPv4, ip4(&a, world4, protoUDP, datagram(1234, 7, make([]byte, 100))))}
	echo := func() {
		g.Transmit(Offload{}, frame)
		<-got
	}
	echo()
	// One is the stack's: it draws the packet's identification.
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, echo), 1.0)
}
