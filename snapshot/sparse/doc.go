// Package sparse copies files with their holes: by sharing blocks where the file system
// can, else data run by data run, and it tells where a file's data is. It opens them without
// trust in the directory that they are in. It may import the
// standard library and golang.org/x/sys only. It must never write out a hole as zeros: a
// disk of 4 GiB that holds 20 MiB takes 20 MiB, or the copy fails.
package sparse

import "errors"

// Errors of this package.
var (
	// ErrUnsupported reports a file system or system that cannot tell holes from data.
	ErrUnsupported = errors.New("the file system cannot copy sparse files: keep snapshots and sandboxes on one that can, such as ext4, xfs or btrfs")
	// ErrCannotShare reports a file system whose files cannot share blocks.
	ErrCannotShare = errors.New("the file system cannot share blocks between files: use one that can, such as xfs or btrfs, or let the blocks be copied")
	// ErrNotRegular reports a source that is a link, a directory or a device.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge reports a file of more bytes than its reader takes.
	ErrTooLarge = errors.New("too large")
	// ErrChanged reports a source that became shorter while it was copied.
	ErrChanged = errors.New("the file changed while it was read: stop what writes it")
)

// Extent is a run of data in a file, in bytes. Length is positive.
type Extent struct{ Offset, Length int64 }

// End is the offset after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }
