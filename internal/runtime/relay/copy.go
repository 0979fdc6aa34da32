package relay

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Renew tells a guest that is a copy of one saved before it booted what it must not have in
// common with others. It comes before Boot.
func (r *Relay) Renew() error { return r.renew(&proto.Renew{}) }

// Rejoin is in place of Boot for a guest that is a copy of one that served. n says what the
// copy is to be; the time and the entropy are filled in, in a copy of n. It returns what
// Boot does.
func (r *Relay) Rejoin(ctx context.Context, n *proto.Renew) (proto.Ready, error) {
	return r.within(ctx, func() (proto.Ready, error) {
		if err := r.renew(n); err != nil {
			return proto.Ready{}, fmt.Errorf("send the renewal: %w", err)
		}
		return r.awaitReady(func(proto.Message) error {
			return fmt.Errorf("%w: a guest that had booted boots", ErrProtocol)
		})
	})
}

// renew sends n with the time and entropy of its own.
func (r *Relay) renew(n *proto.Renew) error {
	own := *n
	own.Entropy = make([]byte, proto.RenewEntropy)
	_, _ = rand.Read(own.Entropy) // never fails
	own.UnixTimeNanos = uint64(time.Now().UnixNano())
	return r.Send(0, proto.TypeRenew, own)
}
