package vsock

import "fmt"

// bufferSize is the credit in bytes that a connection grants to the guest, and so the
// largest size of its ring buffer.
const bufferSize = 256 << 10

// credit is the flow control of one connection (virtio 1.2 §5.10.6.3). All counters run
// freely and wrap at 2^32; only differences mean anything.
type credit struct {
	received  uint32 // bytes that the guest sent
	forwarded uint32 // of them, bytes that the reader took
	told      uint32 // forwarded as the guest last heard it

	sent          uint32 // bytes that we sent
	peerForwarded uint32 // of them, bytes that the guest's reader took
	peerAlloc     uint32 // the guest's buffer
}

// accept counts n bytes from the guest; it reports false if they exceed the buffer that
// the guest was granted.
func (c *credit) accept(n uint32) bool {
	if uint64(c.received-c.forwarded)+uint64(n) > bufferSize {
		return false
	}
	c.received += n
	return true
}

// take counts n bytes that the reader took.
func (c *credit) take(n int) { c.forwarded += uint32(n) }

// stale reports that the guest should hear of the space that the reader made. A quarter
// of the buffer keeps the updates few, and the guest never waits: if it has no credit
// left by what it knows, then the reader has at least that much before it.
func (c *credit) stale() bool { return c.forwarded-c.told >= bufferSize/4 }

// stamp writes our side into a header that is about to be sent.
func (c *credit) stamp(h *header) {
	h.alloc, h.forwarded = bufferSize, c.forwarded
	c.told = c.forwarded
}

// learn takes the guest's side from one of its headers. A count that is older than the
// one known is ignored: Linux stamps headers before it queues them, so that two threads
// can send them out of order. A count of bytes that were never sent is an error.
func (c *credit) learn(h *header) error {
	c.peerAlloc = h.alloc
	advance := h.forwarded - c.peerForwarded
	if advance <= c.sent-c.peerForwarded {
		c.peerForwarded = h.forwarded
		return nil
	}
	if int32(advance) < 0 {
		return nil
	}
	return fmt.Errorf("%w: guest took %d bytes of %d in flight", ErrProtocol, advance, c.sent-c.peerForwarded)
}

// available is the number of bytes that may be sent now. A guest may shrink its buffer
// below what is in flight.
func (c *credit) available() uint32 {
	inFlight := c.sent - c.peerForwarded
	if inFlight >= c.peerAlloc {
		return 0
	}
	return c.peerAlloc - inFlight
}

// spend counts n bytes, at most available, that were sent.
func (c *credit) spend(n uint32) { c.sent += n }
