package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// openWait is how long Open waits for the process that makes the segment.
const openWait = 5 * time.Second

// Registry is a mapped segment. Its methods are safe for concurrent use, but for Close,
// which must come last.
//
// Processes of one user share it; one that shortens the file makes all others crash, as
// it could in many simpler ways.
type Registry struct {
	mem      words
	capacity uint32

	close sync.Once
	err   error
}

// Open maps the segment of that name, as [Name] or a launch configuration gives it. It
// waits up to 5 s for a process that is making it. Errors wrap [ErrNotFound],
// [ErrFormat], [ErrOwner] or errors.ErrUnsupported.
func Open(name string) (*Registry, error) { return open(shmDir, name, openWait) }

// Create maps the segment of that name, and makes it with so many slots if there is none;
// 0 is 1024, more than 65536 are that.
func Create(name string, capacity uint32) (*Registry, error) {
	if capacity == 0 {
		capacity = defaultCapacity
	}
	return create(shmDir, name, min(capacity, maxCapacity))
}

func create(dir, name string, capacity uint32) (*Registry, error) {
	for {
		r, err := open(dir, name, openWait)
		if !errors.Is(err, ErrNotFound) {
			return r, err
		}
		size := int64(headerLen) + int64(capacity)*slotLen
		err = createSegment(dir, name, size, func(w words) { initialise(w, capacity, time.Now()) })
		if err != nil {
			return nil, err
		}
	}
}

// initialise writes the header; slots begin as zeros.
func initialise(w words, capacity uint32, now time.Time) {
	w.u64(offMagic).Store(magic)
	w.u32(offVersion).Store(version)
	w.u32(offHeaderLen).Store(headerLen)
	w.u32(offSlotLen).Store(slotLen)
	w.u32(offCapacity).Store(capacity)
	w.u64(offCreatedAt).Store(uint64(now.UnixMilli()))
	w.u32(offReady).Store(ready)
}

func open(dir, name string, wait time.Duration) (*Registry, error) {
	file, ok := strings.CutPrefix(name, "/")
	if !ok || file == "" || file == "." || file == ".." || len(file) > 255 || strings.ContainsAny(file, "/\x00") {
		return nil, fmt.Errorf("%w: %q is no name of a segment", ErrNotFound, name)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		r, err := tryOpen(dir, file)
		if errors.Is(err, errUnfinished) && time.Now().Before(deadline) {
			continue
		}
		if errors.Is(err, ErrFormat) {
			err = fmt.Errorf("%w: when no sandbox of this home runs, remove %s", err, filepath.Join(dir, file))
		}
		return r, err
	}
}

// errUnfinished reports a segment that its maker may still be working on.
var errUnfinished = fmt.Errorf("%w: it is not finished", ErrFormat)

func tryOpen(dir, file string) (*Registry, error) {
	f, err := openSegment(dir, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: /%s", ErrNotFound, file)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case st.Size() < headerLen:
		return nil, errUnfinished
	case st.Size() > maxSegmentSize:
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, st.Size())
	}
	mem, err := mapSegment(f, st.Size())
	if err != nil {
		return nil, err
	}
	r := &Registry{mem: mem, capacity: mem.u32(offCapacity).Load()}
	if err := r.check(st.Size()); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// check compares the header with the layout and with the file's size, which alone is
// trusted from then on.
func (r *Registry) check(size int64) error {
	w := r.mem
	switch {
	case w.u32(offReady).Load() != ready:
		return errUnfinished
	case w.u64(offMagic).Load() != magic:
		return fmt.Errorf("%w: magic number %#x", ErrFormat, w.u64(offMagic).Load())
	case w.u32(offVersion).Load() != version:
		return fmt.Errorf("%w: version %d", ErrFormat, w.u32(offVersion).Load())
	case w.u32(offHeaderLen).Load() != headerLen, w.u32(offSlotLen).Load() != slotLen:
		return fmt.Errorf("%w: header of %d and slots of %d bytes", ErrFormat, w.u32(offHeaderLen).Load(), w.u32(offSlotLen).Load())
	case r.capacity == 0 || r.capacity > maxCapacity || int64(headerLen)+int64(r.capacity)*slotLen > size:
		return fmt.Errorf("%w: %d slots in %d bytes", ErrFormat, r.capacity, size)
	}
	return nil
}

// Capacity is the number of slots.
func (r *Registry) Capacity() int { return int(r.capacity) }

// Close unmaps the segment. It is idempotent.
func (r *Registry) Close() error {
	r.close.Do(func() { r.err = unmapSegment(r.mem) })
	return r.err
}

// slot is the memory of slot i, which must be below the capacity.
func (r *Registry) slot(i uint32) words {
	off := headerLen + int(i)*slotLen
	return r.mem[off : off+slotLen]
}

// nextGeneration takes a generation that nobody had.
func (r *Registry) nextGeneration() uint64 { return r.mem.u64(offGeneration).Add(1) }
