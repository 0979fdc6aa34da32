package netstack

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/netstack/policy"
)

const chunk = 1 << 20

// BenchmarkDown carries bytes from a server of the host's to a guest, whose own stack is
// part of what is measured.
func BenchmarkDown(b *testing.B) {
	g := newGuest(b, policy.Default(), nil)
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) {
		p := make([]byte, chunk)
		for {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	})
	c := g.mustDial(at(world4, 80))
	p := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	for b.Loop() {
		_, err := io.ReadFull(c, p)
		require.NoError(b, err)
	}
}

// BenchmarkGateway makes a gateway and closes it: a part of each start of a sandbox.
func BenchmarkGateway(b *testing.B) {
	a, err := Plan(1, Overrides{}, bothFamilies)
	require.NoError(b, err)
	e, err := policy.New(policy.Default(), a.Gateways())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		g, err := New(Config{Addresses: a, Policy: e, Names: policy.NewIndex(nil)})
		require.NoError(b, err)
		g.Close()
	}
}

// BenchmarkUp is the other direction.
func BenchmarkUp(b *testing.B) {
	g := newGuest(b, policy.Default(), nil)
	g.tcpWorld(at(world4, 80), func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	c := g.mustDial(at(world4, 80))
	p := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	for b.Loop() {
		_, err := c.Write(p)
		require.NoError(b, err)
	}
}
