//go:build linux

package serve

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// listen runs serve on each connection to the port it returns.
func listen(t *testing.T, serve func(*net.TCPConn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestTCPEcho(t *testing.T) {
	t.Parallel()
	port := listen(t, func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	c := start(t, Config{})
	for _, host := range []string{"127.0.0.1", "localhost"} {
		conn, err := c.DialTCP(testContext(t), host, port)
		require.NoError(t, err)
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := conn.Write(data)
			assert.NoError(t, err)
			assert.NoError(t, conn.CloseWrite())
		})
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		wg.Wait()
		assert.True(t, bytes.Equal(data, got))
		require.NoError(t, conn.Close())
	}
}

// Each half closes by itself; both are the end.
func TestTCPHalves(t *testing.T) {
	t.Parallel()
	port := listen(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("hello"))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
	g := boot(t, Config{})
	r := g.raw(t)
	r.send(9, proto.TypeTCPConnect, proto.TCPConnect{Host: "127.0.0.1", Port: port})
	r.send(9, proto.TypeTCPData, proto.Data{Data: []byte("before it is connected")})
	r.next(9, proto.TypeTCPConnected, &proto.Empty{})
	var p proto.Data
	r.next(9, proto.TypeTCPData, &p)
	assert.Equal(t, "hello", string(p.Data))
	r.next(9, proto.TypeTCPEOF, &proto.Empty{})
	r.send(9, proto.TypeTCPData, proto.Data{Data: []byte("still open")})
	r.send(9, proto.TypeTCPEOF, proto.Empty{})
	r.next(9, proto.TypeTCPClosed, &proto.Empty{})
	assert.Zero(t, g.activity.tcps.Load())
	assert.EqualValues(t, len("hello")+len("before it is connected")+len("still open"), g.activity.tcpBytes.Load())
	// And now nobody knows it.
	r.send(9, proto.TypeTCPData, proto.Data{Data: []byte("x")})
	var failed proto.TCPFailed
	r.next(9, proto.TypeTCPFailed, &failed)
	assert.Equal(t, "unknown TCP session: 9", failed.Error)
	r.send(9, proto.TypeTCPEOF, proto.Empty{})
	r.send(9, proto.TypeTCPClose, proto.Empty{})
	r.send(10, proto.TypePing, proto.Empty{})
	r.next(10, proto.TypePong, nil)
}

func TestTCPFailures(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := uint16(l.Addr().(*net.TCPAddr).Port)
	require.NoError(t, l.Close())
	c := start(t, Config{})
	_, err = c.DialTCP(testContext(t), "127.0.0.1", closed)
	require.ErrorContains(t, err, ": Connection refused (os error 111)")
	_, err = c.DialTCP(testContext(t), "256.256.256.256.invalid", 1)
	require.ErrorContains(t, err, "connect 256.256.256.256.invalid:1: failed to lookup address information")
}

// A broken connection is reported once, and nothing follows.
func TestTCPReset(t *testing.T) {
	t.Parallel()
	port := listen(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0)
	})
	r := boot(t, Config{}).raw(t)
	r.send(9, proto.TypeTCPConnect, proto.TCPConnect{Host: "127.0.0.1", Port: port})
	r.next(9, proto.TypeTCPConnected, nil)
	r.send(9, proto.TypeTCPData, proto.Data{Data: []byte("x")})
	var failed proto.TCPFailed
	r.next(9, proto.TypeTCPFailed, &failed)
	assert.Equal(t, "read TCP stream: Connection reset by peer (os error 104)", failed.Error)
	r.send(10, proto.TypePing, proto.Empty{})
	r.next(10, proto.TypePong, nil)
}

// After the host's close there is silence, and the connection is gone.
func TestTCPClose(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	port := listen(t, func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		close(gone)
	})
	g := boot(t, Config{})
	r := g.raw(t)
	r.send(9, proto.TypeTCPConnect, proto.TCPConnect{Host: "127.0.0.1", Port: port})
	r.next(9, proto.TypeTCPConnected, nil)
	r.send(9, proto.TypeTCPClose, proto.Empty{})
	<-gone
	r.send(10, proto.TypePing, proto.Empty{})
	r.next(10, proto.TypePong, nil)
	assert.Zero(t, g.activity.tcps.Load())
}

func TestTCPOfADepartedClient(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	port := listen(t, func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		close(gone)
	})
	g := boot(t, Config{})
	r := g.raw(t)
	r.send(9, proto.TypeTCPConnect, proto.TCPConnect{Host: "127.0.0.1", Port: port})
	r.next(9, proto.TypeTCPConnected, nil)
	r.send(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: 100})
	<-gone
	assert.Zero(t, g.activity.tcps.Load())
}

// A peer that takes nothing fails its own stream in the end, not the others'.
func TestTCPStall(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	port := listen(t, func(c *net.TCPConn) { <-done })
	g := boot(t, Config{QueueEach: 64 << 10, Stall: 100 * time.Millisecond})
	r := g.raw(t)
	r.send(9, proto.TypeTCPConnect, proto.TCPConnect{Host: "127.0.0.1", Port: port})
	r.next(9, proto.TypeTCPConnected, nil)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = r.w.WriteData(9, proto.TypeTCPData, make([]byte, 64<<10))
			}
		}
	})
	var failed proto.TCPFailed
	r.next(9, proto.TypeTCPFailed, &failed)
	close(stop)
	wg.Wait()
	close(done)
	assert.Contains(t, failed.Error, "write TCP stream: input was not taken for too long")
}
