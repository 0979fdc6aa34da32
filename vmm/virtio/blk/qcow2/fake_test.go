package qcow2

import (
	"io"
	"sync"
	"syscall"

	"github.com/gomsb/gomsb/vmm/virtio/blk"
)

// change is one change of a memory file; data nil is a new length, sync a flush.
type change struct {
	off  uint64
	data []byte
	sync bool
}

// memory is a store that remembers all changes.
type memory struct {
	mu      sync.Mutex
	b       []byte
	record  bool
	log     []change
	size    uint64 // at the time of open
	budget  int    // writes until ENOSPC if limited
	limited bool
}

func (f *memory) Size() uint64 { return f.size }

func (f *memory) Read(off uint64, dst [][]byte, skip, n uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off+n > uint64(len(f.b)) {
		return io.ErrUnexpectedEOF
	}
	b := f.b[off : off+n]
	for _, s := range dst {
		if skip >= uint64(len(s)) {
			skip -= uint64(len(s))
			continue
		}
		b = b[copy(s[skip:], b):]
		skip = 0
	}
	return nil
}

func (f *memory) Write(off uint64, src [][]byte, skip, n uint64) error {
	var b []byte
	for _, s := range src {
		b = append(b, s...)
	}
	return f.put(off, b[skip:skip+n])
}

func (f *memory) put(off uint64, b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limited {
		if f.budget == 0 {
			return syscall.ENOSPC
		}
		f.budget--
	}
	if need := off + uint64(len(b)); need > uint64(len(f.b)) {
		f.b = append(f.b, make([]byte, need-uint64(len(f.b)))...)
	}
	copy(f.b[off:], b)
	if f.record {
		f.log = append(f.log, change{off: off, data: append([]byte{}, b...)})
	}
	return nil
}

func (f *memory) Zero(off, n uint64) error { return f.put(off, make([]byte, n)) }

func (f *memory) Grow(size uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size > 1<<30 {
		return syscall.EFBIG
	}
	if size > uint64(len(f.b)) {
		f.b = append(f.b, make([]byte, size-uint64(len(f.b)))...)
	}
	if f.record {
		f.log = append(f.log, change{off: size})
	}
	return nil
}

func (f *memory) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.record {
		f.log = append(f.log, change{sync: true})
	}
	return nil
}

func (f *memory) Close() error { return nil }

func newMemory(b []byte) *memory { return &memory{b: b, size: uint64(len(b))} }

var _ store = (*blk.File)(nil)
