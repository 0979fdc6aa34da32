package proto

import (
	"errors"
	"fmt"
)

// ErrEnvelope is the class of errors about the CBOR envelope in a frame's body.
var ErrEnvelope = errors.New("malformed message envelope")

// Envelope is the CBOR map in a frame's body: {"v": generation, "t": type, "p": payload},
// the payload being a byte string that holds another CBOR document.
type Envelope struct {
	Generation uint8
	Type       Type
	Payload    []byte
}

// AppendEnvelope appends e in the official field order with definite lengths. It does not
// allocate when dst has room.
func AppendEnvelope(dst []byte, e Envelope) []byte {
	dst = appendEnvelopeHead(dst, e.Generation, e.Type)
	dst = appendHead(dst, majorBytes, uint64(len(e.Payload)))
	return append(dst, e.Payload...)
}

// appendEnvelopeHead writes everything up to the key of the payload.
func appendEnvelopeHead(dst []byte, generation uint8, t Type) []byte {
	dst = append(dst, majorMap<<5|3, majorText<<5|1, 'v')
	dst = appendHead(dst, majorUint, uint64(generation))
	dst = append(dst, majorText<<5|1, 't')
	dst = appendHead(dst, majorText, uint64(len(t)))
	dst = append(dst, t...)
	return append(dst, majorText<<5|1, 'p')
}

// ParseEnvelope reads the envelope in body: keys in any order, unknown keys and trailing
// bytes ignored, all three known keys required once. The payload aliases body unless it
// was written in pieces or as an array. Errors wrap [ErrEnvelope].
func ParseEnvelope(body []byte) (Envelope, error) {
	var e Envelope
	var seen [3]bool
	c := cursor{b: body}
	err := c.mapEntries(MaxDepth, func(key []byte, depth int) error {
		field := -1
		switch string(key) {
		case "v":
			field = 0
		case "t":
			field = 1
		case "p":
			field = 2
		default:
			return c.skip(depth)
		}
		if seen[field] {
			return fmt.Errorf("key %q twice", key)
		}
		seen[field] = true
		return e.read(&c, field)
	})
	if err != nil {
		return Envelope{}, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	for i, ok := range seen {
		if !ok {
			return Envelope{}, fmt.Errorf("%w: key %q missing", ErrEnvelope, "vtp"[i])
		}
	}
	return e, nil
}

func (e *Envelope) read(c *cursor, field int) error {
	switch field {
	case 0:
		v, err := c.uint()
		if err != nil {
			return fmt.Errorf("generation: %w", err)
		}
		if v > 255 {
			return fmt.Errorf("generation %d out of range", v)
		}
		e.Generation = uint8(v)
	case 1:
		t, err := c.text()
		if err != nil {
			return fmt.Errorf("type: %w", err)
		}
		e.Type = internType(t)
	case 2:
		p, err := c.bytes()
		if err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		e.Payload = p
	}
	return nil
}

// internType turns the type's text into a Type without allocating for the types that
// carry streams.
func internType(t []byte) Type {
	for _, known := range [...]Type{
		TypeExecStdout, TypeExecStderr, TypeExecStdin, TypeFSData, TypeTCPData,
		TypeExecStarted, TypeExecExited, TypeFSRequest, TypeFSResponse,
	} {
		if string(t) == string(known) {
			return known
		}
	}
	return Type(t)
}

// Negotiate returns the generation two peers use: the lower of ours and the one the
// peer's ready message carries. It is an error for the peer to claim generation 0.
func Negotiate(peer uint8) (uint8, error) {
	if peer == 0 {
		return 0, fmt.Errorf("%w: peer claims protocol generation 0", ErrEnvelope)
	}
	return min(Generation, peer), nil
}
