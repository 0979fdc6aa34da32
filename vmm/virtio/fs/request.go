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

// Operations that the device treats in a way of their own (include/uapi/linux/fuse.h).
const (
	opRead          = 15
	opWrite         = 16
	opFsync         = 20
	opFlush         = 25
	opFsyncDir      = 30
	opFallocate     = 43
	opCopyFileRange = 47
	opSyncFS        = 50
)

// weight says how long a request may take.
type weight int

const (
	// light requests look at names and attributes.
	light weight = iota
	// bulky ones move data.
	bulky
	// heavy ones wait for a disk by their nature.
	heavy
)

// weigh judges a request by its header.
func weigh(header *[HeaderSize]byte) weight {
	switch binary.LittleEndian.Uint32(header[4:]) {
	case opRead, opWrite:
		return bulky
	case opFsync, opFlush, opFsyncDir, opFallocate, opCopyFileRange, opSyncFS:
		return heavy
	}
	return light
}
