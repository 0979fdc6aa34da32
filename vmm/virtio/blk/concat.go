package blk

import (
	"errors"
	"io"
	"sync"
)

// concat is a read-only disk made of parts of files and of zeros.
type concat struct {
	parts []diskPart // ascending, without gaps
	size  uint64
	files []*file
	close sync.Once
}

// diskPart is what begins at start of the disk and ends where the next one begins.
type diskPart struct {
	start, end uint64
	file       *file // nil for zeros
	off        uint64
}

// add appends n bytes from off of f, or n zeros.
func (c *concat) add(f *file, off, n uint64) {
	start := c.size
	c.size += n
	if i := len(c.parts) - 1; i >= 0 {
		// Long files come in pieces of 2 GiB.
		if p := &c.parts[i]; p.file == f && (f == nil || p.off+(p.end-p.start) == off) {
			p.end = c.size
			return
		}
	}
	c.parts = append(c.parts, diskPart{start, c.size, f, off})
}

func (c *concat) Size() uint64 { return c.size }

func (c *concat) ReadOnly() bool { return true }

// find is the index of the part that off is in, len(c.parts) if there is none.
func (c *concat) find(off uint64) int {
	low, high := 0, len(c.parts)
	for low < high {
		if mid := (low + high) / 2; c.parts[mid].end <= off {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

func (c *concat) ReadV(off uint64, dst [][]byte) error {
	left := length(dst)
	for i, done := c.find(off), uint64(0); left > 0; i++ {
		if i == len(c.parts) {
			return io.ErrUnexpectedEOF
		}
		p := &c.parts[i]
		n := min(left, p.end-off)
		if p.file == nil {
			wipe(dst, done, n)
		} else if err := p.file.read(p.off+(off-p.start), dst, done, n); err != nil {
			return err
		}
		off, done, left = off+n, done+n, left-n
	}
	return nil
}

func (c *concat) TryReadV(off uint64, dst [][]byte) (attempt, error) {
	left := length(dst)
	for i, done := c.find(off), uint64(0); left > 0; i++ {
		if i == len(c.parts) {
			return attemptDone, io.ErrUnexpectedEOF
		}
		p := &c.parts[i]
		n := min(left, p.end-off)
		if p.file == nil {
			wipe(dst, done, n)
		} else if a, err := p.file.tryRead(p.off+(off-p.start), dst, done, n); a != attemptDone || err != nil {
			return a, err
		}
		off, done, left = off+n, done+n, left-n
	}
	return attemptDone, nil
}

// wipe clears n bytes of list after the first skip.
func wipe(list [][]byte, skip, n uint64) {
	for _, s := range list {
		if skip >= uint64(len(s)) {
			skip -= uint64(len(s))
			continue
		}
		s = s[skip:]
		skip = 0
		s = s[:min(uint64(len(s)), n)]
		clear(s)
		if n -= uint64(len(s)); n == 0 {
			return
		}
	}
}

func (c *concat) WriteV(uint64, [][]byte) error { return ErrReadOnly }

func (c *concat) Flush() error { return nil }

func (c *concat) Discard(uint64, uint64) error { return ErrReadOnly }

func (c *concat) WriteZeroes(uint64, uint64, bool) error { return ErrReadOnly }

func (c *concat) Close() (err error) {
	c.close.Do(func() {
		for _, f := range c.files {
			err = errors.Join(err, f.f.Close())
		}
	})
	return err
}
