package metrics

import (
	"fmt"
	"runtime"
	"time"
)

// lockWait bounds the wait for another writer of a slot. There is one at most, and it
// needs microseconds, unless it was killed.
const lockWait = 100 * time.Millisecond

// lock takes a slot's sequence lock for the holder of generation.
func (w words) lock(generation uint64) error {
	if err := w.owned(generation); err != nil {
		return err
	}
	seq := w.u64(slotSequence)
	for deadline := time.Now().Add(lockWait); ; runtime.Gosched() {
		n := seq.Load()
		if n%2 == 0 && seq.CompareAndSwap(n, n+1) {
			break
		}
		if !time.Now().Before(deadline) {
			return ErrBusy
		}
	}
	if err := w.owned(generation); err != nil {
		w.unlock()
		return err
	}
	return nil
}

func (w words) unlock() { w.u64(slotSequence).Add(1) }

func (w words) owned(generation uint64) error {
	if g := w.u64(slotGeneration).Load(); g != generation {
		return fmt.Errorf("%w: generation %d, not %d", ErrGeneration, g, generation)
	}
	return nil
}

// settle waits until nobody writes the slot, but not for ever.
func (w words) settle() {
	seq := w.u64(slotSequence)
	for deadline := time.Now().Add(lockWait); seq.Load()%2 != 0 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
}
