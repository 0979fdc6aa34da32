package cache

import (
	"context"
	"errors"
	"io"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/blob"
)

// stream is the plain tar stream of a layer. Its verdict on both digests comes instead
// of io.EOF. Decompression and hashing run beside the reader.
type stream struct {
	io.Reader
	packed *blob.Verifier
	plain  *blob.Reader
	stages []*blob.Ahead // innermost first
}

// newStream reads a layer's blob.
func newStream(r io.Reader, l oci.Layer, limits blob.Limits) (*stream, error) {
	packed, err := blob.NewVerifier(r, l.BlobDigest, l.Size)
	if err != nil {
		return nil, err
	}
	plain, err := blob.Decompress(packed, limits)
	if err != nil {
		return nil, err
	}
	s := &stream{packed: packed, plain: plain}
	s.ahead(plain)
	if plain.Compression == blob.None && l.BlobDigest == l.DiffID {
		return s, nil // packed hashes the same bytes
	}
	verified, err := blob.NewVerifier(s.Reader, l.DiffID, -1)
	if err != nil {
		s.close()
		return nil, err
	}
	s.ahead(verified)
	return s, nil
}

func (s *stream) ahead(r io.Reader) {
	a := blob.NewAhead(r)
	s.stages, s.Reader = append(s.stages, a), a
}

// blame returns err, or that the blob is not what its digest says, if that is so:
// nonsense in a layer is most often damage on the way. The stream is at its end then.
func (s *stream) blame(err error) error {
	_, cause := io.Copy(io.Discard, s)
	if !errors.Is(cause, oci.ErrDigestMismatch) {
		s.close()
		_, cause = io.Copy(io.Discard, s.packed)
	}
	if errors.Is(cause, oci.ErrDigestMismatch) {
		return errors.Join(cause, err)
	}
	return err
}

// close stops all stages. It is idempotent.
func (s *stream) close() {
	for _, a := range s.stages {
		_ = a.Close()
	}
	_ = s.plain.Close()
}

// progressStep is the least number of bytes between two progress events.
const progressStep = 256 << 10

// meter reports how much was read and ends when ctx does.
type meter struct {
	ctx      context.Context
	r        io.Reader
	n, shown int64
	report   func(int64)
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	if m.n-m.shown >= progressStep || err == io.EOF && m.n > m.shown {
		m.shown = m.n
		m.report(m.n)
	}
	return n, err
}

type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
