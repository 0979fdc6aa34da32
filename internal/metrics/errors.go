package metrics

import "errors"

// Errors of this package.
var (
	// ErrNotFound reports that there is no such segment.
	ErrNotFound = errors.New("no metrics registry")
	// ErrFormat reports a segment that is none of version 3, or is not finished.
	ErrFormat = errors.New("not a metrics registry of this release")
	// ErrOwner reports a segment of another user, who could put anything into it.
	ErrOwner = errors.New("metrics registry belongs to another user: remove it, or choose another MSB_HOME")
	// ErrFull reports that every slot is taken.
	ErrFull = errors.New("all slots of the metrics registry are taken")
	// ErrGeneration reports a slot that somebody else uses by now.
	ErrGeneration = errors.New("metrics slot is used by somebody else")
	// ErrBusy reports a slot whose writer does not finish.
	ErrBusy = errors.New("metrics slot is being written all the time")
)
