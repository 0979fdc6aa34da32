//go:build linux

package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// The attribute in which owner, mode and type are kept that the guest gave to a file:
// version (1 byte), zero (3), uid, gid, mode with type, and device number (4 each), little
// endian. A file has it from its creation, or from the first change, on.
const (
	overlayVersion = 1
	overlaySize    = 20
)

var (
	overlayKey = []byte("user.msb.override_stat\x00")
	probeKey   = []byte("user.msb._probe\x00")
)

// overlay is the content of the attribute.
type overlay struct{ uid, gid, mode, rdev uint32 }

func (o *overlay) encode(b *[overlaySize]byte) {
	*b = [overlaySize]byte{overlayVersion}
	le.PutUint32(b[4:], o.uid)
	le.PutUint32(b[8:], o.gid)
	le.PutUint32(b[12:], o.mode)
	le.PutUint32(b[16:], o.rdev)
}

func decodeOverlay(b []byte) (o overlay, ok bool) {
	if len(b) != overlaySize || b[0] != overlayVersion {
		return o, false
	}
	return overlay{uid: le.Uint32(b[4:]), gid: le.Uint32(b[8:]), mode: le.Uint32(b[12:]), rdev: le.Uint32(b[16:])}, true
}

// fits reports that a file of the host's type kind can stand for the type that o says. A
// regular file stands for everything but a directory.
func (o *overlay) fits(kind uint32) bool {
	t := o.mode & unix.S_IFMT
	switch t {
	case kind, 0:
		return true
	case unix.S_IFREG, unix.S_IFLNK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		return kind == unix.S_IFREG
	}
	return false
}

// hasOverlay reports that files of a type of the host's can have the attribute.
func hasOverlay(kind uint32) bool { return kind == unix.S_IFREG || kind == unix.S_IFDIR }

// overlayAt reads the attribute of a name in a directory, overlayOf that of an open file,
// of which only the path may be open, and overlayFD that of one which is open for more.
// known is false for a file without it.
func (c *call) overlayAt(dir int, name []byte, kind uint32) (o overlay, known bool, errno syscall.Errno) {
	if c.s.cfg.Stat == StatOff || !hasOverlay(kind) {
		return o, false, 0
	}
	if c.s.xattrAt {
		n, errno := getXattrAt(dir, &name[0], overlayKey, c.value[:])
		return c.overlay(n, errno, kind)
	}
	n, errno := getXattr(c.procChild(dir, name), true, overlayKey, c.value[:])
	return c.overlay(n, errno, kind)
}

func (c *call) overlayOf(fd int, kind uint32) (o overlay, known bool, errno syscall.Errno) {
	if c.s.cfg.Stat == StatOff || !hasOverlay(kind) {
		return o, false, 0
	}
	n, errno := getXattr(c.procPath(fd), false, overlayKey, c.value[:])
	return c.overlay(n, errno, kind)
}

func (c *call) overlayFD(fd int, kind uint32) (o overlay, known bool, errno syscall.Errno) {
	if c.s.cfg.Stat == StatOff || !hasOverlay(kind) {
		return o, false, 0
	}
	n, errno := fgetXattr(fd, overlayKey, c.value[:])
	return c.overlay(n, errno, kind)
}

// overlay judges what reading the attribute gave.
func (c *call) overlay(n int, errno syscall.Errno, kind uint32) (o overlay, known bool, _ syscall.Errno) {
	switch errno {
	case 0:
	case unix.ENODATA, unix.EACCES, unix.EPERM:
		// Who may not read the attribute of a file sees the host's.
		return o, false, 0
	case unix.EOPNOTSUPP:
		if c.s.cfg.Stat == StatRelaxed {
			return o, false, 0
		}
		return o, false, unix.EIO
	case unix.ERANGE:
		return o, false, unix.EIO
	default:
		return o, false, errno
	}
	o, ok := decodeOverlay(c.value[:n])
	if !ok || !o.fits(kind) {
		return o, false, unix.EIO
	}
	return o, true, 0
}

// setOverlayAt stores the attribute of a name in a directory, setOverlay that of the file
// that a path in /proc leads to.
func (c *call) setOverlayAt(dir int, name []byte, o overlay) syscall.Errno {
	var b [overlaySize]byte
	o.encode(&b)
	if c.s.xattrAt {
		return c.stored(setXattrAt(dir, &name[0], overlayKey, b[:]))
	}
	return c.stored(setXattr(c.procChild(dir, name), true, overlayKey, b[:], 0))
}

func (c *call) setOverlay(path *byte, o overlay) syscall.Errno {
	var b [overlaySize]byte
	o.encode(&b)
	return c.stored(setXattr(path, false, overlayKey, b[:], 0))
}

// setOverlayFD stores the attribute of an open file.
func (c *call) setOverlayFD(fd int, o overlay) syscall.Errno {
	var b [overlaySize]byte
	o.encode(&b)
	return c.stored(fsetXattr(fd, overlayKey, b[:], 0))
}

// errUnsupported says that a relaxed share could not store an attribute, so that the host
// file has to do.
const errUnsupported = unix.EOPNOTSUPP

// stored judges what storing the attribute gave.
func (c *call) stored(errno syscall.Errno) syscall.Errno {
	if errno == unix.EOPNOTSUPP && c.s.cfg.Stat == StatStrict {
		return unix.EIO
	}
	return errno
}

// hasXattrAt reports that the host's kernel has getXattrAt, and that nobody has forbidden
// it to this process.
func hasXattrAt(root int) bool {
	var b [overlaySize]byte
	switch _, errno := getXattrAt(root, &dot[0], overlayKey, b[:]); errno {
	case 0, unix.ENODATA, unix.ERANGE:
		return true
	}
	return false
}

// probe checks that files in a directory can have extended attributes.
func probe(root int) syscall.Errno {
	var c call
	if _, errno := getXattr(c.procPath(root), false, overlayKey, c.value[:]); errno == unix.EOPNOTSUPP {
		return errno // also for who may not write
	}
	if errno := setXattr(c.procPath(root), false, probeKey, []byte{1}, 0); errno != 0 {
		return errno
	}
	return removeXattr(c.procPath(root), probeKey)
}
