package metrics

import (
	"encoding/binary"
	"fmt"
)

// Reservation names a use of a slot.
type Reservation struct {
	Slot       uint32
	Generation uint64
}

// Owner is whom a slot is reserved for.
type Owner struct {
	SandboxID   int32
	Name        string // cut after 128 bytes
	MemoryLimit uint64 // bytes
}

// Reserve takes a slot for a sandbox that is about to start: a free one, else the one of
// a runtime that has ended, or that was killed according to alive. Errors wrap [ErrFull]
// or [ErrBusy].
func (r *Registry) Reserve(o Owner, alive func(pid int) bool) (Reservation, error) {
	for _, want := range []State{Free, Stale, Active} {
		for i := range r.capacity {
			w := r.slot(i)
			if State(w.u32(slotState).Load()) != want || want == Active && alive(int(int32(w.u32(slotPID).Load()))) {
				continue
			}
			if !w.u32(slotState).CompareAndSwap(uint32(want), uint32(Reserved)) {
				continue // somebody was faster
			}
			generation := r.nextGeneration()
			w.u64(slotGeneration).Store(generation)
			if err := w.reset(o, generation); err != nil {
				w.u32(slotState).CompareAndSwap(uint32(Reserved), uint32(Free))
				return Reservation{}, err
			}
			return Reservation{Slot: i, Generation: generation}, nil
		}
	}
	return Reservation{}, fmt.Errorf("%w: %d", ErrFull, r.capacity)
}

// reset writes a new owner over all that the last one left.
func (w words) reset(o Owner, generation uint64) error {
	w.settle()
	if seq := w.u64(slotSequence); seq.Load()%2 != 0 {
		seq.Add(1) // its writer was killed; nobody else can hold it in this state
	}
	if err := w.lock(generation); err != nil {
		return err
	}
	defer w.unlock()
	w.u32(slotSandboxID).Store(uint32(o.SandboxID))
	w.u32(slotRunID).Store(0)
	w.u32(slotPID).Store(0)
	w.u64(slotStartedAt).Store(0)
	w.u64(slotSampledAt).Store(0)
	w.u32(slotKnown).Store(0)
	w.u64(slotMemoryLimit).Store(o.MemoryLimit)
	for off := slotVCPUTime; off < slotNameLen; off += 8 {
		w.u64(off).Store(0)
	}
	var name [maxName]byte
	n := copy(name[:], o.Name)
	w.u64(slotNameLen).Store(uint64(n)) // the bytes after the length are unused
	for i := range slotNameWords {
		w.u64(slotName + 8*i).Store(binary.NativeEndian.Uint64(name[8*i:]))
	}
	return nil
}

// Free gives a reservation back whose runtime did not start. One that was activated, or
// is somebody else's by now, is left alone.
func (r *Registry) Free(v Reservation) {
	if v.Slot >= r.capacity {
		return
	}
	w := r.slot(v.Slot)
	if w.owned(v.Generation) != nil || !w.u32(slotState).CompareAndSwap(uint32(Reserved), uint32(Free)) {
		return
	}
	w.u64(slotGeneration).Store(r.nextGeneration())
}
