package integrity

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	goHash "hash"
	"io"
	"os"
	"strings"

	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// form is a way to hash a file of a size.
type form func(ctx context.Context, f *os.File, size int64) (hash, error)

// forms are the ways to hash that an algorithm's name may stand for.
var forms = map[string][]form{
	descriptor.MerkleBLAKE3: {merkle},
	descriptor.SHA256:       {plain},
	// 0.6.18 hashes all bytes under this name, 0.5.7 the runs of data.
	descriptor.SparseSHA256: {sizedSHA256, extentsSHA256},
}

// Compute hashes the file at path for a new descriptor, with the Merkle algorithm: the
// only one for which a hole costs nothing and equals zeros.
func Compute(ctx context.Context, path string) (*descriptor.Integrity, error) {
	sum, err := digest(ctx, path, merkle, -1)
	return &descriptor.Integrity{Algorithm: descriptor.MerkleBLAKE3, Digest: "blake3:" + sum}, err
}

// Verify hashes the file at path and compares. It fails with [ErrMismatch] or [ErrChanged].
func Verify(ctx context.Context, path string, u descriptor.Upper) error {
	var got string
	for _, form := range forms[u.Integrity.Algorithm] {
		var err error
		if got, err = digest(ctx, path, form, u.SizeBytes); err != nil {
			return err
		}
		if strings.HasSuffix(u.Integrity.Digest, ":"+got) {
			return nil
		}
	}
	if got == "" {
		return fmt.Errorf("%w: integrity algorithm %q", descriptor.ErrUnsupported, u.Integrity.Algorithm)
	}
	return fmt.Errorf("%w: %s hashes to %s, recorded is %s", ErrMismatch, path, got, u.Integrity.Digest)
}

// digest hashes a file that must have the size, or any size if that is negative.
func digest(ctx context.Context, path string, form form, size int64) (string, error) {
	f, err := sparse.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	before, err := identify(f)
	if err != nil {
		return "", err
	}
	if size >= 0 && before.size != size {
		return "", fmt.Errorf("%w: %s has %d bytes, recorded are %d", ErrMismatch, path, before.size, size)
	}
	sum, err := form(ctx, f, before.size)
	if err != nil {
		return "", err
	}
	after, err := identify(f)
	if err != nil {
		return "", err
	}
	if before != after {
		return "", fmt.Errorf("%s: %w", path, ErrChanged)
	}
	return hex.EncodeToString(sum[:]), nil
}

func plain(ctx context.Context, f *os.File, size int64) (hash, error) {
	h := sha256.New()
	err := feed(ctx, h, f, sparse.Extent{Length: size})
	return hash(h.Sum(nil)), err
}

// newSizedSHA256 begins both forms of the algorithm of that name.
func newSizedSHA256(size int64) goHash.Hash {
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64([]byte(descriptor.SparseSHA256+"\x00"), uint64(size)))
	return h
}

func sizedSHA256(ctx context.Context, f *os.File, size int64) (hash, error) {
	h := newSizedSHA256(size)
	err := feed(ctx, h, f, sparse.Extent{Length: size})
	return hash(h.Sum(nil)), err
}

func extentsSHA256(ctx context.Context, f *os.File, size int64) (hash, error) {
	h := newSizedSHA256(size)
	for at := int64(0); ; {
		e, err := sparse.Next(f, at, size)
		if err != nil || e.Length == 0 {
			return hash(h.Sum(nil)), err
		}
		b := binary.LittleEndian.AppendUint64([]byte{'D'}, uint64(e.Offset))
		h.Write(binary.LittleEndian.AppendUint64(b, uint64(e.Length)))
		if err := feed(ctx, h, f, e); err != nil {
			return hash{}, err
		}
		at = e.End()
	}
}

func feed(ctx context.Context, h goHash.Hash, f *os.File, e sparse.Extent) error {
	buf := make([]byte, 1<<20)
	for at := e.Offset; at < e.End(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), e.End()-at)], at)
		if n == 0 {
			return short(f, err)
		}
		h.Write(buf[:n])
		at += int64(n)
	}
	return nil
}

// short explains a read that returned too little.
func short(f *os.File, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = ErrChanged
	}
	return fmt.Errorf("%s: %w", f.Name(), err)
}
