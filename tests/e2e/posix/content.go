//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// contentChecks are about what is in files.
func contentChecks() (all []check) {
	for name, script := range map[string]string{
		"truncate-shrinks":   "create f 644\nwrite f 0123456789\ntruncate f 4\nread f 0123\nstat f size=4",
		"truncate-extends":   "create f 644\nwrite f 12\ntruncate f 5\nread f 12000\nstat f size=5",
		"truncate-clears":    "create f 644\nwrite f 123456\ntruncate f 2\ntruncate f 6\nread f 120000",
		"truncate-negative":  "create f 644\ntruncate f -1 EINVAL",
		"truncate-two-gigas": "create f 644\ntruncate f 2684354560\nstat f size=2684354560\ntruncate f 0",
		"truncate-same":      "create f 644\nwrite f text\ntruncate f 4\nread f text",
		"overwrites":         "create f 644\nwrite f 123456\nwrite f ab\nread f ab3456",
		"appends":            "create f 644\nappend f one\nappend f two\nread f onetwo",
	} {
		all = append(all, check{name: "content/" + name, script: script})
	}
	for name, f := range map[string]func(dir string) error{
		"hole":              hole,
		"seek-hole":         seekHole,
		"vectors":           vectors,
		"positions":         positions,
		"append-concurrent": appendConcurrent,
		"large":             large,
		"fallocate":         fallocate,
		"punch-hole":        punchHole,
		"keep-size":         keepSize,
		"copy-range":        copyRange,
		"sendfile":          sendfile,
		"sync":              syncs,
		"map-shared":        mapShared,
		"map-private":       mapPrivate,
		"map-then-write":    mapThenWrite,
		"read-at-end":       readAtEnd,
		"size-limit":        sizeLimit,
		"flock":             flocks,
		"record-locks":      recordLocks,
		"lock-released":     lockReleased,
	} {
		all = append(all, check{name: "content/" + name, run: f})
	}
	return all
}

// with opens a new file for f.
func with(dir string, f func(file *os.File, fd int) error) error {
	file, err := openFile(dir+"/f", unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	return errors.Join(f(file, int(file.Fd())), file.Close())
}

func size(fd int) (int64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Size, err
}

func hole(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := unix.Pwrite(fd, []byte("end"), 100000); err != nil {
			return err
		}
		buf := bytes.Repeat([]byte("x"), 100003)
		n, err := f.ReadAt(buf, 0)
		if err != nil {
			return err
		}
		want := append(make([]byte, 100000), "end"...)
		return errors.Join(expect("the length", n, 100003), expect("zeros and the end", bytes.Equal(buf, want), true))
	})
}

// seekHole allows for file systems without holes, which say that all is data.
func seekHole(dir string) error {
	return with(dir, func(_ *os.File, fd int) error {
		const at = 1 << 20
		if _, err := unix.Pwrite(fd, bytes.Repeat([]byte("d"), 4096), at); err != nil {
			return err
		}
		data, err := unix.Seek(fd, 0, unix.SEEK_DATA)
		if err != nil {
			return fmt.Errorf("seek data: %w", err)
		}
		end, err := unix.Seek(fd, at, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("seek hole: %w", err)
		}
		_, past := unix.Seek(fd, at+4096, unix.SEEK_DATA)
		return errors.Join(expect("data begins late enough", data <= at, true), expect("the hole at the end", end, at+4096), expectErrno("data past the end", past, unix.ENXIO))
	})
}

func vectors(dir string) error {
	return with(dir, func(_ *os.File, fd int) error {
		n, err := unix.Writev(fd, [][]byte{[]byte("one "), nil, []byte("two "), []byte("three")})
		if err != nil {
			return err
		}
		a, b := make([]byte, 6), make([]byte, 20)
		m, err := unix.Preadv(fd, [][]byte{a, b}, 0)
		return errors.Join(err, expect("written", n, 13), expect("read", m, 13), expect("the content", string(a)+string(b[:7]), "one two three"))
	})
}

func positions(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := f.WriteString("0123456789"); err != nil {
			return err
		}
		if _, err := unix.Pwrite(fd, []byte("ab"), 3); err != nil {
			return err
		}
		at, err := unix.Seek(fd, 0, unix.SEEK_CUR)
		if err != nil {
			return err
		}
		_, before := unix.Seek(fd, -1, unix.SEEK_SET)
		text, err := content(f)
		return errors.Join(err, expect("the offset", at, 10), expectErrno("seek before the start", before, unix.EINVAL), expect("the content", text, "012ab56789"))
	})
}

// appendConcurrent has several descriptors append at once: nothing is lost or torn.
func appendConcurrent(dir string) error {
	const writers, times = 4, 50
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		f, err := openFile(dir+"/f", unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND)
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer f.Close()
			line := append(bytes.Repeat([]byte{'a' + byte(w)}, 99), '\n')
			for range times {
				if _, err := unix.Write(int(f.Fd()), line); err != nil {
					errs[w] = err
				}
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(dir + "/f")
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		if len(line) != 100 || bytes.Count(line, line[:1]) != 99 {
			return fmt.Errorf("a line was torn: %q", line)
		}
	}
	return expect("the length", len(b), writers*times*100)
}

// large writes and reads what does not fit one request.
func large(dir string) error {
	return with(dir, func(f *os.File, _ int) error {
		want := make([]byte, 3<<20+123)
		for i := range want {
			want[i] = byte(i * 7 >> 3)
		}
		if n, err := f.Write(want); err != nil || n != len(want) {
			return fmt.Errorf("wrote %d bytes: %w", n, err)
		}
		got, err := os.ReadFile(f.Name())
		return errors.Join(err, expect("what was written is there", bytes.Equal(got, want), true))
	})
}

func fallocate(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := f.WriteString("text"); err != nil {
			return err
		}
		if err := unix.Fallocate(fd, 0, 2, 100); err != nil {
			return err
		}
		n, err := size(fd)
		if err != nil {
			return err
		}
		text, err := content(f)
		return errors.Join(err, expect("the size", n, 102), expect("the content", text, "text"+string(make([]byte, 98))),
			expectErrno("no length", unix.Fallocate(fd, 0, 0, 0), unix.EINVAL))
	})
}

// punchHole may be more than a file system offers.
func punchHole(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := f.Write(bytes.Repeat([]byte("x"), 3*4096)); err != nil {
			return err
		}
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 4096)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		text, readErr := content(f)
		x := string(bytes.Repeat([]byte("x"), 4096))
		return errors.Join(err, readErr, expect("zeros in the middle", text == x+string(make([]byte, 4096))+x, true))
	})
}

func keepSize(dir string) error {
	return with(dir, func(_ *os.File, fd int) error {
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20)
		n, sizeErr := size(fd)
		return errors.Join(err, sizeErr, expect("the size", n, 0))
	})
}

func copyRange(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := f.WriteString("0123456789"); err != nil {
			return err
		}
		to, err := openFile(dir+"/g", unix.O_CREAT|unix.O_RDWR)
		if err != nil {
			return err
		}
		defer to.Close()
		from, at := int64(2), int64(1)
		n, err := unix.CopyFileRange(fd, &from, int(to.Fd()), &at, 5, 0)
		text, readErr := content(to)
		return errors.Join(err, readErr, expect("copied", n, 5), expect("the content", text, "\x0023456"))
	})
}

func sendfile(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := f.WriteString("0123456789"); err != nil {
			return err
		}
		to, err := openFile(dir+"/g", unix.O_CREAT|unix.O_RDWR)
		if err != nil {
			return err
		}
		defer to.Close()
		from := int64(4)
		n, err := unix.Sendfile(int(to.Fd()), fd, &from, 100)
		text, readErr := content(to)
		return errors.Join(err, readErr, expect("sent", n, 6), expect("the content", text, "456789"))
	})
}

func syncs(dir string) error {
	d, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	return with(dir, func(f *os.File, fd int) error {
		_, err := f.WriteString("x")
		return errors.Join(err, unix.Fsync(fd), unix.Fdatasync(fd), unix.Fsync(int(d.Fd())))
	})
}

func mapShared(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if err := f.Truncate(8192); err != nil {
			return err
		}
		m, err := unix.Mmap(fd, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		copy(m[4094:], "text")
		if err := errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m)); err != nil {
			return err
		}
		text, err := content(f)
		return errors.Join(err, expect("the content", text[4094:4098], "text"))
	})
}

func mapPrivate(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := f.WriteString("text"); err != nil {
			return err
		}
		m, err := unix.Mmap(fd, 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		m[0] = 'T'
		seen := string(m)
		err = unix.Munmap(m)
		text, readErr := content(f)
		return errors.Join(err, readErr, expect("the mapping", seen, "Text"), expect("the content", text, "text"))
	})
}

// mapThenWrite shows in a mapping what is written by a call.
func mapThenWrite(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if err := f.Truncate(4096); err != nil {
			return err
		}
		m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		before := m[100]
		_, err = unix.Pwrite(fd, []byte("text"), 100)
		after := string(m[100:104])
		return errors.Join(err, unix.Munmap(m), expect("before", before, 0), expect("after", after, "text"))
	})
}

func readAtEnd(dir string) error {
	return with(dir, func(f *os.File, fd int) error {
		if _, err := f.WriteString("text"); err != nil {
			return err
		}
		buf := make([]byte, 10)
		short, err1 := unix.Pread(fd, buf, 2)
		end, err2 := unix.Pread(fd, buf, 4)
		past, err3 := unix.Pread(fd, buf, 1000)
		return errors.Join(err1, err2, err3, expect("read before the end", short, 2), expect("read at the end", end, 0), expect("read past the end", past, 0))
	})
}

// sizeLimit is what RLIMIT_FSIZE sets.
func sizeLimit(dir string) error {
	return with(dir, func(_ *os.File, fd int) error {
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1000, Max: old.Max}); err != nil {
			return err
		}
		n, err := unix.Pwrite(fd, make([]byte, 600), 500) // Go ignores the signal
		_, full := unix.Pwrite(fd, []byte("x"), 1000)
		cut := unix.Ftruncate(fd, 1001)
		if e := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); e != nil {
			return e
		}
		return errors.Join(err, expect("written", n, 500), expectErrno("write", full, unix.EFBIG), expectErrno("truncate", cut, unix.EFBIG))
	})
}

// two opens one file twice.
func two(dir string, f func(a, b int) error) error {
	return with(dir, func(_ *os.File, a int) error {
		other, err := openFile(dir+"/f", unix.O_RDWR)
		if err != nil {
			return err
		}
		defer other.Close()
		return f(a, int(other.Fd()))
	})
}

func flocks(dir string) error {
	return two(dir, func(a, b int) error {
		if err := errors.Join(unix.Flock(a, unix.LOCK_SH|unix.LOCK_NB), unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB)); err != nil {
			return err
		}
		first := expectErrno("a writer beside a reader", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
		if err := errors.Join(first, unix.Flock(b, unix.LOCK_UN), unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB)); err != nil {
			return err
		}
		return errors.Join(expectErrno("a second writer", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK), unix.Flock(a, unix.LOCK_UN), unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
	})
}

func record(fd int, kind int16, start, length int64) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
}

func recordLocks(dir string) error {
	return two(dir, func(a, b int) error {
		if err := record(a, unix.F_WRLCK, 10, 10); err != nil {
			return err
		}
		query := unix.Flock_t{Type: unix.F_RDLCK, Start: 0, Len: 0}
		if err := unix.FcntlFlock(uintptr(b), unix.F_OFD_GETLK, &query); err != nil {
			return err
		}
		return errors.Join(
			expect("who is in the way", fmt.Sprint(query.Type, query.Start, query.Len), fmt.Sprint(unix.F_WRLCK, 10, 10)),
			expectErrno("an overlapping lock", record(b, unix.F_RDLCK, 15, 10), unix.EAGAIN, unix.EACCES),
			record(b, unix.F_WRLCK, 20, 5), record(b, unix.F_RDLCK, 0, 10),
			record(a, unix.F_UNLCK, 12, 4), record(b, unix.F_WRLCK, 12, 4),
			expectErrno("what is left of it", record(b, unix.F_WRLCK, 16, 1), unix.EAGAIN, unix.EACCES))
	})
}

// lockReleased when its file is closed.
func lockReleased(dir string) error {
	return with(dir, func(_ *os.File, a int) error {
		other, err := openFile(dir+"/f", unix.O_RDWR)
		if err != nil {
			return err
		}
		b := int(other.Fd())
		if err := errors.Join(unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), record(b, unix.F_WRLCK, 0, 0)); err != nil {
			return errors.Join(err, other.Close())
		}
		taken := errors.Join(expectErrno("flock", unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK), expectErrno("record", record(a, unix.F_WRLCK, 5, 1), unix.EAGAIN, unix.EACCES))
		return errors.Join(taken, other.Close(), unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB), record(a, unix.F_WRLCK, 5, 1))
	})
}
