package net

import (
	"fmt"
	"math"
	"time"
)

// MaxRefill bounds Bucket.Refill.
const MaxRefill = 24 * time.Hour

// Bucket bounds a flow to Size in every Refill, after a burst. It starts full.
type Bucket struct {
	Size   uint64
	Refill time.Duration // up to MaxRefill
	// Burst comes before anything else, once.
	Burst uint64
}

// Limit bounds the frames of one direction; nil buckets do not.
type Limit struct {
	Bandwidth *Bucket // bytes of frames
	Ops       *Bucket // frames
}

func (l *Limit) validate(direction string) error {
	if l == nil {
		return nil
	}
	if l.Bandwidth == nil && l.Ops == nil {
		return fmt.Errorf("%w: the limit of %s bounds neither bytes nor frames", ErrConfig, direction)
	}
	for _, b := range [...]*Bucket{l.Bandwidth, l.Ops} {
		if b != nil && (b.Size == 0 || b.Refill <= 0 || b.Refill > MaxRefill) {
			return fmt.Errorf("%w: the limit of %s is %d in %s: choose at least 1, in up to %s", ErrConfig, direction, b.Size, b.Refill, MaxRefill)
		}
	}
	return nil
}

// limiter is a Limit at work. Its zero value bounds nothing. It belongs to one goroutine
// at a time.
type limiter struct {
	buckets [2]bucket // bytes, frames
	limited bool
}

func newLimiter(l *Limit) (m limiter) {
	if l == nil {
		return m
	}
	m.limited = true
	for i, b := range [...]*Bucket{l.Bandwidth, l.Ops} {
		if b != nil {
			m.buckets[i] = bucket{size: int64(min(b.Size, math.MaxInt64)), refill: b.Refill, burst: b.Burst}
		}
	}
	return m
}

// wait is how long no frame may pass, 0 if one may now.
func (m *limiter) wait() (d time.Duration) {
	if !m.limited {
		return 0
	}
	now := time.Now()
	for i := range m.buckets {
		d = max(d, m.buckets[i].wait(now))
	}
	return d
}

// take counts a frame of n bytes, however large.
func (m *limiter) take(n uint64) {
	if !m.limited {
		return
	}
	now := time.Now()
	m.buckets[0].take(now, n)
	m.buckets[1].take(now, 1)
}

// bucket is a Bucket at work; one of size 0 is none.
type bucket struct {
	size   int64
	refill time.Duration
	burst  uint64

	full time.Time // when it is full again, if that is in the future
}

func (b *bucket) wait(now time.Time) time.Duration {
	if b.size == 0 || b.burst > 0 {
		return 0
	}
	return max(0, b.full.Add(-b.refill).Sub(now))
}

func (b *bucket) take(now time.Time, n uint64) {
	if b.size == 0 {
		return
	}
	once := min(n, b.burst)
	b.burst -= once
	if n -= once; n == 0 {
		return
	}
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(time.Duration(float64(n) * float64(b.refill) / float64(b.size)))
}
