package vmm

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/gomsb/gomsb/vmm/hv"
)

// What the guest writes to the renewal port (kernel/patches/0009-renew-port.patch): 32 bits.
const (
	renewLatch  = 0    // the following reads give a block
	firstVector = 0x20 // from here to 0xFF: raise this interrupt on every processor of a copy
	lastVector  = 0xFF
)

// A block has these 32-bit words; reads beyond it give 0.
const (
	renewGeneration = 0 // how often the machine was copied
	renewTime       = 1 // host's wall clock in ns since 1970, low half first
	renewEntropy    = 3 // random bytes
	renewWords      = 11
)

// renewalSize is how many bytes a saved renewal has: vector, generation, words read.
const renewalSize = 1 + 4 + 1

// renewal is the device by which a guest that is a copy of a saved one gets the time and
// random numbers of its own before any of its programs runs: the interrupt it asked for is
// pending on every processor when the copy starts. Guests that do not know it are not
// interrupted. Methods are safe for concurrent use, and never fail whatever the guest does.
type renewal struct {
	now func() time.Time // of the host

	mu         sync.Mutex
	vector     uint8 // 0: the guest has not asked
	generation uint32
	next       int // of words, to be read
	words      [renewWords]uint32
	random     [4 * (renewWords - renewEntropy)]byte // scratch, zero between calls
}

// access carries out one exit to the port. Only whole words mean anything.
func (r *renewal) access(e *hv.Exit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d := e.Data; len(d) > 0; {
		n := min(max(1, int(e.Size)), len(d))
		item := d[:n]
		d = d[n:]
		switch {
		case !e.Write:
			clear(item)
			if n == 4 {
				binary.LittleEndian.PutUint32(item, r.read())
			}
		case n == 4:
			r.write(binary.LittleEndian.Uint32(item))
		}
	}
}

// write takes a command; one that it does not know changes nothing. The caller holds mu.
func (r *renewal) write(v uint32) {
	switch {
	case v == renewLatch:
		r.latch()
		r.next = 0
	case v >= firstVector && v <= lastVector:
		r.vector = uint8(v)
		r.words = [renewWords]uint32{v} // the answer by which the guest knows this device
		r.next = 0
	}
}

// read takes a word. The caller holds mu.
func (r *renewal) read() uint32 {
	if r.next == renewWords {
		return 0
	}
	v := r.words[r.next]
	r.words[r.next] = 0
	r.next++
	return v
}

// latch makes a new block. The caller holds mu.
func (r *renewal) latch() {
	ns := uint64(r.now().UnixNano())
	r.words[renewGeneration] = r.generation
	r.words[renewTime], r.words[renewTime+1] = uint32(ns), uint32(ns>>32)
	_, _ = rand.Read(r.random[:]) // it never fails
	for i := renewEntropy; i < renewWords; i++ {
		r.words[i] = binary.LittleEndian.Uint32(r.random[4*(i-renewEntropy):])
	}
	clear(r.random[:])
}

// save is the state that copies go on from. It has nothing of the words in it.
func (r *renewal) save() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := append(make([]byte, 0, renewalSize), r.vector)
	b = binary.LittleEndian.AppendUint32(b, r.generation)
	return append(b, byte(r.next))
}

// restore makes this the device of a copy. A guest that was in the middle of a block reads
// on in another one. The error wraps ErrSavedState.
func (r *renewal) restore(b []byte) error {
	if len(b) != renewalSize || b[0] != 0 && b[0] < firstVector || b[renewalSize-1] > renewWords {
		return fmt.Errorf("%w: the renewal is damaged", ErrSavedState)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vector, r.next = b[0], int(b[renewalSize-1])
	r.generation = binary.LittleEndian.Uint32(b[1:]) + 1
	r.latch()
	return nil
}

// wanted is the interrupt to raise on every processor of a copy, 0 for none.
func (r *renewal) wanted() uint8 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vector
}

// renew has the guest of a copy that is about to run renew itself.
func (m *Machine) renew() error {
	vector := m.renewal.wanted()
	if vector == 0 {
		return nil
	}
	for _, c := range m.vcpus {
		if err := m.vm.Interrupt(c.id, vector); err != nil {
			return err
		}
	}
	return nil
}
