package registry

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// backoff counts attempts in a row and pauses between them.
type backoff struct {
	Retry
	failed int
}

// next decides whether another attempt is to follow err, and waits for it. It returns nil
// if so, else err, or ctx's error if that ended.
func (b *backoff) next(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if b.failed++; b.failed >= b.Attempts || !transient(err) {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(b.pause(err)):
		return nil
	}
}

// pause is First, doubled each time and spread by half, at least as long as the server
// asks for, and never more than Most.
func (b *backoff) pause(err error) time.Duration {
	wait := min(b.First<<min(b.failed-1, 20), b.Most)
	if wait > 0 {
		wait = wait/2 + rand.N(wait/2+1)
	}
	var status *StatusError
	if errors.As(err, &status) {
		wait = max(wait, status.after)
	}
	return min(wait, b.Most)
}

// patience is how long small requests are repeated: where each attempt waits for a
// timeout, as without a network, the user should not wait for all of them.
const patience = 20 * time.Second

// retry calls try until it succeeds, fails for good, or has failed too often or too long.
func (c *Client) retry(ctx context.Context, what string, try func() error) error {
	b := backoff{Retry: c.config.Retry}
	for begin := time.Now(); ; {
		err := try()
		if err == nil || unreachable(err) || ctx.Err() == nil && time.Since(begin) > patience {
			return err
		}
		if final := b.next(ctx, err); final != nil {
			return final
		}
		c.log.Info("repeating request", "what", what, "attempt", b.failed+1, "error", err)
	}
}
