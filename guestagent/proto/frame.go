package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of the frame layout, in bytes.
const (
	// MaxFrame limits the length field of a frame: id, flags and body together.
	MaxFrame = 4 << 20
	// MinFrame is the smallest length field: id and flags without a body.
	MinFrame = 5
	// LengthSize is the size of the length field, which does not count itself.
	LengthSize = 4
	// ChunkSize is the most data one core.fs.data message should carry.
	ChunkSize = 3 << 20
)

// Errors of the frame layer. A stream that produced one is out of step and must be closed.
var (
	// ErrFrame is the class of all frame errors.
	ErrFrame = errors.New("bad agent frame")
	// ErrFrameTooLarge reports a length field above MaxFrame.
	ErrFrameTooLarge = fmt.Errorf("%w: longer than %d bytes", ErrFrame, MaxFrame)
	// ErrFrameTooShort reports a length field below MinFrame.
	ErrFrameTooShort = fmt.Errorf("%w: shorter than %d bytes", ErrFrame, MinFrame)
)

// Frame is one unit of the stream: a big-endian u32 length of what follows, a big-endian
// u32 id, a flags byte, and a body that is a CBOR envelope.
type Frame struct {
	ID    uint32
	Flags Flags
	Body  []byte
}

// Size returns the number of bytes f takes on the wire, its length field included.
func (f Frame) Size() int { return LengthSize + MinFrame + len(f.Body) }

// AppendFrame appends f to dst. It returns dst unchanged and an error that wraps
// [ErrFrameTooLarge] if the frame would exceed [MaxFrame].
func AppendFrame(dst []byte, f Frame) ([]byte, error) {
	if len(f.Body) > MaxFrame-MinFrame {
		return dst, fmt.Errorf("%w: body of %d", ErrFrameTooLarge, len(f.Body))
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(MinFrame+len(f.Body)))
	dst = binary.BigEndian.AppendUint32(dst, f.ID)
	dst = append(dst, byte(f.Flags))
	return append(dst, f.Body...), nil
}

// ParseFrame cuts the first frame from b. It returns the frame, whose body aliases b, and
// the number of bytes it takes; n is 0 with a nil error while b holds only a part of a
// frame. A length field out of range is refused as soon as its four bytes are there.
func ParseFrame(b []byte) (f Frame, n int, err error) {
	if len(b) < LengthSize {
		return Frame{}, 0, nil
	}
	length, err := frameLength(b)
	if err != nil {
		return Frame{}, 0, err
	}
	n = LengthSize + length
	if len(b) < n {
		return Frame{}, 0, nil
	}
	return parseFrameBody(b[LengthSize:n:n]), n, nil
}

func frameLength(b []byte) (int, error) {
	n := binary.BigEndian.Uint32(b)
	if n > MaxFrame {
		return 0, fmt.Errorf("%w: length field is %d", ErrFrameTooLarge, n)
	}
	if n < MinFrame {
		return 0, fmt.Errorf("%w: length field is %d", ErrFrameTooShort, n)
	}
	return int(n), nil
}

func parseFrameBody(b []byte) Frame {
	return Frame{ID: binary.BigEndian.Uint32(b), Flags: Flags(b[4]), Body: b[MinFrame:]}
}

// appendFrameHeader starts a frame with an empty length field; finishFrame fills it.
func appendFrameHeader(dst []byte, id uint32, flags Flags) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, id)
	return append(dst, byte(flags))
}

func finishFrame(b []byte, start int) error {
	n := len(b) - start - LengthSize
	if n > MaxFrame {
		return fmt.Errorf("%w: message of %d", ErrFrameTooLarge, n)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(n))
	return nil
}

// readStep is how much a Reader grows its buffer at a time, so that a length field alone
// never costs more memory than the peer really sent.
const readStep = 64 << 10

// Reader cuts frames from a stream. It is not safe for concurrent use.
type Reader struct {
	r    io.Reader
	head [LengthSize]byte
	buf  []byte
}

// NewReader returns a Reader that reads from r in exact pieces: it never takes bytes
// beyond the frame it returns. Wrap r in a bufio.Reader if its reads are system calls.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// ReadFrame returns the next frame. Its body is valid until the next call: the buffer is
// reused. It returns io.EOF at the end of the stream between two frames,
// io.ErrUnexpectedEOF inside one, and an error wrapping [ErrFrame] for a length out of
// range, before any memory is taken for it.
func (r *Reader) ReadFrame() (Frame, error) {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return Frame{}, err
	}
	n, err := frameLength(r.head[:])
	if err != nil {
		return Frame{}, err
	}
	if err := r.fill(n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return parseFrameBody(r.buf[:n:n]), nil
}

func (r *Reader) fill(n int) error {
	for have := 0; have < n; {
		if have == len(r.buf) {
			grown := make([]byte, min(n, max(2*len(r.buf), readStep)))
			copy(grown, r.buf[:have])
			r.buf = grown
		}
		end := min(n, len(r.buf))
		if _, err := io.ReadFull(r.r, r.buf[have:end]); err != nil {
			return err
		}
		have = end
	}
	return nil
}

// keepBuffer is the largest scratch buffer a Writer keeps between messages.
const keepBuffer = 256 << 10

// Writer writes frames to a stream, each with exactly one Write call. It is not safe for
// concurrent use; callers that share it hold a lock around each call.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteFrame writes f as it is.
func (w *Writer) WriteFrame(f Frame) error {
	b, err := AppendFrame(w.buf[:0], f)
	return w.flush(b, err)
}

// WriteMessage encodes payload (nil is CBOR null) and writes it as a message of type t
// with the flags of that type and our [Generation].
func (w *Writer) WriteMessage(id uint32, t Type, payload any) error {
	b, err := AppendMessage(w.buf[:0], id, t, payload)
	return w.flush(b, err)
}

// WriteData writes one data message; see [AppendDataMessage]. p is not kept.
func (w *Writer) WriteData(id uint32, t Type, p []byte) error {
	b, err := AppendDataMessage(w.buf[:0], id, t, p)
	return w.flush(b, err)
}

func (w *Writer) flush(b []byte, err error) error {
	if err != nil {
		return err
	}
	if cap(b) <= keepBuffer {
		w.buf = b[:0]
	}
	_, err = w.w.Write(b)
	return err
}
