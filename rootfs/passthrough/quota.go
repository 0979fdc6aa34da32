//go:build linux

package passthrough

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// quota bounds by how much the guest makes the files of a share longer, in bytes of their
// lengths. Growth is charged before it happens. What is deleted or cut is not noticed at
// once: only when the limit is reached is everything counted again.
type quota struct {
	on    bool
	limit int64 // if on
	used  atomic.Int64
	count func() (int64, bool) // all bytes of the share, false if they cannot be told

	mu sync.Mutex // one count at a time
	// baseline is what the share had before the guest changed it; once begun, known or
	// not. Protected by mu.
	baseline int64
	known    bool
	begun    atomic.Bool
	done     sync.WaitGroup // the first count
	next     time.Time      // when the next count may be; protected by mu
}

// baselineWait is how long the guest's first change waits for the count of what there
// was before it.
const baselineWait = 250 * time.Millisecond

// begin counts the baseline before the guest's first change, or, if that takes long,
// beside it. What the guest adds meanwhile may be part of it or not; it is taken to be,
// which makes the limit tighter by that much if ever everything is counted again.
func (q *quota) begin() {
	if !q.on || q.begun.Swap(true) {
		return
	}
	counted := make(chan struct{})
	q.done.Go(func() {
		defer close(counted)
		q.mu.Lock()
		defer q.mu.Unlock()
		before := q.used.Load()
		total, ok := q.count()
		q.baseline, q.known = max(total-(q.used.Load()-before), 0), ok
	})
	select {
	case <-counted:
	case <-time.After(baselineWait):
	}
}

// figures are the size of the share and what is free of it, as the guest sees them.
func (q *quota) figures() (total, free uint64) {
	q.begin()
	baseline := int64(0)
	if q.mu.TryLock() { // else a count is under way
		baseline = q.baseline
		q.mu.Unlock()
	}
	left := max(q.limit-q.used.Load(), 0)
	return uint64(baseline) + uint64(q.limit), uint64(left)
}

// charge takes n bytes of the quota, and returns how many to refund if they are not
// needed.
func (q *quota) charge(n uint64) (uint64, syscall.Errno) {
	if !q.on || n == 0 {
		return 0, 0
	}
	q.begin()
	if q.take(n) || q.recount() && q.take(n) {
		return n, 0
	}
	return 0, unix.ENOSPC
}

func (q *quota) take(n uint64) bool {
	for {
		used := q.used.Load()
		if n > uint64(max(q.limit-used, 0)) {
			return false
		}
		if q.used.CompareAndSwap(used, used+int64(n)) {
			return true
		}
	}
}

func (q *quota) refund(n uint64) {
	if n > 0 {
		q.used.Add(-int64(n))
	}
}

// extend charges what makes a file, of which fd is open, end bytes long.
func (q *quota) extend(n *node, end uint64, fd int) (uint64, syscall.Errno) {
	if !q.on {
		return 0, 0
	}
	known := n.size.Load()
	if known < 0 {
		var st unix.Statx_t
		if errno := statFD(fd, &st); errno != 0 {
			return 0, errno
		}
		known = int64(st.Size)
		n.size.Store(known)
	}
	if end <= uint64(known) {
		return 0, 0
	}
	return q.charge(end - uint64(known))
}

const (
	// recountPause is the least time between two counts, and recountShare how many times
	// as long as a count the time to the next one is.
	recountPause = time.Second
	recountShare = 10
)

// recount finds out how much the guest has really added, and reports whether it could.
func (q *quota) recount() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	start := time.Now()
	if !q.known || start.Before(q.next) {
		return false
	}
	before := q.used.Load()
	total, ok := q.count()
	q.next = time.Now().Add(max(recountPause, recountShare*time.Since(start)))
	if !ok {
		return false
	}
	q.used.Add(total - q.baseline - before) // negative if the guest has deleted what was there before it
	return true
}

// learnSize, setSize and grew keep what the quota knows of a file's length.
func (n *node) learnSize(st *unix.Statx_t) { n.setSize(st.Size) }

func (n *node) setSize(size uint64) { n.size.Store(int64(min(size, 1<<62))) }

// grew says that a file is now at least end bytes long, or, if it was written at its end,
// that nobody knows.
func (n *node) grew(end uint64, atEnd bool) {
	if atEnd {
		n.size.Store(-1)
		return
	}
	for {
		old := n.size.Load()
		if old < 0 || int64(end) <= old || n.size.CompareAndSwap(old, int64(end)) {
			return
		}
	}
}
