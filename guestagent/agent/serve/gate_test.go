//go:build linux

package serve

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// window opens a window for the session that the next request opens.
func (r *raw) window(id uint32, hop proto.Hop, limit int) {
	r.send(id, proto.TypeFlow, proto.Flow{Hop: hop, Limit: uint64(limit), Open: true})
}

func (r *raw) raise(id uint32, hop proto.Hop, limit int) {
	r.send(id, proto.TypeFlow, proto.Flow{Hop: hop, Limit: uint64(limit)})
}

// ping checks that nothing has come but the answer.
func (r *raw) ping() {
	r.send(6, proto.TypePing, proto.Empty{})
	r.next(6, proto.TypePong, nil)
}

// TestWindows: a session that has used up a window sends no more until both hops have
// room, while others go on.
func TestWindows(t *testing.T) {
	t.Parallel()
	port := listen(t, func(c *net.TCPConn) {
		for b := make([]byte, 1); ; {
			if _, err := c.Read(b); err != nil {
				return
			}
			_, _ = c.Write(make([]byte, 100))
		}
	})
	for name, c := range map[string]struct {
		begin, speak func(r *raw)
		typ          proto.Type
	}{
		"command": {
			func(r *raw) {
				r.send(5, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/cat"})
				r.next(5, proto.TypeExecStarted, nil)
			},
			func(r *raw) { r.send(5, proto.TypeExecStdin, proto.Data{Data: make([]byte, 100)}) },
			proto.TypeExecStdout,
		},
		"stream": {
			func(r *raw) {
				r.send(5, proto.TypeTCPConnect, proto.TCPConnect{Host: "127.0.0.1", Port: port})
				r.next(5, proto.TypeTCPConnected, nil)
			},
			func(r *raw) { r.send(5, proto.TypeTCPData, proto.Data{Data: []byte("x")}) },
			proto.TypeTCPData,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := boot(t, Config{}).raw(t)
			said := func() {
				t.Helper()
				var p proto.Data
				for got := 0; got < 100; got += len(p.Data) {
					r.next(5, c.typ, &p)
				}
			}
			r.window(5, proto.HopRelay, 1)
			r.window(5, proto.HopClient, 1)
			c.begin(r)
			c.speak(r)
			said() // the window may be exceeded by one message
			c.speak(r)
			for range 20 {
				r.send(7, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/true"})
				r.next(7, proto.TypeExecStarted, nil)
				r.next(7, proto.TypeExecExited, nil)
			}
			r.raise(5, proto.HopRelay, 1<<20)
			r.raise(5, 9, 1<<20)                // nobody
			r.raise(99, proto.HopClient, 1<<20) // nothing
			r.raise(5, proto.HopClient, 0)
			r.ping()
			r.raise(5, proto.HopClient, 1<<20)
			said()
		})
	}
}

// TestWindowOfAFile stops reading it.
func TestWindowOfAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, make([]byte, 3*readChunk), 0o644))
	r := boot(t, Config{}).raw(t)
	r.send(5, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSOpenFile{Path: path, Options: proto.FSOpenOptions{Read: true}}})
	var opened proto.FSResponse
	r.next(5, proto.TypeFSResponse, &opened)
	r.window(8, proto.HopRelay, readChunk)
	r.send(8, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSRead{Handle: opened.Data.Handle}})
	r.next(8, proto.TypeFSData, nil)
	r.ping()
	r.raise(8, proto.HopRelay, 10*readChunk)
	r.next(8, proto.TypeFSData, nil)
	r.next(8, proto.TypeFSData, nil)
	r.next(8, proto.TypeFSResponse, nil)
}

// TestStoppedCommandEnds when its client leaves or takes the id for another command.
func TestStoppedCommandEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(r *raw){
		"client leaves": func(r *raw) {
			r.send(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: 10})
		},
		"id is taken": func(r *raw) {
			r.send(5, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/true"})
			r.next(5, proto.TypeExecStarted, nil)
			r.next(5, proto.TypeExecExited, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := boot(t, Config{})
			r := g.raw(t)
			r.window(5, proto.HopClient, 0)
			r.send(5, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/cat"})
			r.next(5, proto.TypeExecStarted, nil)
			r.send(5, proto.TypeExecStdin, proto.Data{Data: make([]byte, 1<<20)})
			r.send(5, proto.TypeExecStdin, proto.Data{})
			r.ping()
			end(r)
			assert.Eventually(t, func() bool { return g.activity.execs.Load() == 0 }, time.Minute, time.Millisecond)
		})
	}
}

// TestWindowsInVain: windows without a request are bounded, and go with their client.
func TestWindowsInVain(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	r := g.raw(t)
	for id := range uint32(3 * maxEarly) {
		r.window(1000+id, proto.HopClient, 0)
	}
	r.ping()
	assert.Len(t, g.early, maxEarly)
	r.send(0, proto.TypeClientDisconnected, proto.ClientDisconnected{IDStart: 1, IDEndExclusive: 1 << 20})
	r.ping()
	assert.Empty(t, g.early)
}

// TestFullDuplex: a command that takes input only as fast as its output is taken does not
// wait for a window behind its own input.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	for name, ready := range map[string]proto.Ready{"limits of both": {Flow: true, Input: 1 << 10}, "limits of output": {Flow: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := boot(t, Config{QueueEach: 4 << 10, Stall: time.Hour}).greet(t, 0, ready, client.Options{SessionBuffer: 1 << 10, StallLimit: time.Hour})
			in := bytes.Repeat([]byte("0123456789abcde\n"), 1<<18)
			out, err := c.ExecCollect(testContext(t), client.Command{Name: "/bin/cat"}, bytes.NewReader(in))
			require.NoError(t, err)
			assert.True(t, bytes.Equal(in, out.Stdout), "%d bytes", len(out.Stdout))
		})
	}
}
