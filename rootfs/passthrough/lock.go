//go:build linux

package passthrough

import (
	"math"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Locks of the guest that also exclude others on the host, see Config.HostLocks. The host
// tells the owners of such locks apart by open file descriptions (fcntl(2), "open file
// description locks"), so each owner has one of each file that it locks: closing it gives
// up all that it holds.

// maxLocks bounds the owners of locks of all files.
const maxLocks = 1024

// lockKey is an owner of locks of a file. Record locks and whole-file locks do not know
// of each other.
type lockKey struct {
	node  uint64
	owner uint64
	whole bool
}

// locks is all owners of a session.
type locks struct {
	mu   sync.Mutex
	held map[lockKey]int // descriptors; protected by mu
	// waiting are the requests that were put aside; true if interrupted; protected by mu.
	waiting map[uint64]bool
}

func (l *locks) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range l.held {
		_ = unix.Close(fd)
	}
	l.held, l.waiting = nil, nil
}

// end gives up the locks of an owner.
func (l *locks) end(k lockKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd, ok := l.held[k]; ok {
		delete(l.held, k)
		_ = unix.Close(fd)
	}
}

// endNode gives up all locks of a file that is open nowhere any more.
func (l *locks) endNode(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, fd := range l.held {
		if k.node == id {
			delete(l.held, k)
			_ = unix.Close(fd)
		}
	}
}

// lockIn is struct fuse_lk_in.
type lockIn struct {
	fh, owner  uint64
	start, end uint64
	kind       uint32
	whole      bool
}

func parseLock(a []byte) lockIn {
	return lockIn{
		fh: le.Uint64(a), owner: le.Uint64(a[8:]), start: le.Uint64(a[16:]), end: le.Uint64(a[24:]),
		kind: le.Uint32(a[32:]), whole: le.Uint32(a[40:])&lockFlock != 0,
	}
}

// flock is the range as the host's kernel takes it; a length of 0 goes on for ever.
func (a *lockIn) flock() unix.Flock_t {
	l := unix.Flock_t{Type: int16(a.kind), Start: int64(a.start)}
	if a.end < math.MaxInt64 {
		l.Len = int64(a.end - a.start + 1)
	}
	return l
}

// lock serves GETLK, SETLK and SETLKW.
func (c *call) lock() syscall.Errno {
	if !c.s.cfg.HostLocks {
		return unix.ENOSYS // the guest's kernel keeps locks itself
	}
	b := c.fixed(48)
	if b == nil {
		return unix.EINVAL
	}
	a := parseLock(b)
	if a.start > math.MaxInt64 || a.end < a.start || a.kind > unix.F_UNLCK {
		return unix.EINVAL
	}
	h, errno := c.useFile(c.nodeID, a.fh)
	if errno != 0 {
		return errno
	}
	defer c.endHandle(h)
	if c.op == opGetlk {
		return c.getLock(h, &a)
	}
	errno = c.setLock(h, &a)
	if c.op != opSetlkw || errno != unix.EAGAIN {
		c.settle()
		return errno
	}
	if c.wait() {
		return unix.EINTR
	}
	c.again = true
	return 0
}

// getLock finds a lock that keeps the one in question from being taken.
func (c *call) getLock(h *handle, a *lockIn) syscall.Errno {
	l := &c.s.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	fd, ok := l.held[lockKey{h.node.id, a.owner, false}]
	if !ok {
		fd = h.fd
	}
	lk := a.flock()
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lk); err != nil {
		return errnoOf(err)
	}
	b := c.grow(24)
	start, end := uint64(lk.Start), uint64(math.MaxInt64)
	if lk.Len > 0 {
		end = start + uint64(lk.Len) - 1
	}
	le.PutUint64(b[0:], start)
	le.PutUint64(b[8:], end)
	le.PutUint32(b[16:], uint32(lk.Type))
	return 0
}

// setLock takes or gives up a lock, without waiting.
func (c *call) setLock(h *handle, a *lockIn) syscall.Errno {
	l := &c.s.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	k := lockKey{h.node.id, a.owner, a.whole}
	fd, ok := l.held[k]
	if !ok {
		if a.kind == unix.F_UNLCK {
			return 0
		}
		if len(l.held) >= maxLocks {
			return unix.ENOLCK
		}
		var errno syscall.Errno
		if fd, errno = c.lockFile(h); errno != 0 {
			return errno
		}
	}
	errno := apply(fd, a)
	switch {
	case ok:
	case errno != 0:
		_ = unix.Close(fd)
	default:
		if l.held == nil {
			l.held = make(map[lockKey]int)
		}
		l.held[k] = fd
	}
	return errno
}

// lockFile opens the file of a handle once more.
func (c *call) lockFile(h *handle) (int, syscall.Errno) {
	flags := unix.O_RDONLY | unix.O_NONBLOCK
	if h.writable() {
		flags = unix.O_RDWR | unix.O_NONBLOCK
	}
	return c.open(func() (int, syscall.Errno) { return openPath(c.procPath(h.fd), flags) })
}

func apply(fd int, a *lockIn) syscall.Errno {
	if a.whole {
		how := map[uint32]int{unix.F_RDLCK: unix.LOCK_SH, unix.F_WRLCK: unix.LOCK_EX, unix.F_UNLCK: unix.LOCK_UN}[a.kind]
		return errnoOf(unix.Flock(fd, how|unix.LOCK_NB))
	}
	lk := a.flock()
	errno := errnoOf(unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lk))
	if errno == unix.EACCES {
		return unix.EAGAIN
	}
	return errno
}

// wait notes that the request is put aside, and reports whether it was interrupted.
func (c *call) wait() (interrupted bool) {
	l := &c.s.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		l.waiting = make(map[uint64]bool)
	}
	if interrupted = l.waiting[c.unique]; interrupted {
		delete(l.waiting, c.unique)
	} else {
		l.waiting[c.unique] = false
	}
	return interrupted
}

// settle notes that the request waits no more.
func (c *call) settle() {
	l := &c.s.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, c.unique)
}

// interrupt serves INTERRUPT: it ends a request that was put aside.
func (c *call) interrupt() {
	a := c.fixed(8)
	if a == nil {
		return
	}
	l := &c.s.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.waiting[le.Uint64(a)]; ok {
		l.waiting[le.Uint64(a)] = true
	}
}
