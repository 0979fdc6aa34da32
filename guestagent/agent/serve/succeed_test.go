//go:build linux

package serve

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// reset breaks the stream of g as the end of a saved machine's connections does: what the
// host has not read makes it so for sockets in here.
func (g *guest) reset(t *testing.T) {
	t.Helper()
	_, err := g.cfg.Stream.Write([]byte{0})
	require.NoError(t, err)
	require.NoError(t, g.host.Close())
	<-g.done
	require.ErrorIs(t, g.err, unix.ECONNRESET)
	require.NoError(t, g.cfg.Stream.(io.Closer).Close())
}

// succeed is g with another host.
func (g *guest) succeed(t *testing.T) *guest {
	t.Helper()
	host, stream := streams(t)
	return serving(t, g.Succeed(stream), host, stream)
}

// TestSucceed: of what clients of the old host had under way only commands go on, unheard,
// and new clients with the same ids get nothing of it.
func TestSucceed(t *testing.T) {
	t.Parallel()
	beats := make(chan *beatSink, 10)
	g := boot(t, Config{Heartbeat: func() (io.WriteCloser, error) {
		sink := &beatSink{got: make(chan struct{}, 100)}
		beats <- sink
		return sink, nil
	}})
	dir := t.TempDir()
	r := g.raw(t)
	id := proto.SlotRange(0).First()
	// A command that prints before and after, and one whose output nobody takes.
	r.send(id, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", `until [ -e ` + dir + `/go ]; do sleep 0.05; done; echo late; touch ` + dir + `/done`}})
	var started proto.ExecStarted
	r.next(id, proto.TypeExecStarted, &started)
	r.send(id+1, proto.TypeFlow, proto.Flow{Hop: proto.HopRelay, Limit: 1, Open: true})
	r.send(id+1, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", "head -c 1000000 /dev/zero; touch " + dir + "/flushed"}})
	r.next(id+1, proto.TypeExecStarted, nil)
	r.next(id+1, proto.TypeExecStdout, nil)
	// A file handle, an upload that has not ended, and a TCP stream.
	path := filepath.Join(dir, "file")
	write := proto.FSOpenOptions{Write: true, Create: true}
	r.send(id+2, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSOpenFile{Path: path, Options: write}})
	var opened proto.FSResponse
	r.next(id+2, proto.TypeFSResponse, &opened)
	require.True(t, opened.OK)
	r.send(id+3, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSWrite{Handle: opened.Data.Handle}})
	require.NoError(t, r.w.WriteData(id+3, proto.TypeFSData, []byte("half")))
	require.Eventually(t, func() bool { text, _ := os.ReadFile(path); return string(text) == "half" }, time.Minute, time.Millisecond)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	r.send(id+4, proto.TypeTCPConnect, proto.TCPConnect{Host: "127.0.0.1", Port: uint16(listener.Addr().(*net.TCPAddr).Port)})
	conn, err := listener.Accept()
	require.NoError(t, err)
	r.next(id+4, proto.TypeTCPConnected, nil)
	<-beats

	g.reset(t)
	next := g.succeed(t)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the stream is closed")
	require.Eventually(t, func() bool { _, err := os.Stat(dir + "/flushed"); return err == nil }, time.Minute, time.Millisecond)

	n := next.raw(t)
	n.send(id, proto.TypeFSRequest, proto.FSRequest{Op: proto.FSFStat{Handle: opened.Data.Handle}})
	var gone proto.FSResponse
	n.next(id, proto.TypeFSResponse, &gone)
	assert.False(t, gone.OK, "handles are not inherited")
	require.NoError(t, n.w.WriteData(id+3, proto.TypeFSData, []byte("more")))
	n.next(id+3, proto.TypeFSResponse, &gone)
	assert.False(t, gone.OK, "nor are uploads")
	n.send(id, proto.TypeExecSignal, proto.ExecSignal{Signal: 9}) // nobody's: the command goes on
	require.NoError(t, os.WriteFile(dir+"/go", nil, 0o600))
	require.Eventually(t, func() bool { _, err := os.Stat(dir + "/done"); return err == nil }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool { return next.activity.execs.Load() == 0 }, time.Minute, time.Millisecond, "commands count until they end")
	n.send(id+9, proto.TypePing, proto.Empty{})
	n.next(id+9, proto.TypePong, nil) // and nothing came before
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "half", string(text))

	sink := <-beats
	<-sink.got
	var b beatLine
	require.NoError(t, json.Unmarshal(sink.lines[0], &b))
	assert.EqualValues(t, 1, b.Seq, "heartbeats begin anew")
	assert.NotZero(t, b.ActivitySeq)
}

// A copy of a copy: commands of all hosts before count until they end.
func TestSucceedAgain(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	end := filepath.Join(t.TempDir(), "end")
	for range 3 {
		r := g.raw(t)
		r.send(1, proto.TypeExecRequest, proto.ExecRequest{Cmd: "/bin/sh", Args: []string{"-c", "until [ -e " + end + " ]; do sleep 0.05; done"}})
		r.next(1, proto.TypeExecStarted, nil)
		g.reset(t)
		g = g.succeed(t)
	}
	assert.EqualValues(t, 3, g.activity.execs.Load())
	require.NoError(t, os.WriteFile(end, nil, 0o600))
	require.Eventually(t, func() bool { return g.activity.execs.Load() == 0 }, time.Minute, time.Millisecond)
	require.NoError(t, g.connect(t, 0, client.Options{}).Ping(testContext(t)))
}

func TestTrim(t *testing.T) {
	t.Parallel()
	g := boot(t, Config{})
	r := g.raw(t)
	for range 3 {
		r.send(0, proto.TypeTrim, proto.Empty{})
		r.next(0, proto.TypeTrimmed, nil)
	}
	r.send(7, proto.TypeTrim, proto.Empty{}) // a client's
	r.send(8, proto.TypePing, proto.Empty{})
	r.next(8, proto.TypePong, nil)
	assert.Zero(t, g.activity.seq.Load(), "no activity")
}
