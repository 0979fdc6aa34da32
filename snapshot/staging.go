package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/snapshot/descriptor"
)

// stagingPrefix begins the names of directories that a Staging uses; List passes over
// them.
const stagingPrefix = ".msb-snapshot-load-"

// Staging is a place for snapshots on their way into a directory. If its process dies,
// the next Staging of the directory removes it.
type Staging struct {
	Path   string // on the file system of the directory
	dir    string
	unlock func()
}

// NewStaging makes a place for snapshots that are to come into dir, which is made if
// missing.
func NewStaging(ctx context.Context, dir string) (*Staging, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(dir); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(dir, stagingPrefix)
	if err != nil {
		return nil, err
	}
	held, err := lock(ctx, path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &Staging{Path: path, dir: dir, unlock: held}, nil
}

// sweep removes what dead processes left. The caller holds the lock of dir, under which
// places are made and locked, and everything else is begun and ended.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case !e.IsDir():
		case strings.HasPrefix(e.Name(), stagingPrefix):
			err = sweepPlace(path)
		case isStagingName(e.Name()) && isStaged(path):
			err = os.RemoveAll(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepPlace removes the place of a Staging unless its process lives.
func sweepPlace(path string) error {
	over, cancel := context.WithCancel(context.Background())
	cancel() // do not wait for the lock
	unlock, err := lock(over, path)
	if errors.Is(err, context.Canceled) || errors.Is(err, os.ErrNotExist) {
		return nil // somebody is at it
	}
	if err != nil {
		return err
	}
	defer unlock()
	return os.RemoveAll(path)
}

// isStaged reports that a directory holds nothing but parts of a snapshot: it may be
// somebody else's in spite of its name.
func isStaged(dir string) bool {
	entries, err := os.ReadDir(dir)
	foreign := func(e os.DirEntry) bool {
		return e.Name() != PayloadName && e.Name() != descriptor.FileName && !isCheckpointName(e.Name())
	}
	return err == nil && !slices.ContainsFunc(entries, foreign)
}

// Close removes what is left in the place.
func (s *Staging) Close() error {
	defer s.unlock()
	return os.RemoveAll(s.Path)
}

// Install moves snapshots from the place into the directory: the head under a name if
// that is a good one and free, else under its identity, as its ancestors. An ancestor that
// is there already stays. The head is [ErrExists] if it is there. When all is known to be
// free, and before anything is moved, Install calls ready. If Install fails, the directory
// is as it was; killed at any point, ancestors may be there without the head.
func (s *Staging) Install(ctx context.Context, head *Artefact, name string, ancestors []*Artefact, ready func() error) (*Artefact, error) {
	unlock, err := lock(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	target, err := s.free(head, name)
	if err != nil {
		return nil, err
	}
	moves := map[string]string{} // from, to
	var order []string
	for _, a := range ancestors {
		switch to, err := s.free(a, ""); {
		case err == nil:
			moves[a.Path], order = to, append(order, a.Path)
		case !errors.Is(err, errSame):
			return nil, err
		}
	}
	moves[head.Path], order = target, append(order, head.Path)
	if err := ready(); err != nil {
		return nil, err
	}
	for n, from := range order {
		if err := publish(from, moves[from], false); err != nil {
			for _, done := range order[:n] {
				err = errors.Join(err, os.RemoveAll(moves[done]))
			}
			return nil, err
		}
	}
	return Open(target)
}

// errSame is the ErrExists of a snapshot of the same identity.
var errSame = fmt.Errorf("%w", ErrExists)

// free returns where a snapshot may go.
func (s *Staging) free(a *Artefact, name string) (string, error) {
	candidates := []string{strings.TrimPrefix(a.Digest, "sha256:")}
	if ValidateName(name) == nil {
		candidates = append([]string{name}, candidates...)
	}
	target := ""
	for _, c := range candidates {
		path := filepath.Join(s.dir, c)
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			if target == "" {
				target = path
			}
			continue
		}
		if there, err := Open(path); err == nil && there.Digest == a.Digest {
			return "", fmt.Errorf("%w: %s", errSame, path)
		}
	}
	if target == "" {
		return "", fmt.Errorf("%w: %s", ErrExists, filepath.Join(s.dir, candidates[len(candidates)-1]))
	}
	return target, nil
}
