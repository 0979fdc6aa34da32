package relay

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
)

// mute is a guest that becomes ready and then says only what a test makes it say.
type mute struct {
	*world
	out *proto.Writer
	in  chan proto.Frame
}

func startMute(t *testing.T) *mute {
	t.Helper()
	host, guest := net.Pipe()
	m := &mute{world: &world{Relay: New(Config{Guest: host, Log: &logged{}})}, out: proto.NewWriter(guest), in: make(chan proto.Frame, 1000)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for r := proto.NewReader(guest); ; {
			f, err := r.ReadFrame()
			if err != nil {
				return
			}
			f.Body = append([]byte(nil), f.Body...)
			m.in <- f
		}
	}()
	go func() {
		<-m.in
		_ = m.out.WriteMessage(0, proto.TypeReady, guesttest.Ready)
	}()
	_, err := m.Boot(t.Context(), &proto.Bootstrap{})
	require.NoError(t, err)
	ran := make(chan error, 1)
	go func() { ran <- m.Run() }()
	t.Cleanup(func() {
		_ = m.Close()
		_ = guest.Close()
		<-ran
		<-over
	})
	return m
}

// expect waits until the guest was sent a message of that type.
func (m *mute) expect(want proto.Type) {
	for f := range m.in {
		if msg, err := proto.ParseMessage(f); err == nil && msg.Type == want {
			return
		}
	}
}

// leave closes a client and waits until the guest was told.
func (m *mute) leave(t *testing.T, p *peer) {
	t.Helper()
	require.NoError(t, p.Close())
	m.expect(proto.TypeClientDisconnected)
	require.Eventually(t, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		c := m.clients[p.hs.IDs.Start/proto.IDStep]
		return c == nil || !c.left.IsZero()
	}, 10*time.Second, time.Millisecond)
}

func (p *peer) slot() uint32 { return p.hs.IDs.Start / proto.IDStep }

// What the guest still says to a client that has left does not reach the next one.
func TestSlotRestsUntilTheGuestIsDone(t *testing.T) {
	m := startMute(t)
	first := m.attach(t)
	id := first.exec(t, 0, "sleep")
	ping := id + 1
	require.NoError(t, first.out.WriteMessage(ping, proto.TypePing, proto.Empty{}))
	m.leave(t, first)

	second := m.attach(t)
	assert.Equal(t, uint32(1), second.slot(), "slot 0 rests")
	require.NoError(t, m.out.WriteMessage(id, proto.TypeExecExited, proto.ExecExited{Code: -1}))
	third := m.attach(t)
	assert.Equal(t, uint32(2), third.slot(), "one of two answers is missing")
	require.NoError(t, m.out.WriteMessage(ping, proto.TypePong, proto.Empty{}))
	require.NoError(t, m.out.WriteMessage(third.hs.IDs.First(), proto.TypePong, proto.Empty{})) // passes after it
	require.Equal(t, proto.TypePong, third.next(t).Type)
	fourth := m.attach(t)
	assert.Equal(t, uint32(0), fourth.slot())
	for _, p := range []*peer{second, third, fourth} {
		_ = p.Close()
	}
}

// A client that left nothing under way frees its slot at once.
func TestCleanSlotIsReusedAtOnce(t *testing.T) {
	m := startMute(t)
	for range 3 {
		p := m.attach(t)
		assert.Equal(t, uint32(0), p.slot())
		id := p.exec(t, 0, "x")
		m.expect(proto.TypeExecRequest)
		require.NoError(t, m.out.WriteMessage(id, proto.TypeExecExited, proto.ExecExited{}))
		require.Equal(t, proto.TypeExecExited, p.next(t).Type)
		require.NoError(t, p.out.WriteData(id, proto.TypeExecStdin, []byte("too late"))) // changes nothing
		m.leave(t, p)
	}
}

func TestSlotRestsNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startMute(t)
		p := m.attach(t)
		p.exec(t, 0, "sleep")
		_ = p.Close()
		synctest.Wait()
		time.Sleep(quarantine - time.Millisecond)
		assert.Equal(t, uint32(1), m.attach(t).slot())
		time.Sleep(time.Millisecond)
		assert.Equal(t, uint32(0), m.attach(t).slot())
	})
}

// When nothing else is left, the slot that has rested longest is used.
func TestRestingSlotsAreUsedWhenAllElseIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startMute(t)
		var all []*peer
		for range proto.MaxClients {
			p := m.attach(t)
			p.exec(t, 0, "sleep")
			all = append(all, p)
		}
		for _, n := range []int{70, 3, 90} {
			_ = all[n].Close()
			synctest.Wait()
			time.Sleep(time.Second)
		}
		for _, want := range []uint32{70, 3, 90} {
			assert.Equal(t, want, m.attach(t).slot())
		}
		ours, theirs := net.Pipe()
		m.Attach(theirs)
		_, err := ours.Read(make([]byte, 1))
		assert.Error(t, err, "now it is full")
	})
}

func TestOpenIDsAreBounded(t *testing.T) {
	var o openIDs
	for id := uint32(1); id <= maxOpen+10; id++ {
		require.True(t, o.isNew(id))
		require.False(t, o.isNew(id))
		o.add(id)
	}
	assert.Len(t, o.ids, maxOpen)
	for id := uint32(1); id <= maxOpen+10; id++ {
		o.end(id)
	}
	assert.False(t, o.none(), "what was not counted may be under way")
}
