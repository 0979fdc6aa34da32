package netstack

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/gomsb/gomsb/netstack/policy"
)

const chunk = 1 << 20

// processorTime is what this process has used. The machine may have other things to do,
// so that it says more than the clock.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perByte reports the processor's time for each byte that a benchmark carried.
func perByte(b *testing.B, begin time.Duration) {
	b.ReportMetric(float64(processorTime(b)-begin)/float64(b.N*chunk), "cpu-ns/B")
}

// pours writes until the other end is gone.
func pours(c *net.TCPConn) {
	p := make([]byte, chunk)
	for {
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

// drinks reads until the end.
func drinks(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

// BenchmarkDown carries bytes from a server of the host's to a guest, whose own stack and
// memory are part of what is measured.
func BenchmarkDown(b *testing.B) {
	g := newFastGuest(b)
	g.tcpWorld(at(world4, 80), pours)
	c := g.open(at(world4, 80))
	p := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	defer perByte(b, processorTime(b))
	for b.Loop() {
		c.fill(b, p)
	}
}

// BenchmarkUp is the other direction.
func BenchmarkUp(b *testing.B) {
	g := newFastGuest(b)
	g.tcpWorld(at(world4, 80), drinks)
	c := g.open(at(world4, 80))
	p := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	defer perByte(b, processorTime(b))
	for b.Loop() {
		require.NoError(b, c.write(b.Context(), p))
	}
}

// BenchmarkEcho is a small question of the guest's and its answer.
func BenchmarkEcho(b *testing.B) {
	g := newFastGuest(b)
	g.tcpWorld(at(world4, 80), echoes)
	c := g.open(at(world4, 80))
	p := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, c.write(b.Context(), p))
		c.fill(b, p)
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

// answersOnce answers the first that comes and closes.
func answersOnce(c *net.TCPConn) {
	var b [200]byte
	if _, err := c.Read(b[:]); err == nil {
		_, _ = c.Write(b[:140])
	}
}

// BenchmarkConnection opens a connection, asks and has its end.
func BenchmarkConnection(b *testing.B) {
	g := newFastGuest(b)
	wait := tcpip.TCPTimeWaitTimeoutOption(time.Millisecond) // the guest's stack takes any port, even one of a moment ago
	require.Nil(b, g.Gateway.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &wait))
	g.tcpWorld(at(world4, 80), answersOnce)
	p := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		c := g.open(at(world4, 80))
		require.NoError(b, c.write(b.Context(), p[:130]))
		for n := 0; ; {
			k, err := c.read(b.Context(), p)
			if n += k; err == io.EOF {
				break
			}
			require.NoError(b, err)
		}
		c.ep.Close()
		c.unwatch()
	}
}
