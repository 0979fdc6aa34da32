package console

import "encoding/binary"

// controlSize is the length in bytes of struct virtio_console_control (virtio 1.2
// §5.3.6.2).
const controlSize = 8

// event is the event field of a control message.
type event uint16

const (
	eventDeviceReady event = iota
	eventPortAdd
	eventPortRemove
	eventPortReady
	eventConsolePort
	eventResize
	eventPortOpen
	eventPortName
)

// control is a control message.
type control struct {
	id    uint32 // port
	event event
	value uint16
}

// parseControl decodes b. Every value of every field is possible in the result.
func parseControl(b *[controlSize]byte) control {
	le := binary.LittleEndian
	return control{id: le.Uint32(b[0:]), event: event(le.Uint16(b[4:])), value: le.Uint16(b[6:])}
}

// appendTo appends the encoded message to b.
func (c control) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, c.id)
	b = le.AppendUint16(b, uint16(c.event))
	return le.AppendUint16(b, c.value)
}

// Size is that of a terminal in characters.
type Size struct{ Cols, Rows uint16 }

// appendTo appends what follows the header of eventResize. Virtio 1.2 §5.3.6.2.3 has the
// columns first; Linux reads the rows first, and other devices do as Linux does.
func (s Size) appendTo(b []byte) []byte {
	le := binary.LittleEndian
	return le.AppendUint16(le.AppendUint16(b, s.Rows), s.Cols)
}
