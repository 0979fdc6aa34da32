package relay

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	agent "github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/runtime/guesttest"
)

// accepting is a listener with one client to accept.
type accepting struct {
	pipeListener
	conn chan net.Conn
}

func (l *accepting) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, &guesttest.Agent{})
		l := &accepting{pipeListener{make(chan struct{})}, make(chan net.Conn, 1)}
		served := make(chan error, 1)
		go func() { served <- w.Serve(l) }()
		ours, theirs := net.Pipe()
		l.conn <- theirs
		p := &peer{Conn: ours, in: proto.NewReader(ours), out: proto.NewWriter(ours)}
		var err error
		p.hs, err = p.in.ReadHandshake()
		require.NoError(t, err)
		own := w.attach(t)
		cat := p.exec(t, 0, "cat")
		assert.Equal(t, proto.TypeExecStarted, p.next(t).Type)

		w.Pause("it sleeps")
		id := p.exec(t, 1, "echo", "hello")
		m := p.next(t)
		assert.Equal(t, id, m.ID)
		require.Equal(t, proto.TypeError, m.Type)
		var refusal proto.CoreError
		require.NoError(t, m.Decode(&refusal))
		assert.Equal(t, proto.CoreError{Kind: agent.KindPaused, Message: "it sleeps"}, refusal)
		late := p.hs.IDs.First() + 7 // of a client that first says how much it can take
		require.NoError(t, p.out.WriteMessage(late, proto.TypeFlow, proto.Flow{Open: true, Input: true}))
		assert.Equal(t, proto.TypeError, p.next(t).Type)
		p.exec(t, 7, "echo", "too late")
		require.NoError(t, p.out.WriteData(cat, proto.TypeExecStdin, []byte("x")))
		assert.Equal(t, proto.TypeExecStdout, p.next(t).Type, "what is under way is passed on")
		own.exec(t, 0, "echo", "own")
		_, data := own.until(t)
		assert.Equal(t, "own\n", data)

		time.Sleep(time.Hour + clockPoll/2) // between two looks at the clock
		w.Resume()
		began := time.Now()
		require.NoError(t, p.out.WriteData(late, proto.TypeExecStdin, nil))
		p.exec(t, 8, "echo", "hello")
		_, data = p.until(t)
		assert.Equal(t, "hello\n", data)
		synctest.Wait()
		var times []time.Time
		for _, m := range w.agent.Received() {
			assert.NotEqual(t, late, m.ID, "what was refused does not run after all")
			if m.Type == proto.TypeClockSync {
				var c proto.ClockSync
				require.NoError(t, m.Decode(&c))
				times = append(times, time.Unix(0, int64(c.UnixTimeNanos)))
			}
		}
		require.Len(t, times, 2, "no time while it is paused, and one at once afterwards")
		assert.Zero(t, times[1].Sub(began))
		_ = ours.Close()
		_ = own.Close()
		close(l.closed)
		assert.NoError(t, <-served)
	})
}
