package fs

import (
	"encoding/binary"
	"time"

	"github.com/gomsb/gomsb/vmm/virtio"
)

// request is one request in flight. It is reused.
type request struct {
	lane   *lane
	chain  virtio.Chain
	header [HeaderSize]byte
	// rest is how long the request is put aside the next time.
	rest time.Duration
	due  time.Time
}

// Operations that wait for a disk by their nature (include/uapi/linux/fuse.h).
const (
	opFsync         = 20
	opFlush         = 25
	opFsyncDir      = 30
	opFallocate     = 43
	opCopyFileRange = 47
	opSyncFS        = 50
)

// waits reports that a request with this header is none for the goroutine of a queue.
func waits(header *[HeaderSize]byte) bool {
	switch binary.LittleEndian.Uint32(header[4:]) {
	case opFsync, opFlush, opFsyncDir, opFallocate, opCopyFileRange, opSyncFS:
		return true
	}
	return false
}
