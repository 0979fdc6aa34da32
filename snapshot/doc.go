// Package snapshot makes, opens, checks, lists and removes disk snapshots: directories
// that hold a copy of a sandbox's upper disk and a descriptor, perhaps a checkpoint of the
// machine besides, and that may be moved and shared. It may import its own subpackages,
// internal/atomicfile and internal/filelock only. It must never follow a link inside an
// artefact, never leave a name that holds half a snapshot, and know nothing of sandboxes,
// images or the index: callers see to it that the disk is at rest.
package snapshot

import (
	"errors"
	"fmt"
	"os"
)

// Errors of this package.
var (
	// ErrName reports a name that no snapshot may have.
	ErrName = errors.New("not a snapshot name: use a plain name without / \\ : that does not start with . or ~")
	// ErrExists reports a destination that is taken.
	ErrExists = errors.New("snapshot already exists")
	// ErrNotFound reports a path that holds no snapshot.
	ErrNotFound = errors.New("snapshot not found")
	// ErrPayload reports a payload that is missing, not a file, or not of the recorded size.
	ErrPayload = errors.New("snapshot payload is damaged: restore the artefact or remove it")
	// ErrLegacy reports an artefact of a release before 0.6.14 that cannot be read.
	ErrLegacy = errors.New("snapshot of an older microsandbox cannot be used")
)

// NotFoundError is an [ErrNotFound] that tells the path and what was found there.
type NotFoundError struct {
	Path  string
	Cause error // may be nil
}

// Error names the path, and the cause unless it is that nothing is there.
func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("%v: %s", ErrNotFound, e.Path)
	if e.Cause != nil && !errors.Is(e.Cause, os.ErrNotExist) {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap makes the error an [ErrNotFound] and its cause.
func (e *NotFoundError) Unwrap() []error { return []error{ErrNotFound, e.Cause} }
