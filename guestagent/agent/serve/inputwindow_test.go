//go:build linux

package serve

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// TestInputWindow tells a client that asks for it how much input has been taken, and
// others nothing.
func TestInputWindow(t *testing.T) {
	t.Parallel()
	r := boot(t, Config{QueueEach: 64 << 10}).raw(t)
	sink := proto.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", "cat >/dev/null"}}
	data := proto.Data{Data: make([]byte, 8<<10)}
	r.send(5, proto.TypeFlow, proto.Flow{Hop: proto.HopClient, Limit: 100, Open: true, Input: true})
	r.window(5, proto.HopRelay, 100)
	r.window(7, proto.HopClient, 100)
	for _, id := range []uint32{5, 7} {
		r.send(id, proto.TypeExecRequest, sink)
		r.next(id, proto.TypeExecStarted, nil)
	}
	for n := range uint64(20) {
		r.send(7, proto.TypeExecStdin, data)
		r.send(5, proto.TypeExecStdin, data)
		var p proto.Flow
		r.next(5, proto.TypeFlow, &p)
		assert.Equal(t, proto.Flow{Limit: (n+1)*8<<10 + 16<<10}, p, "what was taken and a quarter of the queue")
	}
	r.ping()
}

// TestInputWindowOfAFile is the same for an upload.
func TestInputWindowOfAFile(t *testing.T) {
	t.Parallel()
	r := boot(t, Config{QueueEach: 64 << 10}).raw(t)
	r.send(5, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSOpenFile{Path: filepath.Join(t.TempDir(), "file"), Options: proto.FSOpenOptions{Write: true, Create: true}}})
	var opened proto.FSResponse
	r.next(5, proto.TypeFSResponse, &opened)
	r.send(8, proto.TypeFlow, proto.Flow{Hop: proto.HopClient, Limit: 100, Open: true, Input: true})
	r.send(8, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSWrite{Handle: opened.Data.Handle}})
	for n := range uint64(20) {
		r.send(8, proto.TypeFSData, proto.Data{Data: make([]byte, 8<<10)})
		var p proto.Flow
		r.next(8, proto.TypeFlow, &p)
		assert.Equal(t, (n+1)*8<<10+16<<10, p.Limit)
	}
	r.send(8, proto.TypeFSData, proto.Data{})
	r.next(8, proto.TypeFSResponse, nil)
}

// TestInputHoldsUpNobody: what a session does not take waits at the client, and everybody
// else goes on.
func TestInputHoldsUpNobody(t *testing.T) {
	t.Parallel()
	quiet := make(chan struct{})
	defer close(quiet)
	port := listen(t, func(*net.TCPConn) { <-quiet })
	type sink interface{ Write(p []byte) (int, error) }
	for name, open := range map[string]func(t *testing.T, c *client.Client) (s sink, end func()){
		"command": func(t *testing.T, c *client.Client) (sink, func()) {
			e, err := c.Exec(t.Context(), client.Command{Name: "sleep", Args: []string{"1000"}})
			require.NoError(t, err)
			return e, func() { assert.NoError(t, e.Kill(t.Context())) }
		},
		"stream": func(t *testing.T, c *client.Client) (sink, func()) {
			conn, err := c.DialTCP(t.Context(), "127.0.0.1", port)
			require.NoError(t, err)
			return conn, func() { assert.NoError(t, conn.Close()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := boot(t, Config{QueueEach: 2 << 20, Stall: time.Hour})
			c := g.connect(t, 0, client.Options{StallLimit: time.Hour})
			s, end := open(t, c)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, err := s.Write(make([]byte, 64<<20))
				assert.Error(t, err, "it ends before all is taken")
			}()
			require.Eventually(t, func() bool { return g.budget.used.Load() > 0 }, time.Minute, time.Millisecond)
			for range 10 {
				out, err := c.ExecCollect(testContext(t), client.Command{Name: "echo", Args: []string{"fine"}}, nil)
				require.NoError(t, err)
				assert.Equal(t, "fine\n", string(out.Stdout))
			}
			assert.LessOrEqual(t, g.budget.used.Load(), int64(2<<20))
			end()
			<-done
		})
	}
}
