//go:build linux

package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxBackground is how many requests that nobody waits for, as of reading ahead, the
	// guest sends at a time; at congestion it begins to hold back.
	maxBackground = 64
	congestion    = 48
)

// init serves INIT: it begins a session, without anything of an earlier one.
func (c *call) init() syscall.Errno {
	if len(c.args) < 16 {
		return unix.EINVAL
	}
	major, minor, readahead, offered := le.Uint32(c.args), le.Uint32(c.args[4:]), le.Uint32(c.args[8:]), le.Uint32(c.args[12:])
	s := c.s
	s.endSession()
	b := c.grow(initOutSize)
	le.PutUint32(b[0:], protocolMajor)
	le.PutUint32(b[4:], protocolMinor)
	switch {
	case major > protocolMajor:
		return 0 // the guest will ask again with our version
	case major < protocolMajor || minor < oldestMinor:
		c.reply = c.reply[:0]
		return unix.EPROTO
	}
	want := uint32(initAsyncRead | initAtomicTrunc | initBigWrites | initDontMask | initAutoInvalData |
		initReaddirplus | initAsyncDIO | initParallelDirops | initMaxPages | initCacheSymlinks | initHandleKillpriv2)
	if s.cfg.HostLocks {
		want |= initPosixLocks | initFlockLocks
	}
	le.PutUint32(b[8:], readahead)
	le.PutUint32(b[12:], offered&want)
	le.PutUint16(b[16:], maxBackground)
	le.PutUint16(b[18:], congestion)
	le.PutUint32(b[20:], maxIO)
	le.PutUint32(b[24:], 1) // times have a resolution of 1 ns
	le.PutUint16(b[28:], maxPages)
	s.ready.Store(true)
	return 0
}

// statfs serves STATFS.
func (c *call) statfs() syscall.Errno {
	var st unix.Statfs_t
	for {
		err := unix.Fstatfs(c.s.table.root.fd, &st)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return errnoOf(err)
		}
	}
	unit := uint64(max(st.Frsize, 1))
	blocks, free, avail := st.Blocks, st.Bfree, st.Bavail
	size := uint64(st.Bsize)
	if c.s.quota.on {
		total, left := c.s.quota.figures()
		left = min(left/blockSize, avail*unit/blockSize)
		blocks, free, avail = total/blockSize, left, left
		unit, size = blockSize, blockSize
	}
	b := c.grow(statfsOutSize)
	le.PutUint64(b[0:], blocks)
	le.PutUint64(b[8:], free)
	le.PutUint64(b[16:], avail)
	le.PutUint64(b[24:], st.Files)
	le.PutUint64(b[32:], st.Ffree)
	le.PutUint32(b[40:], uint32(size))
	le.PutUint32(b[44:], uint32(min(st.Namelen, maxName)))
	le.PutUint32(b[48:], uint32(unit))
	return 0
}

// syncfs serves SYNCFS. A share that was not written since the last one costs nothing.
func (c *call) syncfs() syscall.Errno {
	if !c.s.dirty.Swap(false) {
		return 0
	}
	fd, errno := c.open(func() (int, syscall.Errno) {
		return openBeneath(c.s.table.root.fd, &dot[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	})
	if errno == 0 {
		errno = errnoOf(unix.Syncfs(fd))
		_ = unix.Close(fd)
	}
	if errno != 0 {
		c.s.dirty.Store(true)
	}
	return errno
}
