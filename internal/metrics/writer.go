package metrics

import (
	"fmt"
	"math"
	"time"
)

// Run is what a runtime adds to its sandbox's slot.
type Run struct {
	ID        int32 // of the run row
	PID       int
	StartedAt time.Time
}

// Sample is what is known of a sandbox at one time. Counters count from its start.
type Sample struct {
	At           time.Time
	Known        Field         // which of the fields below that may be unknown are not
	VCPUTime     time.Duration // of all virtual processors together
	CPUPercent   float32       // 100 is one whole processor
	MemoryTotal  uint64        // bytes, as all below: the new Owner.MemoryLimit; 0 leaves it
	MemoryUsed   uint64
	MemoryFree   uint64 // what the guest could still use (MemoryAvailable)
	HostResident uint64 // host memory behind the guest's
	DiskRead     uint64
	DiskWritten  uint64
	NetReceived  uint64 // by the guest
	NetSent      uint64
	UpperUsed    uint64 // of the writable layer, inside
	UpperFree    uint64
	UpperOnHost  uint64 // what the writable layer occupies outside
}

// Writer is a runtime's hold on its slot. Its methods must not be called concurrently.
type Writer struct {
	registry   *Registry
	words      words
	generation uint64
}

// Activate takes over a reservation for a run. It fails with [ErrGeneration] if the slot
// is somebody else's by now; after any failure the reservation is given back.
func (r *Registry) Activate(v Reservation, run Run) (*Writer, error) {
	if v.Slot >= r.capacity {
		return nil, fmt.Errorf("%w: slot %d of %d", ErrFormat, v.Slot, r.capacity)
	}
	w := r.slot(v.Slot)
	if err := w.activate(v.Generation, run); err != nil {
		r.Free(v)
		return nil, err
	}
	if !w.u32(slotState).CompareAndSwap(uint32(Reserved), uint32(Active)) {
		return nil, fmt.Errorf("%w: it is not reserved any more", ErrGeneration)
	}
	return &Writer{registry: r, words: w, generation: v.Generation}, nil
}

func (w words) activate(generation uint64, run Run) error {
	if err := w.lock(generation); err != nil {
		return err
	}
	defer w.unlock()
	w.u32(slotRunID).Store(uint32(run.ID))
	w.u32(slotPID).Store(uint32(run.PID))
	w.u64(slotStartedAt).Store(uint64(run.StartedAt.UnixMilli()))
	return nil
}

// Sample publishes s. It fails with [ErrGeneration] once the slot is somebody else's,
// and then for ever.
func (wr *Writer) Sample(s *Sample) error {
	w := wr.words
	if err := w.lock(wr.generation); err != nil {
		return err
	}
	defer w.unlock()
	w.u64(slotSampledAt).Store(uint64(s.At.UnixMilli()))
	w.u32(slotKnown).Store(uint32(s.Known))
	w.u64(slotVCPUTime).Store(uint64(s.VCPUTime))
	w.u32(slotCPUPercent).Store(math.Float32bits(s.CPUPercent))
	if s.MemoryTotal != 0 {
		w.u64(slotMemoryLimit).Store(s.MemoryTotal)
	}
	w.u64(slotMemoryUsed).Store(s.MemoryUsed)
	w.u64(slotMemoryFree).Store(s.MemoryFree)
	w.u64(slotHostResident).Store(s.HostResident)
	w.u64(slotDiskRead).Store(s.DiskRead)
	w.u64(slotDiskWritten).Store(s.DiskWritten)
	w.u64(slotNetReceived).Store(s.NetReceived)
	w.u64(slotNetSent).Store(s.NetSent)
	w.u64(slotUpperUsed).Store(s.UpperUsed)
	w.u64(slotUpperFree).Store(s.UpperFree)
	w.u64(slotUpperOnHost).Store(s.UpperOnHost)
	return nil
}

// Release gives the slot up: as Stale, with the last sample readable, or as Free after a
// start that failed. A slot that is somebody else's is left alone.
func (wr *Writer) Release(as State) {
	w := wr.words
	if w.owned(wr.generation) != nil {
		return
	}
	w.u64(slotGeneration).Store(wr.registry.nextGeneration())
	w.settle()
	w.u32(slotState).Store(uint32(as))
}
