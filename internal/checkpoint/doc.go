// Package checkpoint is the directory that a running sandbox is saved into, and that copies
// of it are made from:
//
//   - "manifest.json" says what the machine was built like ([Manifest]), with the SHA-256 of
//     that;
//   - "machine" is a checkpoint of package snapshot/format: processors, devices and memory;
//   - "disks/N" is a copy of the machine's disk N, for each that the guest could write to, of
//     the same moment.
//
// A directory that has its name is complete. Whoever starts a copy puts copies of the disks
// where the new machine has its own; the runtime takes the rest from here, and changes
// nothing. The package may import snapshot/format, snapshot/sparse, internal/atomicfile,
// internal/staging, the standard library and golang.org/x/sys; it must never follow a link
// inside a directory, and knows nothing of how a machine is built.
package checkpoint

import (
	"errors"

	"github.com/gomsb/gomsb/snapshot/format"
)

// Errors of this package.
var (
	// ErrDamaged reports a checkpoint that is truncated, changed or incomplete.
	ErrDamaged = format.ErrDamaged
	// ErrVersion reports a checkpoint in a version of the format that is unknown here.
	ErrVersion = format.ErrVersion
	// ErrMismatch reports a checkpoint that does not fit what is to be made of it.
	ErrMismatch = format.ErrMismatch
	// ErrExists reports that something has the checkpoint's name already.
	ErrExists = errors.New("there is something of that name: choose another or remove it")
	// ErrManifest reports a manifest that no machine has.
	ErrManifest = errors.New("no valid manifest")
)
