package blk

import (
	"sync"
	"sync/atomic"
)

// fake is a Backend in memory that a test can hold up and make fail.
type fake struct {
	mu   sync.Mutex
	data []byte
	log  []string // what was done, in order of its end

	readOnly bool
	err      error // of everything but Close

	reads, writes, flushes gateFunc
	closed                 atomic.Bool
	running                atomic.Int32 // calls under way
}

// gateFunc, unless it is nil, runs at the start of a call, without the lock.
type gateFunc func()

func newFake(sectors int) *fake { return &fake{data: make([]byte, sectors*SectorSize)} }

func (f *fake) begin(g gateFunc) {
	f.running.Add(1)
	if g != nil {
		g()
	}
	f.mu.Lock()
}

func (f *fake) end(what string) error {
	f.log = append(f.log, what)
	err := f.err
	f.mu.Unlock()
	f.running.Add(-1)
	return err
}

func (f *fake) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fake) done() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.log...)
}

func (f *fake) Size() uint64   { return uint64(len(f.data)) }
func (f *fake) ReadOnly() bool { return f.readOnly }

func (f *fake) ReadV(off uint64, dst [][]byte) error {
	f.begin(f.reads)
	for _, s := range dst {
		off += uint64(copy(s, f.data[off:]))
	}
	return f.end("read")
}

func (f *fake) WriteV(off uint64, src [][]byte) error {
	f.begin(f.writes)
	for _, s := range src {
		off += uint64(copy(f.data[off:], s))
	}
	return f.end("write")
}

func (f *fake) Flush() error {
	f.begin(f.flushes)
	return f.end("flush")
}

func (f *fake) Discard(off, n uint64) error {
	f.begin(nil)
	clear(f.data[off : off+n])
	return f.end("discard")
}

func (f *fake) WriteZeroes(off, n uint64, unmap bool) error {
	f.begin(nil)
	clear(f.data[off : off+n])
	if unmap {
		return f.end("unmap")
	}
	return f.end("zero")
}

func (f *fake) Close() error {
	f.closed.Store(true)
	return nil
}
