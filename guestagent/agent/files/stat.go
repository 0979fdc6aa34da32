//go:build linux

package files

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

func kindOf(mode uint32) proto.EntryKind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return proto.EntryFile
	case unix.S_IFDIR:
		return proto.EntryDir
	case unix.S_IFLNK:
		return proto.EntrySymlink
	}
	return proto.EntryOther
}

func entryOf(path string, st *unix.Stat_t) proto.FSEntry {
	atime, mtime := st.Atim.Sec, st.Mtim.Sec
	return proto.FSEntry{
		Path: path, Kind: kindOf(st.Mode), Size: uint64(st.Size), Mode: st.Mode, UID: st.Uid, GID: st.Gid,
		Modified: &mtime, Atime: &atime, Mtime: &mtime,
	}
}

func statAt(dir int, path string, follow bool, st *unix.Stat_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	return retry(func() error { return unix.Fstatat(dir, path, st, flags) })
}

// retry repeats a system call that a signal interrupted.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func stat(op proto.FSStat) (*proto.FSResult, error) {
	var st unix.Stat_t
	if err := statAt(unix.AT_FDCWD, op.Path, op.FollowSymlink, &st); err != nil {
		return nil, failed("stat: ", err)
	}
	return &proto.FSResult{Kind: proto.ResultStat, Entry: entryOf(op.Path, &st)}, nil
}

func (s *Service) fstat(id uint32, op proto.FSFStat) (*proto.FSResult, error) {
	h, err := s.find(id, op.Handle)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if h.dir {
		err = statAt(unix.AT_FDCWD, h.path, true, &st)
	} else {
		err = onFD(h.file, func(fd int) error { return unix.Fstat(fd, &st) })
	}
	if err != nil {
		return nil, failed("fstat: ", err)
	}
	return &proto.FSResult{Kind: proto.ResultStat, Entry: entryOf(h.path, &st)}, nil
}

// onFD calls f with the descriptor of file, which stays open meanwhile.
func onFD(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = retry(func() error { return f(int(fd)) }) }); err != nil {
		return err
	}
	return inner
}

// target is a file whose attributes are set: by path or by descriptor.
type target struct {
	stat     func(*unix.Stat_t) error
	truncate func(size int64) error // its error names its step
	chmod    func(mode uint32) error
	chown    func(uid, gid int) error
	utimes   func(ts []unix.Timespec) error
	symlink  bool // attributes of a link itself are meant
}

func setStat(op proto.FSSetStat) error {
	flags := 0
	if !op.FollowSymlink {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	t := target{
		stat:     func(st *unix.Stat_t) error { return statAt(unix.AT_FDCWD, op.Path, op.FollowSymlink, st) },
		truncate: func(size int64) error { return truncate(op.Path, size) },
		chmod:    func(mode uint32) error { return unix.Fchmodat(unix.AT_FDCWD, op.Path, mode, 0) },
		chown:    func(uid, gid int) error { return unix.Fchownat(unix.AT_FDCWD, op.Path, uid, gid, flags) },
		utimes:   func(ts []unix.Timespec) error { return unix.UtimesNanoAt(unix.AT_FDCWD, op.Path, ts, flags) },
		symlink:  !op.FollowSymlink,
	}
	return t.set("setstat: ", op.Attrs)
}

func truncate(path string, size int64) error {
	fd, err := open(path, unix.O_WRONLY, 0)
	if err != nil {
		return failed("open for truncate: ", err)
	}
	err = retry(func() error { return unix.Ftruncate(fd, size) })
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return failed("set_len: ", err)
	}
	return nil
}

func (s *Service) fsetStat(id uint32, op proto.FSFSetStat) error {
	h, err := s.findFile(id, op.Handle)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return onFD(h.file, func(fd int) error {
		t := target{
			stat: func(st *unix.Stat_t) error { return unix.Fstat(fd, st) },
			truncate: func(size int64) error {
				if err := unix.Ftruncate(fd, size); err != nil {
					return failed("set_len: ", err)
				}
				return nil
			},
			chmod:  func(mode uint32) error { return unix.Fchmod(fd, mode) },
			chown:  func(uid, gid int) error { return unix.Fchown(fd, uid, gid) },
			utimes: func(ts []unix.Timespec) error { return futimens(fd, ts) },
		}
		return t.set("fsetstat: ", op.Attrs)
	})
}

// permissions are the bits of a mode that chmod sets.
const permissions = 0o7777

// errLinkMode: Linux has no permission bits of links.
var errLinkMode = errors.New("chmod on symlink without following is not supported")

// set changes what a gives, in the protocol's order.
func (t target) set(op string, a proto.FSAttrs) error {
	if a.Size != nil {
		if *a.Size > 1<<63-1 {
			return failed(op+"set_len: ", unix.EINVAL)
		}
		if err := t.truncate(int64(*a.Size)); err != nil {
			return failed(op, err)
		}
	}
	if a.Mode != nil {
		if err := t.setMode(*a.Mode); err != nil {
			return failed(op, err)
		}
	}
	if a.UID != nil || a.GID != nil {
		if err := retry(func() error { return t.chown(idOr(a.UID), idOr(a.GID)) }); err != nil {
			return failed(op+"chown: ", err)
		}
	}
	if a.Atime != nil || a.Mtime != nil {
		if err := t.setTimes(a.Atime, a.Mtime); err != nil {
			return failed(op, err)
		}
	}
	return nil
}

// idOr returns -1, "no change", for nil.
func idOr(id *uint32) int {
	if id == nil {
		return -1
	}
	return int(*id)
}

func (t target) setMode(mode uint32) error {
	if t.symlink {
		var st unix.Stat_t
		if err := t.stat(&st); err != nil {
			return failed("lstat before chmod: ", err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return errLinkMode
		}
	}
	if err := retry(func() error { return t.chmod(mode & permissions) }); err != nil {
		return failed("chmod: ", err)
	}
	return nil
}

func (t target) setTimes(atime, mtime *int64) error {
	if atime == nil || mtime == nil {
		var st unix.Stat_t
		if err := t.stat(&st); err != nil {
			return failed("stat before utimensat: ", err)
		}
		if atime == nil {
			atime = &st.Atim.Sec
		}
		if mtime == nil {
			mtime = &st.Mtim.Sec
		}
	}
	ts := []unix.Timespec{{Sec: *atime}, {Sec: *mtime}}
	if err := retry(func() error { return t.utimes(ts) }); err != nil {
		return failed("utimensat: ", err)
	}
	return nil
}

// listed is the path of a directory's entry as the protocol shows it.
func listed(dir, name string) string {
	if !strings.HasSuffix(dir, "/") {
		dir += "/"
	}
	return strings.ToValidUTF8(dir+name, "\uFFFD")
}
