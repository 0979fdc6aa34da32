//go:build linux

package agent

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/boot"
	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
	"github.com/gomsb/gomsb/guestagent/agent/reap"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// far is the host's end of a stream.
type far struct {
	t    *testing.T
	file *os.File
}

// stream returns both ends of a stream.
func stream(t *testing.T) (*hostlink.Conn, *far) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(fds[1], true))
	f := &far{t: t, file: os.NewFile(uintptr(fds[1]), "host")}
	require.NoError(t, f.file.SetDeadline(time.Now().Add(time.Minute)))
	t.Cleanup(func() { _ = f.file.Close() })
	return hostlink.Adopt(fds[0]), f
}

// expect reads a message of a type.
func (f *far) expect(typ proto.Type, payload any) {
	f.t.Helper()
	frame, err := proto.NewReader(f.file).ReadFrame()
	require.NoError(f.t, err)
	m, err := proto.ParseMessage(frame)
	require.NoError(f.t, err)
	require.Equal(f.t, typ, m.Type)
	if payload != nil {
		require.NoError(f.t, m.Decode(payload))
	}
}

// reset ends the stream as that of a saved machine ends in a copy: for the sockets in here
// it takes something that the host has not read.
func (f *far) reset() {
	f.t.Helper()
	require.NoError(f.t, proto.NewWriter(f.file).WriteMessage(1, proto.TypePing, proto.Empty{}))
	wait := []unix.PollFd{{Fd: int32(f.file.Fd()), Events: unix.POLLIN}}
	_, err := unix.Poll(wait, 60000)
	require.NoError(f.t, err)
	require.NoError(f.t, f.file.Close())
}

// TestRejoin: a guest that is copied while it serves goes on with the copy's host; so does
// a copy of the copy, and one that is copied before its host said anything.
func TestRejoin(t *testing.T) {
	t.Parallel()
	guest, host := stream(t)
	// Used by the agent only, but for joined.
	refusals, copied := 2, 0
	var ends []*far
	var conns []*hostlink.Conn
	for range 3 {
		c, f := stream(t)
		conns, ends = append(conns, c), append(ends, f)
	}
	joined := make(chan *far, 3)
	a := &agent{reaper: reap.New(), upper: -1, state: state{Network: &proto.Network{MTU: 1}}}
	a.Version = "test"
	a.Dial = func(port uint32) (*hostlink.Conn, error) {
		if port == hostlink.HeartbeatPort {
			return nil, unix.ECONNREFUSED
		}
		if refusals--; refusals >= 0 {
			return nil, unix.ECONNRESET
		}
		return conns[copied], nil
	}
	a.become = func(_ boot.Host, was *proto.Network, _ func(string)) (*proto.Network, error) {
		copied++
		assert.EqualValues(t, min(copied, 2), was.MTU, "the network of the guest before")
		if copied == 2 {
			return was, boot.ErrCopied
		}
		joined <- ends[copied-1]
		return &proto.Network{MTU: 2}, nil
	}
	a.host.Store(guest)
	served := make(chan error, 1)
	go func() { served <- a.serve() }()
	host.expect(proto.TypeReady, nil)
	for range 2 {
		host.reset()
		host = <-joined
		var ready proto.Ready
		host.expect(proto.TypeReady, &ready)
		assert.Equal(t, "test", ready.AgentVersion)
	}
	require.NoError(t, proto.NewWriter(host.file).WriteMessage(0, proto.TypeShutdown, nil))
	require.NoError(t, <-served)
	assert.Equal(t, 3, copied)
}

// A copy whose host does not want it ends as a guest whose host is gone.
func TestRejoinFails(t *testing.T) {
	t.Parallel()
	serve := func(dial func() (*hostlink.Conn, error), become error) (err error) {
		guest, host := stream(t)
		a := &agent{reaper: reap.New(), upper: -1}
		a.Dial = func(port uint32) (*hostlink.Conn, error) {
			if port == hostlink.HeartbeatPort {
				return nil, unix.ECONNREFUSED
			}
			return dial()
		}
		a.become = func(boot.Host, *proto.Network, func(string)) (*proto.Network, error) { return nil, become }
		a.host.Store(guest)
		served := make(chan error, 1)
		go func() { served <- a.serve() }()
		host.expect(proto.TypeReady, nil)
		host.reset()
		return <-served
	}
	tries := 0
	err := serve(func() (*hostlink.Conn, error) { tries++; return nil, unix.ECONNRESET }, nil)
	require.ErrorIs(t, err, unix.ECONNRESET)
	assert.Equal(t, redials, tries)

	guest, host := stream(t)
	boom := &boot.Error{Kind: boot.KindNetwork, Err: errors.New("no eth0")}
	err = serve(func() (*hostlink.Conn, error) { return guest, nil }, boom)
	require.ErrorIs(t, err, boom)
	var told proto.CoreError
	host.expect(proto.TypeError, &told)
	assert.Equal(t, proto.CoreError{Kind: boot.KindNetwork, Message: "no eth0"}, told)
}
