package mem

import "encoding/binary"

// Requests, answers and states, virtio 1.2 §5.15.6.
const (
	requestPlug      = 0
	requestUnplug    = 1
	requestUnplugAll = 2
	requestState     = 3

	answerACK   = 0
	answerNACK  = 1
	answerBusy  = 2
	answerError = 3

	statePlugged   = 0
	stateUnplugged = 1
	stateMixed     = 2

	requestSize = 24 // of struct virtio_mem_req
	answerSize  = 10 // of struct virtio_mem_resp
)

// request is struct virtio_mem_req.
type request struct {
	kind uint16
	addr uint64 // these two not for requestUnplugAll
	n    uint16 // blocks
}

func parseRequest(b *[requestSize]byte) request {
	le := binary.LittleEndian
	return request{kind: le.Uint16(b[0:]), addr: le.Uint64(b[8:]), n: le.Uint16(b[16:])}
}

// answer is struct virtio_mem_resp.
type answer struct{ kind, state uint16 }

func (a answer) encode(b *[answerSize]byte) {
	clear(b[:])
	binary.LittleEndian.PutUint16(b[0:], a.kind)
	binary.LittleEndian.PutUint16(b[8:], a.state)
}
