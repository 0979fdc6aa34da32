package client

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// echo is a scripted agent whose TCP sessions echo; port 1 refuses, port 2 accepts and is
// silent, port 3 fails after connecting.
func echo(closed chan<- uint32) script {
	var mu sync.Mutex
	ports := make(map[uint32]uint16)
	return func(g *guest, m proto.Message) {
		mu.Lock()
		defer mu.Unlock()
		switch m.Type {
		case proto.TypeTCPConnect:
			r := decode[proto.TCPConnect](g, m)
			ports[m.ID] = r.Port
			if r.Port == 1 {
				g.send(m.ID, proto.TypeTCPFailed, proto.TCPFailed{Error: "connect h:1: " + proto.ErrnoText(111)})
				return
			}
			g.send(m.ID, proto.TypeTCPConnected, proto.Empty{})
			if r.Port == 3 {
				g.data(m.ID, proto.TypeTCPData, "part")
				g.send(m.ID, proto.TypeTCPFailed, proto.TCPFailed{Error: "read TCP stream: " + proto.ErrnoText(104)})
			}
		case proto.TypeTCPData:
			p, err := proto.DecodeData(m.Payload)
			if err != nil {
				g.t.Errorf("tcp.data: %v", err)
			}
			if ports[m.ID] == 7 {
				g.data(m.ID, proto.TypeTCPData, string(p))
			}
		case proto.TypeTCPEOF:
			g.send(m.ID, proto.TypeTCPEOF, proto.Empty{})
		case proto.TypeTCPClose:
			closed <- m.ID
		}
	}
}

func TestTCPEcho(t *testing.T) {
	closed := make(chan uint32, 1)
	c := connect(t, Options{}, echo(closed))
	ctx := testContext(t)
	conn, err := c.DialTCP(ctx, "::1", 7)
	require.NoError(t, err)
	var _ net.Conn = conn
	assert.Equal(t, "[::1]:7", conn.RemoteAddr().String())
	assert.Equal(t, "tcp", conn.LocalAddr().Network())
	want := randomBytes(1 << 20)
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, bytes.NewReader(want))
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.NoError(t, <-sent)
	assert.True(t, bytes.Equal(want, got))
	_, err = conn.Write([]byte("x"))
	assert.ErrorIs(t, err, io.ErrClosedPipe)
	require.NoError(t, conn.CloseWrite())
	require.NoError(t, conn.Close())
	require.NoError(t, conn.Close())
	assert.Equal(t, conn.s.id, <-closed)
	_, err = conn.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err) // it had ended before it was closed
	_, err = conn.Write([]byte("x"))
	assert.Error(t, err)
}

func TestTCPFailures(t *testing.T) {
	c := connect(t, Options{}, echo(make(chan uint32, 9)))
	ctx := testContext(t)
	_, err := c.DialTCP(ctx, "h", 1)
	assert.Equal(t, &TCPError{Errno: 111, Message: "connect h:1: Connection refused (os error 111)"}, err)

	conn, err := c.DialTCP(ctx, "h", 3)
	require.NoError(t, err)
	got, err := io.ReadAll(conn)
	assert.Equal(t, "part", string(got))
	assert.Equal(t, &TCPError{Errno: 104, Message: "read TCP stream: Connection reset by peer (os error 104)"}, err)
	_, err = conn.Write([]byte("x"))
	assert.ErrorIs(t, err, io.ErrClosedPipe)
	require.NoError(t, conn.Close())
}

func TestTCPDeadlinesAndClose(t *testing.T) {
	c := connect(t, Options{}, echo(make(chan uint32, 9)))
	conn, err := c.DialTCP(testContext(t), "h", 2)
	require.NoError(t, err)
	buf := make([]byte, 8)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = conn.Read(buf)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = conn.Write([]byte("still writable"))
	require.NoError(t, err)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(-time.Second)))
	_, err = conn.Write([]byte("x"))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Hour)))

	result := make(chan error, 1)
	go func() {
		_, err := conn.Read(buf)
		result <- err
	}()
	require.NoError(t, conn.SetDeadline(time.Now())) // also ends a read that waits
	assert.ErrorIs(t, <-result, os.ErrDeadlineExceeded)

	require.NoError(t, conn.SetDeadline(time.Time{}))
	go func() {
		_, err := conn.Read(buf)
		result <- err
	}()
	require.NoError(t, conn.Close())
	assert.ErrorIs(t, <-result, net.ErrClosed)
	_, err = conn.Write([]byte("x"))
	assert.ErrorIs(t, err, net.ErrClosed)
}
