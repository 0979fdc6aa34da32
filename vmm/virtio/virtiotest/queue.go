package virtiotest

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// Flags of a descriptor (virtio 1.2 §2.7.5), of the available and of the used ring.
const (
	DescNext     = 1
	DescWrite    = 2
	DescIndirect = 4

	AvailNoInterrupt = 1
	UsedNoNotify     = 1

	descSize = 16
	// maxIndirect is the most buffers of a chain in an indirect table.
	maxIndirect = 512
)

// Buffer is one element of a descriptor chain.
type Buffer struct {
	Addr  uint64
	Len   uint32
	Write bool // by the device
}

// Used is a chain that the device has returned.
type Used struct {
	Head uint16
	Len  uint32 // bytes that the device says it wrote
}

// Queue is one split virtqueue as the driver sees it. A test may change the exported
// fields before Program; it lays out anything that a driver would not with Describe,
// Offer and SetAvailable.
type Queue struct {
	Index uint32
	Size  uint16
	// Desc, Avail and Used are the addresses of the three parts.
	Desc, Avail, Used uint64
	// Next is the index of the next entry of the available ring, Seen that of the used
	// ring. Both run freely.
	Next, Seen uint16
	// NoInterrupt sets VIRTQ_AVAIL_F_NO_INTERRUPT with the next chain.
	NoInterrupt bool

	d      *Driver
	told   uint16   // Next at the last Kick
	free   []uint16 // descriptors, the next one last
	counts []uint16 // descriptors of the chain of Add that begins here
	links  []uint16 // next descriptor of the same chain
	tables []uint64 // indirect table of each descriptor, 0 for none yet
}

func newQueue(d *Driver, index uint32, size uint16) *Queue {
	n := uint64(size)
	q := &Queue{
		Index: index, Size: size, d: d,
		Desc: d.Alloc(descSize*n, descSize), Avail: d.Alloc(6+2*n, 4), Used: d.Alloc(6+8*n, 4),
		counts: make([]uint16, size), links: make([]uint16, size), tables: make([]uint64, size),
	}
	for i := range size {
		q.free = append(q.free, size-1-i)
	}
	return q
}

// Program tells the device size and addresses, and that the queue is ready.
func (q *Queue) Program() {
	q.d.t.Helper()
	q.d.Store(RegQueueSel, q.Index)
	q.d.Store(RegQueueNum, uint32(q.Size))
	for reg, addr := range map[uint64]uint64{RegQueueDesc: q.Desc, RegQueueDriver: q.Avail, RegQueueDevice: q.Used} {
		q.d.Store(reg, uint32(addr))
		q.d.Store(reg+4, uint32(addr>>32))
	}
	q.d.Store(RegQueueReady, 1)
}

// Free is how many descriptors are in no chain.
func (q *Queue) Free() int { return len(q.free) }

// Add makes a chain available, without telling the device, and returns its head.
func (q *Queue) Add(bufs ...Buffer) uint16 {
	indirect := q.d.cfg.Indirect && q.d.Features&virtio.FeatureIndirectDesc != 0
	n := len(bufs)
	if indirect {
		n = min(n, 1)
	}
	if n == 0 || n > len(q.free) {
		require.FailNow(q.d.t, "the driver cannot add this chain", "%d descriptors, %d free", n, len(q.free))
	}
	head := q.pop()
	q.counts[head] = uint16(n)
	if indirect {
		q.Describe(head, q.fillTable(head, bufs), descSize*uint32(len(bufs)), DescIndirect, 0)
		q.Offer(head)
		return head
	}
	for i, at := 0, head; i < n; i++ {
		flags, next := bufs[i].flags(), uint16(0)
		if i+1 < n {
			flags |= DescNext
			next = q.pop()
		}
		q.Describe(at, bufs[i].Addr, bufs[i].Len, flags, next)
		q.links[at] = next
		at = next
	}
	q.Offer(head)
	return head
}

func (b *Buffer) flags() uint16 {
	if b.Write {
		return DescWrite
	}
	return 0
}

func (q *Queue) pop() uint16 {
	last := len(q.free) - 1
	i := q.free[last]
	q.free = q.free[:last]
	return i
}

// fillTable writes the indirect table of head and returns its address.
func (q *Queue) fillTable(head uint16, bufs []Buffer) uint64 {
	if len(bufs) > maxIndirect {
		require.FailNow(q.d.t, "the driver's indirect tables are smaller")
	}
	if q.tables[head] == 0 {
		q.tables[head] = q.d.Alloc(descSize*maxIndirect, descSize)
	}
	for i, b := range bufs {
		flags := b.flags()
		if i+1 < len(bufs) {
			flags |= DescNext
		}
		q.d.Describe(q.tables[head]+descSize*uint64(i), b.Addr, b.Len, flags, uint16(i+1))
	}
	return q.tables[head]
}

// Describe writes descriptor i of the queue's own table.
func (q *Queue) Describe(i uint16, addr uint64, length uint32, flags, next uint16) {
	q.d.Describe(q.Desc+descSize*uint64(i), addr, length, flags, next)
}

// Describe writes a descriptor at any address.
func (d *Driver) Describe(at, addr uint64, length uint32, flags, next uint16) {
	b := d.Bytes(at, descSize)
	binary.LittleEndian.PutUint64(b, addr)
	binary.LittleEndian.PutUint32(b[8:], length)
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

// Offer makes the chain at head, which is described already, available.
func (q *Queue) Offer(head uint16) {
	binary.LittleEndian.PutUint16(q.d.Bytes(q.Avail+4+2*uint64(q.Next%q.Size), 2), head)
	q.Next++
	q.SetAvailable(q.Next)
}

// SetAvailable stores any index, and the flags, into the available ring; Next stays.
func (q *Queue) SetAvailable(index uint16) {
	flags := uint16(0)
	if q.NoInterrupt {
		flags = AvailNoInterrupt
	}
	if q.Avail%4 != 0 { // the two are not in one word
		b := q.d.Bytes(q.Avail, 4)
		binary.LittleEndian.PutUint16(b, flags)
		fence.Add(1)
		binary.LittleEndian.PutUint16(b[2:], index)
	} else if err := q.d.Memory.StoreUint32(q.Avail, uint32(index)<<16|uint32(flags)); err != nil {
		require.NoError(q.d.t, err)
	}
	fence.Add(1)
}

// fence orders the driver's stores to a ring before its loads from it.
var fence atomic.Uint32

// Notify tells the device to look at the queue.
func (q *Queue) Notify() {
	q.told = q.Next
	q.d.Store(RegQueueNotify, q.Index)
}

// Kick is Notify if the device asked to be told of what was added since the last Kick or
// Notify, and reports whether it was.
func (q *Queue) Kick() bool {
	old := q.told
	q.told = q.Next
	fence.Add(1)
	if q.eventIdx() {
		if q.Next-q.AvailEvent()-1 >= q.Next-old {
			return false
		}
	} else if q.word(q.Used)&UsedNoNotify != 0 {
		return false
	}
	q.d.Store(RegQueueNotify, q.Index)
	return true
}

func (q *Queue) eventIdx() bool { return q.d.Features&virtio.FeatureEventIdx != 0 }

// AvailEvent is the index at which the device wants to be told.
func (q *Queue) AvailEvent() uint16 { return q.word(q.Used + 4 + 8*uint64(q.Size)) }

// SetUsedEvent stores the index at which the driver wants an interrupt.
func (q *Queue) SetUsedEvent(index uint16) {
	binary.LittleEndian.PutUint16(q.d.Bytes(q.Avail+4+2*uint64(q.Size), 2), index)
	fence.Add(1)
}

// UsedIndex is how many chains the device has returned, modulo 2^16.
func (q *Queue) UsedIndex() uint16 { return q.word(q.Used + 2) }

// word is a 16-bit field of a ring.
func (q *Queue) word(addr uint64) uint16 {
	w, err := q.d.Memory.LoadUint32(addr &^ 3)
	if err != nil {
		require.NoError(q.d.t, err)
	}
	return uint16(w >> (addr & 2 * 8))
}

// Take is the next chain that the device has returned, if there is one; its descriptors
// are free again.
func (q *Queue) Take() (Used, bool) {
	if q.UsedIndex() == q.Seen {
		return Used{}, false
	}
	b := q.d.Bytes(q.Used+4+8*uint64(q.Seen%q.Size), 8)
	q.Seen++
	head := binary.LittleEndian.Uint32(b)
	if head >= uint32(q.Size) {
		require.FailNow(q.d.t, "the device returned a chain that cannot be", "head %d", head)
	}
	u := Used{Head: uint16(head), Len: binary.LittleEndian.Uint32(b[4:])}
	q.release(u.Head)
	return u, true
}

// release frees the descriptors of a chain of Add; one of Offer has none.
func (q *Queue) release(head uint16) {
	for i, n := head, q.counts[head]; n > 0; n-- {
		q.free = append(q.free, i)
		i = q.links[i]
	}
	q.counts[head] = 0
}

// Wait waits for the next chain that the device returns.
func (q *Queue) Wait() Used {
	q.d.t.Helper()
	var u Used
	q.d.Eventually(func() (ok bool) {
		u, ok = q.Take()
		return ok
	}, "a used chain")
	return u
}

// Do makes one chain available, tells the device and waits until it has come back.
func (q *Queue) Do(bufs ...Buffer) Used {
	q.d.t.Helper()
	head := q.Add(bufs...)
	q.Notify()
	u := q.Wait()
	require.Equal(q.d.t, head, u.Head, "the chain that was added")
	return u
}

// Sleep waits for an interrupt unless a used chain is there already.
func (q *Queue) Sleep() {
	q.SetUsedEvent(q.Seen)
	if q.UsedIndex() == q.Seen {
		q.d.IRQ.Sleep()
	}
}
