package cache

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback has the kernel begin to write a range of a file to disk, so that the
// fsync at the end finds little to do. Failure costs time only.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
