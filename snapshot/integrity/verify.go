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

	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Compute hashes the file at path for a new descriptor, with the Merkle algorithm: the
// only one whose digest does not depend on how the file system placed the holes.
func Compute(ctx context.Context, path string) (*descriptor.Integrity, error) {
	i := &descriptor.Integrity{Algorithm: descriptor.MerkleBLAKE3}
	var err error
	i.Digest, err = digest(ctx, path, i.Algorithm, -1)
	return i, err
}

// Verify hashes the file at path and compares. It fails with [ErrMismatch] or [ErrChanged].
func Verify(ctx context.Context, path string, u descriptor.Upper) error {
	got, err := digest(ctx, path, u.Integrity.Algorithm, u.SizeBytes)
	if err != nil {
		return err
	}
	if got != u.Integrity.Digest {
		return fmt.Errorf("%w: %s is %s, recorded is %s", ErrMismatch, path, got, u.Integrity.Digest)
	}
	return nil
}

// digest hashes a file that must have the size, or any size if that is negative.
func digest(ctx context.Context, path, algorithm string, size int64) (string, error) {
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
	var sum hash
	prefix := "sha256:"
	switch algorithm {
	case descriptor.MerkleBLAKE3:
		prefix = "blake3:"
		sum, err = merkle(ctx, f, before.size)
	case descriptor.SHA256:
		sum, err = plain(ctx, f, before.size)
	case descriptor.SparseSHA256:
		sum, err = sparseSHA256(ctx, f, before.size)
	default:
		return "", fmt.Errorf("%w: integrity algorithm %q", descriptor.ErrUnsupported, algorithm)
	}
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
	return prefix + hex.EncodeToString(sum[:]), nil
}

func plain(ctx context.Context, f *os.File, size int64) (hash, error) {
	h := sha256.New()
	err := feed(ctx, h, f, sparse.Extent{Length: size})
	return hash(h.Sum(nil)), err
}

// sparseSHA256 is the algorithm of releases before 0.6.14: it hashes where the data is too.
func sparseSHA256(ctx context.Context, f *os.File, size int64) (hash, error) {
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64([]byte(descriptor.SparseSHA256+"\x00"), uint64(size)))
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
