package virtio

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/vmm/event"
	"github.com/gomsb/gomsb/vmm/memory"
)

const (
	descSize  = 16 // struct virtq_desc, virtio 1.2 §2.7.5
	usedSize  = 8  // struct virtq_used_elem, §2.7.8
	ringHead  = 4  // flags and idx before either ring
	ringEvent = 2  // used_event or avail_event after it

	availNoInterrupt = 1 // avail.flags
	usedNoNotify     = 1 // used.flags
)

// Queue is the device's side of one split virtqueue (virtio 1.2 §2.7). It is made by the
// transport at DRIVER_OK. Pop and the kick methods belong to one goroutine at a time, and
// so do Push and Notify, which may be another one.
type Queue struct {
	mem      *memory.Memory
	kick     *event.Event
	raise    func() error // the used buffer interrupt
	size     uint16
	indirect bool
	eventIdx bool

	// Rings, checked once to their ends.
	desc, avail, used []byte
	availIdx          halfWord
	availFlags        halfWord
	usedWord          memory.Word // flags | idx<<16, both ours

	nextAvail uint16   // next entry of avail to take
	signalled uint16   // nextUsed at the last Notify
	lapped    bool     // nextUsed went all the way round since then
	pending   []uint64 // bit set of heads that the device holds
	fence     atomic.Uint32

	flags    sync.Mutex // locked for used.flags and idx, without EVENT_IDX
	nextUsed uint16     // next entry of used to fill; written under flags and by Push only
	noKicks  bool       // used.flags; protected by flags
}

// halfWord is a 16-bit field inside an aligned 32-bit word of guest memory.
type halfWord struct {
	word  memory.Word
	shift uint
}

func (h halfWord) load() uint16 { return uint16(h.word.Load() >> h.shift) }

func newHalfWord(mem *memory.Memory, addr uint64) (halfWord, error) {
	w, err := mem.Word(addr &^ 3)
	return halfWord{w, uint(addr&2) * 8}, err
}

// rings are the addresses that the driver chose.
type rings struct {
	size              uint16
	desc, avail, used uint64
}

// newQueue checks the rings and takes hold of them.
func newQueue(mem *memory.Memory, r rings, features uint64, kick *event.Event, raise func() error) (*Queue, error) {
	if r.size == 0 || r.size&(r.size-1) != 0 {
		return nil, fmt.Errorf("%w: queue size %d is not a power of two", ErrGuest, r.size)
	}
	if r.desc%16 != 0 || r.avail%2 != 0 || r.used%4 != 0 {
		return nil, fmt.Errorf("%w: rings at %#x, %#x, %#x are not aligned", ErrGuest, r.desc, r.avail, r.used)
	}
	q := &Queue{mem: mem, kick: kick, raise: raise, size: r.size, indirect: features&FeatureIndirectDesc != 0, eventIdx: features&FeatureEventIdx != 0,
		pending: make([]uint64, (int(r.size)+63)/64)}
	n := uint64(r.size)
	var err error
	for _, part := range []struct {
		dst        *[]byte
		addr, size uint64
	}{
		{&q.desc, r.desc, n * descSize}, {&q.avail, r.avail, ringHead + 2*n + ringEvent}, {&q.used, r.used, ringHead + usedSize*n + ringEvent},
	} {
		if *part.dst, err = mem.Slice(part.addr, part.size); err != nil {
			return nil, fmt.Errorf("%w: ring at %#x: %w", ErrGuest, part.addr, err)
		}
	}
	if overlap(r.desc, n*descSize, r.used, uint64(len(q.used))) || overlap(r.avail, uint64(len(q.avail)), r.used, uint64(len(q.used))) || overlap(r.desc, n*descSize, r.avail, uint64(len(q.avail))) {
		return nil, fmt.Errorf("%w: rings at %#x, %#x, %#x overlap", ErrGuest, r.desc, r.avail, r.used)
	}
	if q.availFlags, err = newHalfWord(mem, r.avail); err != nil {
		return nil, fmt.Errorf("%w: available ring: %w", ErrGuest, err)
	}
	if q.availIdx, err = newHalfWord(mem, r.avail+2); err != nil {
		return nil, fmt.Errorf("%w: available ring: %w", ErrGuest, err)
	}
	if q.usedWord, err = mem.Word(r.used); err != nil {
		return nil, fmt.Errorf("%w: used ring: %w", ErrGuest, err)
	}
	return q, nil
}

func overlap(a, an, b, bn uint64) bool { return a < b+bn && b < a+an }

// Size is the number of entries of the rings.
func (q *Queue) Size() uint16 { return q.size }

// Kick is signalled when the driver notifies the queue.
func (q *Queue) Kick() *event.Event { return q.kick }

// KickAll has a device look at all its queues again, of which those may be nil that the
// driver does not use.
func KickAll(queues []*Queue) {
	for _, q := range queues {
		if q != nil {
			_ = q.kick.Signal() // fails only when it is closed, and nobody waits for it
		}
	}
}

// ready is how many chains the driver has made available that were not popped.
func (q *Queue) ready() (uint16, error) {
	n := q.availIdx.load() - q.nextAvail
	if n > q.size {
		return 0, fmt.Errorf("%w: available index jumped by %d in a queue of %d", ErrGuest, n, q.size)
	}
	return n, nil
}

// Pop takes the next available chain into c, which the caller reuses. It returns false
// if there is none, and an error that wraps ErrGuest if the driver's rings make no sense,
// after which the queue must not be used any more.
func (q *Queue) Pop(c *Chain) (bool, error) {
	if ready, err := q.ready(); ready == 0 || err != nil {
		return false, err
	}
	slot := ringHead + 2*int(q.nextAvail&(q.size-1))
	head := binary.LittleEndian.Uint16(q.avail[slot:])
	if head >= q.size {
		return false, fmt.Errorf("%w: descriptor %d in a queue of %d", ErrGuest, head, q.size)
	}
	bit := uint64(1) << (head & 63)
	if atomic.LoadUint64(&q.pending[head>>6])&bit != 0 { // Push may run meanwhile
		return false, fmt.Errorf("%w: descriptor %d is in use already", ErrGuest, head)
	}
	if err := q.walk(c, head); err != nil {
		return false, err
	}
	atomic.OrUint64(&q.pending[head>>6], bit)
	q.nextAvail++
	return true, nil
}

// Used is a chain to return, with the number of bytes written to it.
type Used struct {
	Head uint16
	Len  uint32
}

// Push returns a chain to the driver, with the number of bytes written to it. The driver
// sees it at once but is told by Notify.
func (q *Queue) Push(head uint16, written uint32) error {
	if err := q.put(0, Used{head, written}); err != nil {
		return err
	}
	q.advance(1)
	return nil
}

// PushAll is Push of several chains, fewer than 2^16, that the driver sees all at once.
// After an error it sees none of them.
func (q *Queue) PushAll(chains []Used) error {
	for i, u := range chains {
		if err := q.put(uint16(i), u); err != nil {
			return err
		}
	}
	q.advance(uint16(len(chains)))
	return nil
}

// put writes the used element that comes n after the next one.
func (q *Queue) put(n uint16, u Used) error {
	if u.Head >= q.size || atomic.AndUint64(&q.pending[u.Head>>6], ^(uint64(1)<<(u.Head&63)))&(1<<(u.Head&63)) == 0 {
		return fmt.Errorf("push of descriptor %d, which was not popped", u.Head)
	}
	slot := ringHead + usedSize*int((q.nextUsed+n)&(q.size-1))
	binary.LittleEndian.PutUint32(q.used[slot:], uint32(u.Head))
	binary.LittleEndian.PutUint32(q.used[slot+4:], u.Len)
	return nil
}

// advance makes n elements visible, after all that was written before them. Flags and
// index are one word; with EVENT_IDX there are no flags, and so no lock.
func (q *Queue) advance(n uint16) {
	if q.signalled-q.nextUsed-1 < n {
		q.lapped = true
	}
	if q.eventIdx {
		q.nextUsed += n
		q.usedWord.Store(uint32(q.nextUsed) << 16)
		return
	}
	q.flags.Lock()
	defer q.flags.Unlock()
	q.nextUsed += n
	q.storeUsed()
}

// storeUsed writes flags and index; flags is locked.
func (q *Queue) storeUsed() {
	w := uint32(q.nextUsed) << 16
	if q.noKicks {
		w |= usedNoNotify
	}
	q.usedWord.Store(w)
}

// suppress sets or clears VIRTQ_USED_F_NO_NOTIFY.
func (q *Queue) suppress(on bool) {
	q.flags.Lock()
	defer q.flags.Unlock()
	if q.noKicks != on {
		q.noKicks = on
		q.storeUsed()
	}
}

// Notify interrupts the driver if it asked for that, after one or more Push.
func (q *Queue) Notify() error {
	if q.nextUsed == q.signalled && !q.lapped {
		return nil
	}
	old, lapped := q.signalled, q.lapped
	q.signalled, q.lapped = q.nextUsed, false
	q.fence.Swap(0) // the used index is visible before the driver's wish is read
	if q.eventIdx {
		wanted := binary.LittleEndian.Uint16(q.avail[ringHead+2*int(q.size):])
		// Has the index passed the one that the driver waits for? (§2.7.10)
		if !lapped && q.nextUsed-wanted-1 >= q.nextUsed-old {
			return nil
		}
	} else if q.availFlags.load()&availNoInterrupt != 0 {
		return nil
	}
	return q.raise()
}

// DisableKicks tells the driver that the device will look by itself.
func (q *Queue) DisableKicks() {
	if !q.eventIdx { // with EVENT_IDX the event just stays in the past
		q.suppress(true)
	}
}

// EnableKicks asks the driver to notify for the next chain. It reports more if one came
// before it could know, so that the caller looks again. Its error is that of Pop.
func (q *Queue) EnableKicks() (more bool, err error) {
	if q.eventIdx {
		binary.LittleEndian.PutUint16(q.used[ringHead+usedSize*int(q.size):], q.nextAvail)
	} else {
		q.suppress(false)
	}
	q.fence.Swap(0) // the request is visible before the index is read
	ready, err := q.ready()
	return ready != 0, err
}
