package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of the relay.
const (
	// MaxClients is how many clients a relay serves at once.
	MaxClients = 128
	// IDStep is the number of ids set aside for each client slot.
	IDStep = (1<<32 - 1) / MaxClients
)

// ErrHandshake is the class of errors about the first bytes a relay sends.
var ErrHandshake = errors.New("bad agent handshake")

// IDRange is the half-open range of ids a client may use: Start <= id < End.
type IDRange struct{ Start, End uint32 }

// SlotRange returns the ids of client slot 0 to MaxClients-1.
func SlotRange(slot int) IDRange {
	base := uint32(slot) * IDStep
	return IDRange{Start: base + 1, End: base + IDStep}
}

// SlotOf returns the client slot that owns id; id 0 belongs to none.
func SlotOf(id uint32) (slot int, ok bool) {
	if id == 0 {
		return 0, false
	}
	return int(min((id-1)/IDStep, MaxClients-1)), true
}

// Contains reports whether id lies in the range.
func (r IDRange) Contains(id uint32) bool { return r.Start <= id && id < r.End }

// Allows reports whether a client with this range may send a frame with this id and these
// flags: its own ids, and id 0 to ask for shutdown.
func (r IDRange) Allows(id uint32, flags Flags) bool {
	return r.Contains(id) || id == 0 && flags&FlagShutdown != 0
}

// First returns the lowest usable id, which is never 0. The range must have passed
// Validate.
func (r IDRange) First() uint32 { return max(r.Start, 1) }

// Validate returns an error wrapping [ErrHandshake] if the range holds no usable id.
func (r IDRange) Validate() error {
	if r.Start >= r.End || r.First() >= r.End {
		return fmt.Errorf("%w: empty id range [%d, %d)", ErrHandshake, r.Start, r.End)
	}
	return nil
}

// Append appends the eight bytes that precede the ready frame.
func (r IDRange) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, r.Start)
	return binary.BigEndian.AppendUint32(dst, r.End)
}

// Handshake is what a relay says first: the client's ids and the guest's ready message.
type Handshake struct {
	IDs        IDRange
	Generation uint8 // the guest's, not negotiated
	Ready      Ready
	ReadyBody  []byte // the ready frame's CBOR envelope as received
}

// ReadHandshake reads the handshake, whose frames r then continues to give. Errors of the
// content wrap [ErrHandshake]; errors of the stream are returned as they are.
func (r *Reader) ReadHandshake() (Handshake, error) {
	var b [8]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return Handshake{}, err
	}
	h := Handshake{IDs: IDRange{
		Start: binary.BigEndian.Uint32(b[:]),
		End:   binary.BigEndian.Uint32(b[4:]),
	}}
	if err := h.IDs.Validate(); err != nil {
		return Handshake{}, err
	}
	f, err := r.ReadFrame()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Handshake{}, err
	}
	m, err := ParseMessage(f)
	if err != nil {
		return Handshake{}, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if m.Type != TypeReady {
		return Handshake{}, fmt.Errorf("%w: first message is %q, not %s", ErrHandshake, m.Type, TypeReady)
	}
	if err := m.Decode(&h.Ready); err != nil {
		return Handshake{}, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	h.Generation = m.Generation
	h.ReadyBody = append([]byte(nil), f.Body...)
	return h, nil
}
