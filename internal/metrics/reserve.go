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

// Use tells which slots are in use.
type Use struct {
	Alive    func(pid int) bool       // whether a runtime lives
	Starting func(sandbox int32) bool // whether somebody may be starting a sandbox
}

// Reserve takes a slot for a sandbox that is about to start: a free one, else the one of
// a runtime that has ended, or that was killed, else the one of a controller that was
// killed before it started its runtime. Errors wrap [ErrFull], [ErrBusy] or, if another
// controller was faster, [ErrGeneration].
func (r *Registry) Reserve(o Owner, use Use) (Reservation, error) {
	for _, want := range []State{Free, Stale, Active, Reserved} {
		for i := range r.capacity {
			generation, ok := r.take(r.slot(i), want, use)
			if !ok {
				continue
			}
			v := Reservation{Slot: i, Generation: generation}
			if err := r.slot(i).reset(o, generation); err != nil {
				r.Free(v)
				return Reservation{}, err
			}
			return v, nil
		}
	}
	return Reservation{}, fmt.Errorf("%w: %d", ErrFull, r.capacity)
}

// take makes a slot in state want a reserved one of a new generation, if nobody uses it.
func (r *Registry) take(w words, want State, use Use) (generation uint64, ok bool) {
	old := w.u64(slotGeneration).Load()
	switch {
	case State(w.u32(slotState).Load()) != want,
		want == Active && use.Alive(int(int32(w.u32(slotPID).Load()))),
		want == Reserved && use.Starting(int32(w.u32(slotSandboxID).Load())):
		return 0, false
	}
	generation = r.nextGeneration()
	if want == Reserved { // the state does not change: whoever changes the generation has it
		return generation, w.u64(slotGeneration).CompareAndSwap(old, generation)
	}
	if !w.u32(slotState).CompareAndSwap(uint32(want), uint32(Reserved)) {
		return 0, false // somebody was faster
	}
	w.u64(slotGeneration).Store(generation)
	return generation, true
}

// reset writes a new owner over all that the last one left.
func (w words) reset(o Owner, generation uint64) error {
	w.settle()
	if seq := w.u64(slotSequence); seq.Load()%2 != 0 {
		seq.Add(1) // its writer was killed; nobody else holds it in this state
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
