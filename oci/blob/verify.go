package blob

import (
	_ "crypto/sha512" // registers the hash for digests that name it
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
)

// Verifier passes a stream on and compares it with a digest and a size. The verdict
// comes instead of io.EOF: nothing read is to be trusted before that.
type Verifier struct {
	r    io.Reader
	want digest.Digest
	hash hash.Hash
	size int64
	read int64
}

// NewVerifier returns a verifier of r; a negative size is not checked. Errors wrap
// oci.ErrManifest if the digest is malformed or of an unknown algorithm.
func NewVerifier(r io.Reader, want digest.Digest, size int64) (*Verifier, error) {
	if err := want.Validate(); err != nil {
		return nil, fmt.Errorf("%w: digest %.100q: %w", oci.ErrManifest, want, err)
	}
	return &Verifier{r: r, want: want, hash: want.Algorithm().Hash(), size: size}, nil
}

// Read implements io.Reader. At the end of the stream it returns io.EOF if everything
// matched, an error that wraps oci.ErrDigestMismatch or oci.ErrSizeMismatch if not.
func (v *Verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.read += int64(n)
	if v.size >= 0 && v.read > v.size {
		return 0, fmt.Errorf("%w: %s is longer than %d bytes", oci.ErrSizeMismatch, v.want, v.size)
	}
	if err != io.EOF {
		return n, err
	}
	if v.size >= 0 && v.read != v.size {
		return n, fmt.Errorf("%w: %s has %d bytes, not %d", oci.ErrSizeMismatch, v.want, v.read, v.size)
	}
	if got := digest.NewDigest(v.want.Algorithm(), v.hash); got != v.want {
		return n, fmt.Errorf("%w: content of %s is %s", oci.ErrDigestMismatch, v.want, got)
	}
	return n, io.EOF
}

// Bytes returns how many bytes passed so far.
func (v *Verifier) Bytes() int64 { return v.read }
