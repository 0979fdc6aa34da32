package rng

import "time"

// minCost is what the smallest request counts as, in bytes.
const minCost = 64

// bucket bounds a flow of bytes to a rate, after a burst. It starts full.
type bucket struct {
	rate  int // bytes per second
	burst int // bytes

	empty time.Time // when the debt is paid off, if that is in the future
}

// wait is how long to wait until something may be taken, 0 for not at all. What is taken
// then may exceed the burst: it makes the next wait longer.
func (b *bucket) wait(now time.Time) time.Duration {
	// In this order: the difference of times that are far apart is the least Duration.
	return max(0, b.empty.Add(-b.time(b.burst)).Sub(now))
}

// take takes n bytes.
func (b *bucket) take(now time.Time, n int) {
	if b.empty.Before(now) {
		b.empty = now
	}
	b.empty = b.empty.Add(b.time(n))
}

func (b *bucket) time(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(b.rate)
}
