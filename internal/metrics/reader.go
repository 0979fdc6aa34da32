package metrics

import (
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"time"
)

// Entry is one slot as read.
type Entry struct {
	Reservation
	State State
	Owner
	Run    // zero while reserved
	Sample // its At is zero before the first sample
}

// readTries bounds how often a slot is read again because it changed meanwhile.
const readTries = 1000

// Read returns slot i. It fails with [ErrBusy] if the slot is being written whenever it
// is looked at, which only a writer that was killed half-way makes last.
func (r *Registry) Read(i uint32) (Entry, error) {
	if i >= r.capacity {
		return Entry{}, ErrNotFound
	}
	w := r.slot(i)
	for range readTries {
		seq, generation := w.u64(slotSequence).Load(), w.u64(slotGeneration).Load()
		if seq%2 == 0 {
			e := w.entry()
			if w.u64(slotSequence).Load() == seq && w.u64(slotGeneration).Load() == generation {
				e.Reservation = Reservation{Slot: i, Generation: generation}
				return e, nil
			}
		}
		runtime.Gosched()
	}
	return Entry{}, ErrBusy
}

// entry copies a slot that may change meanwhile.
func (w words) entry() Entry {
	load := func(off int) uint64 { return w.u64(off).Load() }
	id := func(off int) int32 { return int32(w.u32(off).Load()) }
	var name [maxName]byte
	for n := range slotNameWords {
		binary.NativeEndian.PutUint64(name[8*n:], load(slotName+8*n))
	}
	return Entry{
		State: State(w.u32(slotState).Load()),
		Owner: Owner{
			SandboxID: id(slotSandboxID), MemoryLimit: load(slotMemoryLimit),
			Name: strings.ToValidUTF8(string(name[:min(load(slotNameLen)&0xffff, maxName)]), "\uFFFD"),
		},
		Run: Run{ID: id(slotRunID), PID: int(id(slotPID)), StartedAt: millis(load(slotStartedAt))},
		Sample: Sample{
			At: millis(load(slotSampledAt)), Known: Field(w.u32(slotKnown).Load()),
			VCPUTime:   time.Duration(min(load(slotVCPUTime), math.MaxInt64)),
			CPUPercent: percent(w.u32(slotCPUPercent).Load()),
			MemoryUsed: load(slotMemoryUsed), MemoryFree: load(slotMemoryFree), HostResident: load(slotHostResident),
			DiskRead: load(slotDiskRead), DiskWritten: load(slotDiskWritten),
			NetReceived: load(slotNetReceived), NetSent: load(slotNetSent),
			UpperUsed: load(slotUpperUsed), UpperFree: load(slotUpperFree), UpperOnHost: load(slotUpperOnHost),
		},
	}
}

// lastMillis is the end of the year 9999, the last that most formats of a time can say.
const lastMillis = 253_402_300_799_999

// millis is a time from Unix milliseconds, zero for 0 and for what is none.
func millis(ms uint64) time.Time {
	if ms == 0 || ms > lastMillis {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// percent is a percentage from its bits, 0 for what is none.
func percent(bits uint32) float32 {
	f := math.Float32frombits(bits)
	if !(f >= 0 && f <= math.MaxFloat32) {
		return 0
	}
	return f
}

// Entries returns all slots that are in one of the states, in order. A slot that cannot
// be read is left out.
func (r *Registry) Entries(states ...State) []Entry {
	var all []Entry
	for i := range r.capacity {
		for _, s := range states {
			if State(r.slot(i).u32(slotState).Load()) != s {
				continue
			}
			if e, err := r.Read(i); err == nil && e.State == s {
				all = append(all, e)
			}
			break
		}
	}
	return all
}

// ByRun returns the active slot of a run. It fails with [ErrNotFound] if there is none.
func (r *Registry) ByRun(id int32) (Entry, error) {
	for _, e := range r.Entries(Active) {
		if e.Run.ID == id {
			return e, nil
		}
	}
	return Entry{}, ErrNotFound
}
