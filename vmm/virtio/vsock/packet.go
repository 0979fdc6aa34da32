package vsock

import "encoding/binary"

// headerSize is the length in bytes of struct virtio_vsock_hdr (virtio 1.2 §5.10.6).
const headerSize = 44

// hostCID is the context ID of the host (virtio 1.2 §5.10.4).
const hostCID = 2

// typeStream is the only socket type of this device.
const typeStream = 1

// operation is the op field of a packet header (virtio 1.2 §5.10.6).
type operation uint16

const (
	opRequest       operation = 1
	opResponse      operation = 2
	opReset         operation = 3
	opShutdown      operation = 4
	opData          operation = 5 // VIRTIO_VSOCK_OP_RW
	opCreditUpdate  operation = 6
	opCreditRequest operation = 7
)

// Flags of opShutdown: what the sender will not do any more.
const (
	shutdownReceive = 1
	shutdownSend    = 2
	shutdownBoth    = shutdownReceive | shutdownSend
)

// header is a packet header in host form.
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32 // bytes of payload
	kind             uint16 // socket type
	op               operation
	flags            uint32
	alloc            uint32 // sender's buffer in bytes
	forwarded        uint32 // bytes that the sender's reader took, modulo 2^32
}

// parseHeader decodes b. Every value of every field is possible in the result.
func parseHeader(b *[headerSize]byte) header {
	le := binary.LittleEndian
	return header{
		srcCID:    le.Uint64(b[0:]),
		dstCID:    le.Uint64(b[8:]),
		srcPort:   le.Uint32(b[16:]),
		dstPort:   le.Uint32(b[20:]),
		length:    le.Uint32(b[24:]),
		kind:      le.Uint16(b[28:]),
		op:        operation(le.Uint16(b[30:])),
		flags:     le.Uint32(b[32:]),
		alloc:     le.Uint32(b[36:]),
		forwarded: le.Uint32(b[40:]),
	}
}

// put encodes h into b.
func (h *header) put(b *[headerSize]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.kind)
	le.PutUint16(b[30:], uint16(h.op))
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.alloc)
	le.PutUint32(b[40:], h.forwarded)
}

// key names a connection: the host is always the one end, the guest the other.
type key struct{ host, guest uint32 }

// key is that of a packet from the guest.
func (h *header) key() key { return key{host: h.dstPort, guest: h.srcPort} }
