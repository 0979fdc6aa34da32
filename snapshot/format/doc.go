// Package format keeps memory checkpoints: what a paused machine is, in one directory.
//
//   - "machine" says what the checkpoint is of ([Header]), and holds the state of
//     processors and devices, and the checksum of every MiB of memory. It ends in the
//     SHA-256 of all that precedes.
//   - "memory" is the guest's RAM, region after region. Pages of zeros are holes, and
//     whoever restores it maps it privately, so that all children share the page cache and
//     load only what they touch.
//   - "seal" says which file "memory" was when its content was last known to be right:
//     its inode, size and times. As long as that file was not touched, [Open] believes it;
//     a copied or changed one is read and checked.
//   - "prefetch", if somebody recorded it for this checkpoint or its base, says which parts
//     of memory a restored machine touches first.
//
// A [Passing] checkpoint, of which copies are made at once, has no checksums, and may refer to
// the file that its machine was restored from: then "memory" has what was written since. A
// [PassingBase] has all of it, for a machine that goes on from there itself, so that the next
// ones can refer to that.
//
// A checkpoint of a machine that runs on:
//
//	d, err := format.Begin(ctx, dir, base, format.Lasting)
//	pause; err = d.Capture(ctx, header, state, memory); resume
//	err = d.Publish(ctx) // sums up, syncs, and gives the directory its name
//
// where memory is [Slices], or [Based] for a machine that was itself restored: then only
// what it has written since is looked at.
//
// and its use:
//
//	c, err := format.Open(ctx, dir)
//	err = c.Header().Fits(want) // tells what differs, and what to do
//	map c.Pieces of each region privately; restore c.State()
//
// The package may import the standard library, golang.org/x/sys, snapshot/sparse,
// internal/atomicfile and internal/staging. It must never believe a byte that no checksum
// or seal covers, never let a file make it allocate more than that file's size, never
// leave a name that holds half a checkpoint, and know nothing of what a state means.
package format

import "errors"

// Errors of this package.
var (
	// ErrDamaged reports a checkpoint that is truncated, changed or incomplete.
	ErrDamaged = errors.New("checkpoint is damaged: do not use it, restore it from a copy or remove it")
	// ErrBase reports a passing checkpoint without the file that it refers to.
	ErrBase = errors.New("the file that the checkpoint refers to is gone or was changed: make the copies anew")
	// ErrVersion reports a checkpoint in a version of the format that is unknown here.
	ErrVersion = errors.New("checkpoint has another format: use the gomsb that made it, or make it anew")
	// ErrMismatch is wrapped by a [MismatchError].
	ErrMismatch = errors.New("checkpoint does not fit")
	// ErrHeader reports a header, or memory, of which no checkpoint can be made.
	ErrHeader = errors.New("no valid checkpoint")
	// ErrExists reports a destination that is something else than a checkpoint.
	ErrExists = errors.New("there is something else than a checkpoint: choose another name or remove it")
)
