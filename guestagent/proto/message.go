package proto

import (
	"errors"
	"fmt"
)

// Generation is the protocol generation this package implements; it goes into the "v"
// field of every message it writes.
const Generation = 7

// Release is the release of microsandbox whose interfaces this module speaks. Its SDKs and
// launchers compare it with their own; the guest agent reports it in Ready.
const Release = "0.6.18"

// Generations that introduced groups of message types.
const (
	GenerationFS        = 2
	GenerationTCP       = 4
	GenerationError     = 5 // peers below it do not understand core.error
	GenerationPing      = 6
	GenerationBootstrap = 7
)

// Type is a message type as written in the "t" field of an envelope.
type Type string

// The message types of generation 7.
const (
	TypeReady              Type = "core.ready"
	TypeInitResolved       Type = "core.init.resolved"
	TypeInitAck            Type = "core.init.ack"
	TypeShutdown           Type = "core.shutdown"
	TypeClientDisconnected Type = "core.relay.client.disconnected"
	TypeClockSync          Type = "core.clock.sync"
	TypeError              Type = "core.error"
	TypePing               Type = "core.ping"
	TypePong               Type = "core.pong"
	TypeTouch              Type = "core.touch"
	TypeTouched            Type = "core.touched"
	TypeBootstrap          Type = "core.bootstrap"

	TypeExecRequest    Type = "core.exec.request"
	TypeExecStarted    Type = "core.exec.started"
	TypeExecStdin      Type = "core.exec.stdin"
	TypeExecStdinError Type = "core.exec.stdin.error"
	TypeExecStdout     Type = "core.exec.stdout"
	TypeExecStderr     Type = "core.exec.stderr"
	TypeExecExited     Type = "core.exec.exited"
	TypeExecFailed     Type = "core.exec.failed"
	TypeExecResize     Type = "core.exec.resize"
	TypeExecSignal     Type = "core.exec.signal"

	TypeFSRequest  Type = "core.fs.request"
	TypeFSResponse Type = "core.fs.response"
	TypeFSData     Type = "core.fs.data"

	TypeTCPConnect   Type = "core.tcp.connect"
	TypeTCPConnected Type = "core.tcp.connected"
	TypeTCPData      Type = "core.tcp.data"
	TypeTCPEOF       Type = "core.tcp.eof"
	TypeTCPClose     Type = "core.tcp.close"
	TypeTCPClosed    Type = "core.tcp.closed"
	TypeTCPFailed    Type = "core.tcp.failed"
)

// Flags is the flags byte of a frame. Its value follows from the message type; a frame
// whose flags differ is refused with core.error. Bits outside the three below are
// reserved and ignored by relays.
type Flags uint8

// The flag bits.
const (
	FlagTerminal     Flags = 1 << iota // last frame of its id
	FlagSessionStart                   // opens a session under a new id
	FlagShutdown                       // asks the guest to power off
)

// Flags returns the flags every frame of type t carries; 0 for unknown types.
func (t Type) Flags() Flags {
	switch t {
	case TypeError, TypeExecExited, TypeExecFailed, TypeFSResponse, TypeTCPClosed, TypeTCPFailed,
		TypePong, TypeTouched:
		return FlagTerminal
	case TypeExecRequest, TypeFSRequest, TypeTCPConnect:
		return FlagSessionStart
	case TypeShutdown:
		return FlagShutdown
	}
	return 0
}

// Generation returns the generation that introduced t, or 0 if t is not known.
func (t Type) Generation() uint8 {
	switch t {
	case TypeReady, TypeInitResolved, TypeInitAck, TypeShutdown, TypeClientDisconnected, TypeClockSync,
		TypeExecRequest, TypeExecStarted, TypeExecStdin, TypeExecStdinError, TypeExecStdout,
		TypeExecStderr, TypeExecExited, TypeExecFailed, TypeExecResize, TypeExecSignal:
		return 1
	case TypeFSRequest, TypeFSResponse, TypeFSData:
		return GenerationFS
	case TypeTCPConnect, TypeTCPConnected, TypeTCPData, TypeTCPEOF, TypeTCPClose, TypeTCPClosed, TypeTCPFailed:
		return GenerationTCP
	case TypeError:
		return GenerationError
	case TypePing, TypePong, TypeTouch, TypeTouched:
		return GenerationPing
	case TypeBootstrap, TypeFlow, TypeRenew, TypeTrim, TypeTrimmed:
		return GenerationBootstrap
	}
	return 0
}

// Known reports whether t is a message type of generation 7, or one of our own, whose names
// begin with "gomsb.".
func (t Type) Known() bool { return t.Generation() != 0 }

// ErrFlags reports a frame whose flags byte does not follow from its message type.
var ErrFlags = errors.New("invalid flags")

// Message is a frame with its envelope opened. Payload is a CBOR document; in a parsed
// message it usually aliases the frame's body.
type Message struct {
	ID         uint32
	Flags      Flags
	Generation uint8
	Type       Type
	Payload    []byte
}

// ParseMessage opens the envelope of f. The type may be unknown and the flags wrong: the
// caller decides (see [Type.Known] and [Message.CheckFlags]). Errors wrap [ErrEnvelope].
func ParseMessage(f Frame) (Message, error) {
	env, err := ParseEnvelope(f.Body)
	if err != nil {
		return Message{}, err
	}
	return Message{ID: f.ID, Flags: f.Flags, Generation: env.Generation, Type: env.Type, Payload: env.Payload}, nil
}

// CheckFlags returns nil if the flags byte equals the one derived from the type; else an
// error that wraps [ErrFlags] and whose text is the one the protocol prescribes for
// core.error: "invalid flags for <type>: got <n>, expected <m>".
func (m Message) CheckFlags() error {
	if want := m.Type.Flags(); m.Flags != want {
		return fmt.Errorf("%w for %s: got %d, expected %d", ErrFlags, m.Type, m.Flags, want)
	}
	return nil
}

// Decode decodes the payload into dst, a pointer to the zero value of a payload struct.
// Errors wrap [ErrPayload].
func (m Message) Decode(dst any) error { return Unmarshal(m.Payload, dst) }

// Append appends m as one complete frame, length prefix included. It returns an error
// that wraps [ErrFrame] if the frame would exceed [MaxFrame]; dst is then unchanged.
func (m Message) Append(dst []byte) ([]byte, error) {
	start := len(dst)
	out := appendFrameHeader(dst, m.ID, m.Flags)
	out = AppendEnvelope(out, Envelope{Generation: m.Generation, Type: m.Type, Payload: m.Payload})
	if err := finishFrame(out, start); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendMessage appends one complete frame that carries payload (see [AppendPayload]; nil
// is CBOR null) as a message of type t with the flags of that type and our [Generation].
// On error dst is returned unchanged.
func AppendMessage(dst []byte, id uint32, t Type, payload any) ([]byte, error) {
	start := len(dst)
	out := appendFrameHeader(dst, id, t.Flags())
	out = appendEnvelopeHead(out, Generation, t)
	// The payload's length is known only once it is encoded: write it after the longest
	// possible byte string head, then close the gap.
	gap := len(out)
	out = append(out, 0, 0, 0, 0, 0)
	body := len(out)
	out, err := AppendPayload(out, payload)
	if err != nil {
		return dst, err
	}
	n := len(out) - body
	head := appendHead(out[:gap], majorBytes, uint64(n))
	copy(out[len(head):], out[body:body+n])
	out = out[:len(head)+n]
	if err := finishFrame(out, start); err != nil {
		return dst, err
	}
	return out, nil
}

// AppendDataMessage appends one complete frame of a data type (exec stdin, stdout, stderr,
// fs.data, tcp.data). An empty p is written as an empty byte string, which ends a stream
// where the protocol says so. It does not allocate when dst has room. On error (p too long
// for a frame) dst is returned unchanged.
func AppendDataMessage(dst []byte, id uint32, t Type, p []byte) ([]byte, error) {
	start := len(dst)
	if len(p) > MaxFrame {
		return dst, fmt.Errorf("%w: %d data bytes in one message", ErrFrameTooLarge, len(p))
	}
	out := appendFrameHeader(dst, id, t.Flags())
	out = appendEnvelopeHead(out, Generation, t)
	out = appendHead(out, majorBytes, uint64(dataSize(len(p))))
	out = appendData(out, p)
	if err := finishFrame(out, start); err != nil {
		return dst, err
	}
	return out, nil
}
