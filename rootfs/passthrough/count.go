//go:build linux

package passthrough

import (
	"golang.org/x/sys/unix"
)

const (
	// maxLinked bounds how many files with several names are remembered in a count.
	maxLinked = 1 << 20
	// maxCountDepth bounds how deep directories are counted; each level takes a
	// descriptor.
	maxCountDepth = 128
)

// counter adds up the lengths of all files below a directory.
type counter struct {
	stop   <-chan struct{}
	only   string // the one name of the root, with its NUL, that counts
	total  int64
	linked map[identity]bool
	c      call
}

// countShare adds up the lengths of the files of the share; false if it could not look at
// all of them.
func (s *Server) countShare() (int64, bool) {
	k := counter{stop: s.closing, linked: make(map[identity]bool)}
	if s.cfg.Only != "" {
		k.only = s.cfg.Only + "\x00"
	}
	fd, errno := openBeneath(s.table.root.fd, &dot[0], unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errno != 0 {
		return 0, false
	}
	ok := k.directory(fd, 0)
	return k.total, ok
}

// directory counts what is in an open directory, which it closes.
func (k *counter) directory(fd, depth int) bool {
	d := dirStream{}
	defer func() { _ = unix.Close(fd) }()
	for {
		select {
		case <-k.stop:
			return false
		default:
		}
		e, errno := d.peek(fd)
		if errno != 0 {
			return false
		}
		if e.name == nil {
			return true
		}
		if !k.entry(fd, depth, &e) {
			return false
		}
		d.skip(&e)
	}
}

func (k *counter) entry(fd, depth int, e *hostEntry) bool {
	name := string(e.name)
	if name == ".\x00" || name == "..\x00" || depth == 0 && k.only != "" && name != k.only {
		return true
	}
	st := &k.c.st
	if errno := statAt(fd, &e.name[0], st); errno != 0 {
		return errno == unix.ENOENT // it is gone
	}
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink > 1 {
			id := identityOf(st)
			if k.linked[id] {
				return true
			}
			if len(k.linked) < maxLinked {
				k.linked[id] = true
			}
		}
		k.total += int64(min(st.Size, 1<<62-uint64(k.total)))
	case unix.S_IFDIR:
		if depth == maxCountDepth {
			return false
		}
		child, errno := openBeneath(fd, &e.name[0], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if errno != 0 {
			// What the server may not read the guest cannot fill.
			return errno == unix.ENOENT || errno == unix.EACCES
		}
		return k.directory(child, depth+1)
	}
	return true
}
