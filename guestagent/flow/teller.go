package flow

import (
	"math"
	"sync"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Teller raises the limits of sessions. Whoever took output only notes the new limit here:
// the guest may be waiting for the same goroutine. Methods may be called concurrently.
type Teller struct {
	hop proto.Hop

	mu      sync.Mutex
	changes map[uint32]uint64 // by id, limits that the guest does not know yet; protected by mu

	wake chan struct{} // there may be changes
}

// New returns a Teller that speaks for hop.
func New(hop proto.Hop) *Teller {
	return &Teller{hop: hop, changes: make(map[uint32]uint64), wake: make(chan struct{}, 1)}
}

// AppendOpen appends the frame that opens w for the session of the request that follows.
// With input it asks the guest for limits of the session's input as well.
func (t *Teller) AppendOpen(dst []byte, id uint32, w *Window, input bool) ([]byte, error) {
	return proto.AppendMessage(dst, id, proto.TypeFlow, proto.Flow{Hop: t.hop, Limit: w.told, Open: true, Input: input})
}

// Taken notes that n bytes of frames of session id have been taken.
func (t *Teller) Taken(id uint32, w *Window, n int) {
	if limit, tell := w.Take(n); tell {
		t.raise(id, limit)
	}
}

// Unlimit lets session id send whatever it has to.
func (t *Teller) Unlimit(id uint32) { t.raise(id, math.MaxUint64) }

func (t *Teller) raise(id uint32, limit uint64) {
	t.mu.Lock()
	t.changes[id] = limit
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Forget drops what the guest was not told yet of a session that has ended. Its id may
// then be used again.
func (t *Teller) Forget(id uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.changes, id)
}

// Run tells the guest of changes until done is closed, or until write fails, whose error
// it returns. write must call its argument, which appends frames to dst, with whatever
// lock orders the frames to the guest: what is forgotten before is then not told later.
func (t *Teller) Run(done <-chan struct{}, write func(encode func(dst []byte) ([]byte, error)) error) error {
	for {
		select {
		case <-done:
			return nil
		case <-t.wake:
			if err := write(t.encode); err != nil {
				return err
			}
		}
	}
}

// encode appends a frame for each change.
func (t *Teller) encode(dst []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, limit := range t.changes {
		var err error
		if dst, err = proto.AppendMessage(dst, id, proto.TypeFlow, proto.Flow{Hop: t.hop, Limit: limit}); err != nil {
			return dst, err
		}
		delete(t.changes, id)
	}
	return dst, nil
}
