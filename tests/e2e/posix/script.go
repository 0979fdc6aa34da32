//go:build linux

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// script carries out lines of system calls in a directory:
//
//	[USER[:GROUP[,GROUP...]]] CALL ARGUMENT... [ERRNO[|ERRNO...]]
//
// Root acts unless a line begins with a user's number, whose group has the same number if
// no other is given. A line must succeed unless it ends with error names, one of which must
// come then. Numbers are octal where they are modes. A path may contain {N} for N letters,
// and {PATH} for a path of 4096 bytes. Lines of the form
//
//	stat PATH FIELD=VALUE...
//
// compare attributes; lstat does so of a symbolic link itself. mark PATH remembers times,
// changed PATH and kept PATH compare them by the names mtime and ctime.
type script struct {
	dir   string
	marks map[string]unix.Stat_t
}

// call is a system call of a script: how many arguments it takes and what it does.
type call struct {
	args int // -1: any number
	do   func(s *script, a []string) error
}

func (s *script) run(text string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if err := s.line(line); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return nil
}

func (s *script) line(line string) error {
	words := strings.Fields(line)
	who := identity{}
	if c := words[0][0]; c >= '0' && c <= '9' {
		var err error
		if who, err = parseIdentity(words[0]); err != nil {
			return err
		}
		words = words[1:]
	}
	c, ok := calls[words[0]]
	if !ok {
		return errors.New("no such call")
	}
	args := words[1:]
	var want []string
	if n := len(args); n > 0 && isErrno(args[n-1]) {
		want, args = strings.Split(args[n-1], "|"), args[:n-1]
	}
	if c.args >= 0 && len(args) != c.args {
		return fmt.Errorf("%d arguments", len(args))
	}
	var err error
	if e := who.act(func() { err = c.do(s, args) }); e != nil {
		return e
	}
	return compareErrno(err, want)
}

func isErrno(word string) bool {
	return len(word) > 2 && word[0] == 'E' && strings.ToUpper(word) == word && !strings.ContainsAny(word, "./=")
}

func compareErrno(err error, want []string) error {
	if len(want) == 0 {
		return err
	}
	if err == nil {
		return fmt.Errorf("succeeded instead of %s", strings.Join(want, " or "))
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		for _, w := range want {
			if unix.ErrnoName(errno) == w {
				return nil
			}
		}
	}
	return fmt.Errorf("%w instead of %s", err, strings.Join(want, " or "))
}

// path is a path of a script below its directory.
func (s *script) path(p string) string {
	p = expand(p)
	if p == "" {
		return ""
	}
	return s.dir + "/" + p // not cleaned: slashes and dots matter
}

// expand replaces {N} by N letters, and {PATH} by a path that is too long.
func expand(p string) string {
	for {
		before, rest, ok := strings.Cut(p, "{")
		if !ok {
			return p
		}
		inside, after, _ := strings.Cut(rest, "}")
		text := strings.Repeat("x/", 2048)
		if inside != "PATH" {
			n, err := strconv.Atoi(inside)
			if err != nil {
				panic("bad path in a script: " + p)
			}
			text = strings.Repeat("x", n)
		}
		p = before + text + after
	}
}

func number(text string, base int) uint64 {
	n, err := strconv.ParseUint(text, base, 63)
	if err != nil {
		panic("bad number in a script: " + text)
	}
	return n
}

func mode(text string) uint32 { return uint32(number(text, 8)) }

// id is a user's or group's number, or - for none.
func id(text string) int {
	if text == "-" {
		return -1
	}
	return int(number(text, 10))
}

func close(fd int, err error) error {
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

var openFlags = map[string]int{
	"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR, "creat": unix.O_CREAT, "excl": unix.O_EXCL, "trunc": unix.O_TRUNC, "append": unix.O_APPEND,
	"dir": unix.O_DIRECTORY, "nofollow": unix.O_NOFOLLOW, "nonblock": unix.O_NONBLOCK,
}

func flags(text string) (flags int) {
	for f := range strings.SplitSeq(text, ",") {
		n, ok := openFlags[f]
		if !ok {
			panic("bad flag in a script: " + f)
		}
		flags |= n
	}
	return flags | unix.O_CLOEXEC
}

var calls = map[string]call{
	"mkdir": {2, func(s *script, a []string) error { return unix.Mkdir(s.path(a[0]), mode(a[1])) }},
	"rmdir": {1, func(s *script, a []string) error { return unix.Rmdir(s.path(a[0])) }},
	"create": {2, func(s *script, a []string) error {
		return close(unix.Open(s.path(a[0]), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode(a[1])))
	}},
	"open": {2, func(s *script, a []string) error { return close(unix.Open(s.path(a[0]), flags(a[1]), 0o644)) }},
	"make": {2, func(s *script, a []string) error { return makeFile(s.path(a[0]), a[1], 0o644) }},
	"mknod": {5, func(s *script, a []string) error {
		return unix.Mknod(s.path(a[0]), fileTypes[a[1]]|mode(a[2]), int(unix.Mkdev(uint32(number(a[3], 10)), uint32(number(a[4], 10)))))
	}},
	"mkfifo":  {2, func(s *script, a []string) error { return unix.Mkfifo(s.path(a[0]), mode(a[1])) }},
	"unlink":  {1, func(s *script, a []string) error { return unix.Unlink(s.path(a[0])) }},
	"link":    {2, func(s *script, a []string) error { return unix.Link(s.path(a[0]), s.path(a[1])) }},
	"symlink": {2, func(s *script, a []string) error { return unix.Symlink(expand(a[0]), s.path(a[1])) }},
	"rename":  {2, func(s *script, a []string) error { return unix.Rename(s.path(a[0]), s.path(a[1])) }},
	"exchange": {2, func(s *script, a []string) error {
		return unix.Renameat2(unix.AT_FDCWD, s.path(a[0]), unix.AT_FDCWD, s.path(a[1]), unix.RENAME_EXCHANGE)
	}},
	"noreplace": {2, func(s *script, a []string) error {
		return unix.Renameat2(unix.AT_FDCWD, s.path(a[0]), unix.AT_FDCWD, s.path(a[1]), unix.RENAME_NOREPLACE)
	}},
	"chmod":  {2, func(s *script, a []string) error { return unix.Chmod(s.path(a[0]), mode(a[1])) }},
	"chown":  {3, func(s *script, a []string) error { return unix.Chown(s.path(a[0]), id(a[1]), id(a[2])) }},
	"lchown": {3, func(s *script, a []string) error { return unix.Lchown(s.path(a[0]), id(a[1]), id(a[2])) }},
	"truncate": {2, func(s *script, a []string) error {
		n, err := strconv.ParseInt(a[1], 10, 64)
		if err != nil {
			panic(err)
		}
		return unix.Truncate(s.path(a[0]), n)
	}},
	"utimes": {3, func(s *script, a []string) error { return setTimes(s.path(a[0]), a[1], a[2], 0) }},
	"lutimes": {3, func(s *script, a []string) error {
		return setTimes(s.path(a[0]), a[1], a[2], unix.AT_SYMLINK_NOFOLLOW)
	}},
	"readlink": {2, func(s *script, a []string) error { return readLink(s.path(a[0]), expand(a[1])) }},
	"write":    {2, func(s *script, a []string) error { return writeFile(s.path(a[0]), a[1], unix.O_WRONLY) }},
	"append":   {2, func(s *script, a []string) error { return writeFile(s.path(a[0]), a[1], unix.O_WRONLY|unix.O_APPEND) }},
	"read":     {2, func(s *script, a []string) error { return readFile(s.path(a[0]), a[1]) }},
	"access":   {2, func(s *script, a []string) error { return access(s.path(a[0]), a[1]) }},
	"missing":  {1, func(s *script, a []string) error { return missing(s.path(a[0])) }},
	"umask":    {1, func(_ *script, a []string) error { unix.Umask(int(mode(a[0]))); return nil }},
	"stat":     {-1, func(s *script, a []string) error { return compareStat(s, unix.Stat, a) }},
	"lstat":    {-1, func(s *script, a []string) error { return compareStat(s, unix.Lstat, a) }},
	"mark":     {1, (*script).mark},
	"tick":     {0, func(*script, []string) error { time.Sleep(tick); return nil }},
	"changed":  {-1, func(s *script, a []string) error { return s.compareTimes(a, true) }},
	"kept":     {-1, func(s *script, a []string) error { return s.compareTimes(a, false) }},
}

// tick is longer than file systems take for a moment.
const tick = 25 * time.Millisecond

func (s *script) mark(a []string) error {
	var st unix.Stat_t
	if err := unix.Lstat(s.path(a[0]), &st); err != nil {
		return err
	}
	if s.marks == nil {
		s.marks = map[string]unix.Stat_t{}
	}
	s.marks[a[0]] = st
	return nil
}

func (s *script) compareTimes(a []string, changed bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(s.path(a[0]), &st); err != nil {
		return err
	}
	old := s.marks[a[0]]
	for _, field := range a[1:] {
		before, after := old.Mtim, st.Mtim
		if field == "ctime" {
			before, after = old.Ctim, st.Ctim
		}
		if (before != after) != changed {
			return fmt.Errorf("%s was %d.%09d and is %d.%09d", field, before.Sec, before.Nsec, after.Sec, after.Nsec)
		}
	}
	return nil
}

func compareStat(s *script, stat func(string, *unix.Stat_t) error, a []string) error {
	var st unix.Stat_t
	if err := stat(s.path(a[0]), &st); err != nil {
		return err
	}
	for _, pair := range a[1:] {
		field, want, _ := strings.Cut(pair, "=")
		var got string
		switch field {
		case "type":
			got = typeName(st.Mode)
		case "mode":
			got = strconv.FormatUint(uint64(st.Mode&0o7777), 8)
		case "uid":
			got = strconv.Itoa(int(st.Uid))
		case "gid":
			got = strconv.Itoa(int(st.Gid))
		case "nlink":
			got = strconv.Itoa(int(st.Nlink))
		case "size":
			got = strconv.Itoa(int(st.Size))
		case "dev":
			got = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		case "mtime":
			got = fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		case "atime":
			got = fmt.Sprintf("%d.%09d", st.Atim.Sec, st.Atim.Nsec)
		case "same":
			var other unix.Stat_t
			if err := unix.Lstat(s.path(want), &other); err != nil {
				return err
			}
			if other.Ino != st.Ino || other.Dev != st.Dev {
				return fmt.Errorf("is not the same file as %s", want)
			}
			continue
		default:
			panic("bad field in a script: " + field)
		}
		if got != want {
			return fmt.Errorf("%s is %s", field, got)
		}
	}
	return nil
}

var fileTypes = map[string]uint32{
	"file": unix.S_IFREG, "dir": unix.S_IFDIR, "symlink": unix.S_IFLNK, "fifo": unix.S_IFIFO, "char": unix.S_IFCHR, "block": unix.S_IFBLK, "socket": unix.S_IFSOCK,
}

func typeName(mode uint32) string {
	for name, t := range fileTypes {
		if mode&unix.S_IFMT == t {
			return name
		}
	}
	return "nothing"
}

// makeFile makes a file of any type; a symbolic link leads nowhere.
func makeFile(path, kind string, mode uint32) error {
	switch kind {
	case "dir":
		return unix.Mkdir(path, mode|0o111)
	case "symlink":
		return unix.Symlink("nowhere", path)
	case "file":
		return close(unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode))
	}
	return unix.Mknod(path, fileTypes[kind]|mode, int(unix.Mkdev(1, 3)))
}

// setTimes sets times: seconds with a fraction, now, or - to leave it.
func setTimes(path, atime, mtime string, flags int) error {
	var ts [2]unix.Timespec
	for i, text := range []string{atime, mtime} {
		switch text {
		case "now":
			ts[i].Nsec = unix.UTIME_NOW
		case "-":
			ts[i].Nsec = unix.UTIME_OMIT
		default:
			sec, frac, _ := strings.Cut(text, ".")
			ts[i] = unix.Timespec{Sec: int64(number(sec, 10)), Nsec: int64(number(frac, 10))}
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts[:], flags)
}

func readLink(path, want string) error {
	buf := make([]byte, 8192)
	n, err := unix.Readlink(path, buf)
	if err == nil && string(buf[:n]) != want {
		err = fmt.Errorf("%q", buf[:n])
	}
	return err
}

func writeFile(path, text string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(text))
	return errors.Join(err, unix.Close(fd))
}

func readFile(path, want string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err == nil && strings.ReplaceAll(string(buf[:n]), "\x00", "0") != want {
		err = fmt.Errorf("%q", buf[:n])
	}
	return errors.Join(err, unix.Close(fd))
}

// access asks what the effective user may do.
func access(path, how string) error {
	var bits uint32
	for _, c := range how {
		bits |= map[rune]uint32{'r': unix.R_OK, 'w': unix.W_OK, 'x': unix.X_OK, 'f': unix.F_OK}[c]
	}
	return unix.Faccessat(unix.AT_FDCWD, path, bits, unix.AT_EACCESS)
}

func missing(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s is there: %w", filepath.Base(path), errors.Join(err))
	}
	return nil
}
