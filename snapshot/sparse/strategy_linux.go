package sparse

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Share makes the empty file dst share all blocks of src, or fails with ErrCannotShare
// where the file system has no such thing.
func Share(dst, src *os.File) error {
	err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	if err != nil && cannotClone(err) {
		return fmt.Errorf("clone %s: %w: %w", src.Name(), ErrCannotShare, err)
	}
	return err
}

// CopyData is Copy that never shares blocks by itself.
func CopyData(ctx context.Context, dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", src.Name(), ErrNotRegular)
	}
	return copyExtents(ctx, dst, src, info.Size())
}
