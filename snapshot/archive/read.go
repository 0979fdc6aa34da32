package archive

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd stream may demand, in bytes: what the
// compressor uses at any level but the ultra ones.
const maxWindow = 128 << 20

// decompress returns the tar stream of an archive, whether it is compressed or not.
func decompress(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, _ := b.Peek(4) // the end of a short file is found later
	if !bytes.Equal(head, []byte{0x28, 0xB5, 0x2F, 0xFD}) {
		return b, func() {}, nil
	}
	z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, nil, err
	}
	return zstdReader{z}, z.Close, nil
}

// zstdReader gives the decoder's errors their class.
type zstdReader struct{ d *zstd.Decoder }

// Read implements io.Reader.
func (z zstdReader) Read(p []byte) (int, error) {
	n, err := z.d.Read(p)
	for _, damage := range []error{zstd.ErrMagicMismatch, zstd.ErrWindowSizeExceeded, zstd.ErrDecoderSizeExceeded, zstd.ErrCRCMismatch, zstd.ErrUnexpectedBlockSize, zstd.ErrCompressedSizeTooBig, zstd.ErrReservedBlockType, zstd.ErrBlockTooSmall, zstd.ErrFrameSizeExceeded, zstd.ErrFrameSizeMismatch, zstd.ErrUnknownDictionary} {
		if errors.Is(err, damage) {
			err = fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	if err == io.ErrUnexpectedEOF {
		err = cut(err)
	}
	return n, err
}

// observed is a member as it was read, in the terms of the inventory.
type observed struct {
	entry
	sum string // SHA-256 of the content, unless it is a payload
}

// reader reads members.
type reader struct {
	ctx     context.Context
	r       io.Reader
	members int
}

// next returns the head of the next member; io.EOF is the end of the archive.
func (r *reader) next() (member, error) {
	if err := r.ctx.Err(); err != nil {
		return member{}, err
	}
	m, err := readHeader(r.r)
	if errors.Is(err, io.EOF) {
		if err := r.rest(); err != nil {
			return member{}, err
		}
		return member{}, io.EOF
	}
	if r.members++; err == nil && r.members > maxMembers {
		err = fmt.Errorf("%w: more than %d members", ErrLimit, maxMembers)
	}
	return m, err
}

// rest reads what follows the end mark: zeros.
func (r *reader) rest() error {
	b := make([]byte, 1<<16)
	for total := 0; ; {
		n, err := r.r.Read(b)
		if total += n; total > maxPadding || len(bytes.TrimLeft(b[:n], "\x00")) > 0 {
			return fmt.Errorf("%w: something follows its end", ErrArchive)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return cut(err)
		}
	}
}

// content gives a member's stored bytes to use, which must take them all, and hashes them.
func (r *reader) content(m member, kind string, use func(io.Reader) error) (observed, error) {
	transport, sum := newTransport(kind, &m), sha256.New()
	hashes := io.Writer(transport)
	if kind != kindPayload {
		hashes = io.MultiWriter(transport, sum)
	}
	in := &io.LimitedReader{R: ctxReader{r.ctx, r.r}, N: m.stored}
	if err := use(io.TeeReader(in, hashes)); err != nil {
		return observed{}, err
	}
	if in.N > 0 {
		return observed{}, fmt.Errorf("%w: it was cut short in %q", ErrArchive, m.name)
	}
	o := observed{entry: entry{Path: m.name, Kind: kind, Included: true, EncodedSize: m.stored, ApparentSize: m.size, TransportIntegrity: transportDigest(transport)}}
	if kind != kindPayload {
		o.sum = sha256Digest(sum)
	}
	_, err := io.CopyN(io.Discard, r.r, padding(m.stored))
	return o, cut(err)
}

// bytes reads a member into memory.
func (r *reader) bytes(m member, kind string, most int64) ([]byte, observed, error) {
	if m.kind != typeRegular || m.size > most {
		return nil, observed{}, fmt.Errorf("%w: %q has %d bytes; at most %d are good", ErrLimit, m.name, m.size, most)
	}
	var b bytes.Buffer
	o, err := r.content(m, kind, func(in io.Reader) error {
		_, err := b.ReadFrom(in)
		return err
	})
	return b.Bytes(), o, err
}
