package flow

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// told decodes what a guest was told, by id.
func told(t *testing.T, b []byte) map[uint32]proto.Flow {
	t.Helper()
	got := map[uint32]proto.Flow{}
	for in := proto.NewReader(bytes.NewReader(b)); ; {
		f, err := in.ReadFrame()
		if errors.Is(err, io.EOF) {
			return got
		}
		require.NoError(t, err)
		m, err := proto.ParseMessage(f)
		require.NoError(t, err)
		var p proto.Flow
		require.NoError(t, m.Decode(&p))
		assert.Equal(t, proto.TypeFlow, m.Type)
		assert.NotContains(t, got, m.ID, "each session once")
		got[m.ID] = p
	}
}

// TestTeller: changes gather while the guest takes nothing, and only the last of a session
// counts.
func TestTeller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teller, done := New(proto.HopClient), make(chan struct{})
		written, open := make(chan []byte, 10), make(chan struct{})
		ran := make(chan error, 1)
		go func() {
			ran <- teller.Run(done, func(encode func([]byte) ([]byte, error)) error {
				<-open
				b, err := encode(nil)
				written <- b
				return err
			})
		}()
		limit := func(n uint64) proto.Flow { return proto.Flow{Hop: proto.HopClient, Limit: n} }
		w, v := NewWindow(100), NewWindow(100)
		b, err := teller.AppendOpen(nil, 1, w, false)
		require.NoError(t, err)
		assert.Equal(t, map[uint32]proto.Flow{1: {Hop: proto.HopClient, Limit: 100, Open: true}}, told(t, b))
		teller.Taken(1, w, 25)
		synctest.Wait() // Run is in write
		teller.Taken(2, v, 30)
		teller.Taken(2, v, 24) // too little to speak of
		teller.Taken(1, w, 100)
		teller.Taken(3, NewWindow(1), 1)
		teller.Forget(3)
		teller.Forget(4)
		close(open)
		synctest.Wait()
		assert.Equal(t, map[uint32]proto.Flow{1: limit(225), 2: limit(130)}, told(t, <-written))
		teller.Unlimit(1)
		teller.Taken(2, v, 1)
		synctest.Wait()
		all := <-written
		for len(written) > 0 {
			all = append(all, <-written...)
		}
		assert.Equal(t, map[uint32]proto.Flow{1: limit(math.MaxUint64), 2: limit(155)}, told(t, all))
		close(done)
		assert.NoError(t, <-ran)
	})
}

func TestTellerEndsWithItsGuest(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	teller := New(proto.HopRelay)
	teller.Unlimit(1)
	assert.ErrorIs(t, teller.Run(nil, func(func([]byte) ([]byte, error)) error { return boom }), boom)
}
