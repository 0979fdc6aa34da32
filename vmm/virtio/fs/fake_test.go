package fs

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
)

// fake is a Backend that answers each request with its own readable bytes, unless a test
// says otherwise.
type fake struct {
	// gates are functions that run at the start of a request, by operation. They are set
	// before the first request.
	gates map[uint32]func()

	running atomic.Int32 // Serve under way
	most    atomic.Int32 // the most of them
	held    atomic.Bool  // requests of opSetLockWait must wait
	cold    atomic.Bool  // requests of opRead wait for a disk

	mu       sync.Mutex
	order    []uint64 // requests, by the ends of them
	resets   int
	closed   int
	restored []byte
	err      error // of SaveState, RestoreState and Close
}

const (
	opLookup      = 1
	opForget      = 2
	opRead        = 15
	opSetLockWait = 33
)

func (f *fake) Serve(header *[HeaderSize]byte, in, out [][]byte, patient bool) (uint32, bool) {
	n := f.running.Add(1)
	defer f.running.Add(-1)
	for old := f.most.Load(); n > old && !f.most.CompareAndSwap(old, n); old = f.most.Load() {
	}
	op := binary.LittleEndian.Uint32(header[4:])
	if gate := f.gates[op]; gate != nil {
		gate()
	}
	if op == opSetLockWait && f.held.Load() || op == opRead && f.cold.Load() && !patient {
		return 0, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = append(f.order, binary.LittleEndian.Uint64(header[8:]))
	if op == opForget {
		return 0, false
	}
	var all []byte
	for _, s := range in {
		all = append(all, s...)
	}
	done := 0
	for _, s := range out {
		done += copy(s, all[done:])
	}
	return uint32(done), false
}

func (f *fake) ended() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]uint64(nil), f.order...)
}

func (f *fake) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resets++
}

func (f *fake) SaveState() ([]byte, error) { return []byte("session"), f.err }

func (f *fake) RestoreState(b []byte) error {
	f.restored = append([]byte(nil), b...)
	return f.err
}

func (f *fake) Close() error {
	f.closed++
	return f.err
}

var errFake = errors.New("the backend cannot")
