package heap

import "runtime/debug"

// stocked is the largest size of objects that stock allocates, bytes.
const stocked = 1 << 10

// stock has this processor's cache of the allocator hold spans of all small sizes, with and
// without pointers. A guest that is copied without them has each copy take them by itself:
// a page of the list of spans of each size, one of what is known of the span, and one of it.
func stock() {
	for n := 8; n <= stocked; n += 8 {
		kept.plain, kept.pointers = make([]byte, n), make([]*byte, n/8)
	}
	kept.plain, kept.pointers = nil, nil
}

// kept is where objects go that are to be on the heap.
var kept struct {
	plain    []byte
	pointers []*byte
}

// Trim gives the memory back that only the garbage collector knows to be free, and stocks the
// cache that a collection empties. It takes the time of a few commands.
func Trim() {
	debug.FreeOSMemory()
	stock()
}
