package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/integrity"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Artefact is a snapshot on disk whose descriptor is valid and whose payload has the
// recorded size. Its content is not known to be intact; see [Artefact.Verify].
type Artefact struct {
	Path       string // of the directory, absolute
	Digest     string // the identity
	Descriptor *descriptor.Descriptor
}

// Payload is the path of the disk.
func (a *Artefact) Payload() string { return filepath.Join(a.Path, a.Descriptor.Upper.File) }

// Open reads the snapshot at path, also one of a release before 0.6.14, whose directory
// it leaves as it is. It fails with [ErrNotFound], [ErrPayload] or the errors of
// [descriptor.Decode] and [descriptor.DecodeLegacy].
func Open(path string) (*Artefact, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	b, legacy, err := readDescriptor(path)
	if err != nil {
		return nil, err
	}
	a := &Artefact{Path: path}
	if legacy {
		if a.Descriptor, err = descriptor.DecodeLegacy(b); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrLegacy, path, err)
		}
	} else if a.Descriptor, err = descriptor.Decode(b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if a.Digest, err = a.Descriptor.Digest(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Lstat(a.Payload())
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a file", ErrPayload, a.Payload())
	case info.Size() != a.Descriptor.Upper.SizeBytes:
		return nil, fmt.Errorf("%w: %s has %d bytes, recorded are %d", ErrPayload, a.Payload(), info.Size(), a.Descriptor.Upper.SizeBytes)
	}
	return a, nil
}

// readDescriptor reads the descriptor of an artefact, or that of an older release where
// there is no other.
func readDescriptor(dir string) (b []byte, legacy bool, err error) {
	f, err := sparse.Open(filepath.Join(dir, descriptor.FileName))
	if errors.Is(err, os.ErrNotExist) {
		if old, oldErr := sparse.Open(filepath.Join(dir, descriptor.LegacyFileName)); oldErr == nil {
			f, legacy, err = old, true, nil
		}
	}
	if err != nil {
		return nil, false, &NotFoundError{Path: dir, Cause: err}
	}
	defer func() { _ = f.Close() }()
	b, err = io.ReadAll(io.LimitReader(f, descriptor.MaxSize+1))
	return b, legacy, err
}

// Verify reads the payload and compares it with the recorded integrity. If none is
// recorded, recorded is false and nothing was checked. It fails with
// [integrity.ErrMismatch] or [integrity.ErrChanged].
func (a *Artefact) Verify(ctx context.Context) (recorded bool, err error) {
	if a.Descriptor.Upper.Integrity == nil {
		return false, nil
	}
	return true, integrity.Verify(ctx, a.Payload(), a.Descriptor.Upper)
}
