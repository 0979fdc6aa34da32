package blob

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/gomsb/gomsb/oci"
)

// Compression is how a blob is packed.
type Compression string

// The compressions that Detect knows.
const (
	None Compression = ""
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// MagicSize is how many leading bytes Detect needs.
const MagicSize = 4

// Detect tells the compression from the first bytes of a blob.
func Detect(head []byte) Compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return Gzip
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	}
	return None
}

// maxWindow bounds the memory a zstd stream can demand; it is the most that the
// reference decoder accepts without being told otherwise.
const maxWindow = 128 << 20

// Limits stop decompression bombs.
type Limits struct {
	Bytes int64 // decompressed bytes at most
	// Ratio is how many times larger than the input the output may be once it exceeds
	// RatioFloor bytes. Honest layers of zeros stay below the floor or in good company.
	Ratio      int64
	RatioFloor int64
}

// DefaultLimits allows what a layer within the limits of rootfs/layer can need: its
// content and the headers around it.
func DefaultLimits() Limits {
	return Limits{Bytes: 12 << 30, Ratio: 250, RatioFloor: 2 << 30}
}

// Reader is a decompressed stream.
type Reader struct {
	Compression Compression
	limits      Limits
	in          counter
	buffered    *bufio.Reader
	r           io.Reader
	close       func()
	out         int64
}

// Decompress detects the compression of r and returns the plain stream. Errors of the
// format wrap oci.ErrCompression, those of Limits oci.ErrLimit. Close releases memory
// and leaves r open.
func Decompress(r io.Reader, limits Limits) (*Reader, error) {
	d := &Reader{limits: limits, in: counter{r: r}, close: func() {}}
	d.buffered = bufio.NewReaderSize(&d.in, 128<<10)
	head, err := d.buffered.Peek(MagicSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	d.Compression = Detect(head)
	switch d.Compression {
	case Gzip:
		z, err := gzip.NewReader(d.buffered)
		if err != nil {
			return nil, d.classify(err)
		}
		d.r = z
	case Zstd:
		z, err := zstd.NewReader(d.buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, d.classify(err)
		}
		d.r, d.close = z, z.Close
	default:
		d.r = d.buffered
	}
	return d, nil
}

// Read implements io.Reader. At io.EOF the input is exhausted too.
func (d *Reader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.out += int64(n)
	if d.out > d.limits.Bytes {
		return 0, fmt.Errorf("%w: more than %d bytes decompressed", oci.ErrLimit, d.limits.Bytes)
	}
	if d.Compression != None && d.out > d.limits.RatioFloor && d.out/d.limits.Ratio > d.in.n {
		return 0, fmt.Errorf("%w: compressed more than %d times, as bombs are", oci.ErrLimit, d.limits.Ratio)
	}
	if err == io.EOF {
		// The decompressors stop at their end mark; a verifier below waits for the end
		// of its stream.
		if _, err := d.buffered.ReadByte(); err == nil {
			return n, fmt.Errorf("%w: data behind the end", oci.ErrCompression)
		} else if err != io.EOF {
			return n, err
		}
		return n, io.EOF
	}
	if err != nil {
		return n, d.classify(err)
	}
	return n, nil
}

// Close releases the decompressor.
func (d *Reader) Close() error {
	d.close()
	return nil
}

// classify marks errors of the format and leaves those of the input alone.
func (d *Reader) classify(err error) error {
	switch {
	case d.in.err != nil:
		return d.in.err
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fmt.Errorf("%w: a zstd window of more than %d bytes", oci.ErrLimit, int64(maxWindow))
	}
	return fmt.Errorf("%w: %w", oci.ErrCompression, err)
}

// counter counts what is read and remembers an error of the source.
type counter struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
