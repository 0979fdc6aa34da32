package net

import "encoding/binary"

const (
	// headerSize is the length of struct virtio_net_hdr with num_buffers, which is always
	// there in virtio 1 (virtio 1.2 §5.1.6).
	headerSize = 12

	flagNeedsChecksum = 1

	// MinFrame is the least frame, an Ethernet header. MaxFrame is the largest: an IPv4
	// packet, or an IPv6 payload with its header, behind an Ethernet header.
	MinFrame = 14
	MaxFrame = 14 + 40 + 65535
)

// GSO is the kind of segments that a frame stands for.
type GSO uint8

// Kinds of segmentation (virtio 1.2 §5.1.6).
const (
	GSONone  GSO = 0
	GSOTCPv4 GSO = 1
	GSOTCPv6 GSO = 4
	GSOUDP   GSO = 5 // datagrams of equal size but the last one

	gsoECN = 0x80 // TCP with ECN: every segment has the same bits
)

// Offload is what the sender of a frame left to its receiver. Its zero value is nothing.
type Offload struct {
	// NeedsChecksum: the Internet checksum of the frame from ChecksumStart on goes to
	// ChecksumOffset behind it, where that of the pseudo-header is now.
	NeedsChecksum                 bool
	ChecksumStart, ChecksumOffset uint16
	// GSO is not GSONone if the frame is to become segments with SegmentSize bytes of
	// payload each. HeaderLen is a hint at the length of all headers.
	GSO                    GSO
	HeaderLen, SegmentSize uint16
}

// parseHeader decodes b. Every value of every field is possible in the result.
func parseHeader(b *[headerSize]byte) Offload {
	le := binary.LittleEndian
	return Offload{
		NeedsChecksum: b[0]&flagNeedsChecksum != 0,
		GSO:           GSO(b[1] &^ gsoECN),
		HeaderLen:     le.Uint16(b[2:]),
		SegmentSize:   le.Uint16(b[4:]),
		ChecksumStart: le.Uint16(b[6:]), ChecksumOffset: le.Uint16(b[8:]),
	}
}

// put encodes o for a frame that fills n buffers.
func (o *Offload) put(b *[headerSize]byte, n int) {
	le := binary.LittleEndian
	*b = [headerSize]byte{}
	if o.NeedsChecksum {
		b[0] = flagNeedsChecksum
		le.PutUint16(b[6:], o.ChecksumStart)
		le.PutUint16(b[8:], o.ChecksumOffset)
	}
	if o.GSO != GSONone {
		b[1] = byte(o.GSO)
		le.PutUint16(b[2:], o.HeaderLen)
		le.PutUint16(b[4:], o.SegmentSize)
	}
	le.PutUint16(b[10:], uint16(n))
}

// valid reports that o makes sense for a frame of n bytes under the features: those of
// the side that sends.
func (o *Offload) valid(n uint64, can abilities) bool {
	switch {
	case n < MinFrame || n > MaxFrame:
		return false
	case o.NeedsChecksum && (!can.checksum || uint64(o.ChecksumStart)+uint64(o.ChecksumOffset)+2 > n):
		return false
	case o.GSO == GSONone:
		return true
	case o.SegmentSize == 0 || !o.NeedsChecksum:
		return false
	case o.GSO == GSOTCPv4:
		return can.tcp4
	case o.GSO == GSOTCPv6:
		return can.tcp6
	}
	return o.GSO == GSOUDP && can.udp
}

// abilities are what one direction may leave to the receiver.
type abilities struct{ checksum, tcp4, tcp6, udp bool }
