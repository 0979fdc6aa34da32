//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// directoryChecks are about listing, and about many who change names at once.
func directoryChecks() (all []check) {
	for name, f := range map[string]func(dir string) error{
		"dots":              dots,
		"many":              manyEntries,
		"types":             entryTypes,
		"inodes":            entryInodes,
		"rewind":            rewind,
		"remove-while-read": removeWhileRead,
		"odd-names":         oddNames,
		"one-creator":       oneCreator,
		"one-directory":     oneDirectory,
		"one-link":          oneLink,
		"rename-is-atomic":  renameIsAtomic,
		"fifo":              fifo,
		"socket":            socket,
		"file-system":       fileSystem,
		"distinct-inodes":   distinctInodes,
	} {
		all = append(all, check{name: "directories/" + name, run: f})
	}
	return all
}

type entry struct {
	name string
	kind byte
	ino  uint64
}

// list reads a directory from where its descriptor is, with the dots.
func list(fd int) (all []entry, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n == 0 {
			return all, err
		}
		for b := buf[:n]; len(b) > 0; {
			length := int(b[16]) | int(b[17])<<8
			name, _, _ := strings.Cut(string(b[19:length]), "\x00")
			ino := uint64(0)
			for i := range 8 {
				ino |= uint64(b[i]) << (8 * i)
			}
			all = append(all, entry{name, b[18], ino})
			b = b[length:]
		}
	}
}

func listDir(dir string) ([]entry, error) {
	f, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return list(int(f.Fd()))
}

func namesOf(all []entry) string {
	var names []string
	for _, e := range all {
		names = append(names, e.name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func dots(dir string) error {
	all, err := listDir(dir)
	return errors.Join(err, expect("an empty directory", namesOf(all), ". .."))
}

func touch(path string) error {
	return close(unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644))
}

// manyEntries do not fit one block of a directory, nor one answer: their names are long.
func manyEntries(dir string) error {
	const count = 100
	want := []string{".", ".."}
	for i := range count {
		name := "file-" + strconv.Itoa(i) + strings.Repeat("-with-a-long-name", 12)
		if err := touch(filepath.Join(dir, name)); err != nil {
			return err
		}
		want = append(want, name)
	}
	slices.Sort(want)
	all, err := listDir(dir)
	return errors.Join(err, expect("the number of entries", len(all), count+2), expect("all are there", namesOf(all) == strings.Join(want, " "), true))
}

func entryTypes(dir string) error {
	for _, kind := range kinds {
		if err := makeFile(filepath.Join(dir, kind), kind, 0o644); err != nil {
			return err
		}
	}
	all, err := listDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		want, ok := fileTypes[e.name]
		if ok && uint32(e.kind)<<12 != want && e.kind != unix.DT_UNKNOWN {
			return fmt.Errorf("%s has type %d", e.name, e.kind)
		}
	}
	return nil
}

func entryInodes(dir string) error {
	for _, name := range []string{"a", "b", "c"} {
		if err := touch(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	all, err := listDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, e.name), &st); err != nil {
			return err
		}
		if e.name[0] != '.' && st.Ino != e.ino {
			return fmt.Errorf("%s is inode %d in its directory and %d by itself", e.name, e.ino, st.Ino)
		}
	}
	return nil
}

func rewind(dir string) error {
	f, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	before, err1 := list(int(f.Fd()))
	err2 := touch(filepath.Join(dir, "new"))
	_, err3 := unix.Seek(int(f.Fd()), 0, unix.SEEK_SET)
	after, err4 := list(int(f.Fd()))
	return errors.Join(err1, err2, err3, err4, expect("before", namesOf(before), ". .."), expect("after", namesOf(after), ". .. new"))
}

// removeWhileRead removes what it has read: what stays is read exactly once.
func removeWhileRead(dir string) error {
	const count = 100
	for i := range count {
		if err := touch(filepath.Join(dir, fmt.Sprintf("name-%03d-%s", i, strings.Repeat("x", 150)))); err != nil {
			return err
		}
	}
	f, err := openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	seen := map[string]int{}
	for {
		names, err := f.Readdirnames(7)
		if len(names) == 0 {
			break
		}
		if err != nil {
			return err
		}
		for _, n := range names {
			seen[n]++
			if err := unix.Unlink(filepath.Join(dir, n)); err != nil {
				return err
			}
		}
	}
	for n, times := range seen {
		if times != 1 {
			return fmt.Errorf("%s was read %d times", n, times)
		}
	}
	left, err := listDir(dir)
	return errors.Join(err, expect("the number of names", len(seen), count), expect("what is left", namesOf(left), ". .."))
}

// oddNames have every byte that a name may have.
func oddNames(dir string) error {
	var bytes []byte
	for c := 1; c < 256; c++ {
		if c != '/' {
			bytes = append(bytes, byte(c))
		}
	}
	var want []string
	for some := range slices.Chunk(bytes, 16) {
		name := string(some)
		if err := touch(dir + "/" + name); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		want = append(want, name)
	}
	all, err := listDir(dir)
	if err != nil {
		return err
	}
	got := map[string]bool{}
	for _, e := range all {
		got[e.name] = true
	}
	for _, name := range want {
		if !got[name] {
			return fmt.Errorf("%q is not listed", name)
		}
	}
	return expect("the number of entries", len(all), len(want)+2)
}

// race runs f in several threads at once, round after round, and wants one to succeed and
// the others to fail with EEXIST.
func race(rounds int, f func(round int) error) error {
	for round := range rounds {
		var wg sync.WaitGroup
		var won atomic.Int32
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() {
				err := f(round)
				if err == nil {
					won.Add(1)
				} else {
					errs[i] = expectErrno("who is late", err, unix.EEXIST)
				}
			})
		}
		wg.Wait()
		if err := errors.Join(append(errs, expect("the number of winners", won.Load(), 1))...); err != nil {
			return err
		}
	}
	return nil
}

func oneCreator(dir string) error {
	return race(10, func(round int) error { return touch(fmt.Sprintf("%s/f%d", dir, round)) })
}

func oneDirectory(dir string) error {
	return race(10, func(round int) error { return unix.Mkdir(fmt.Sprintf("%s/d%d", dir, round), 0o755) })
}

func oneLink(dir string) error {
	if err := touch(dir + "/f"); err != nil {
		return err
	}
	return race(10, func(round int) error { return unix.Link(dir+"/f", fmt.Sprintf("%s/l%d", dir, round)) })
}

// renameIsAtomic: a name that is replaced again and again is always there, and whole.
func renameIsAtomic(dir string) error {
	write := func(name, text string) error { return os.WriteFile(dir+"/"+name, []byte(text), 0o644) }
	if err := write("f", "text"); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		for range 25 {
			if err := errors.Join(write("new", "text"), os.Rename(dir+"/new", dir+"/f")); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			return err
		default:
		}
		b, err := os.ReadFile(dir + "/f")
		if err != nil || string(b) != "text" {
			return errors.Join(fmt.Errorf("read %q: %w", b, err), <-done)
		}
	}
}

// fifo carries bytes from one thread to the other.
func fifo(dir string) error {
	if err := unix.Mkfifo(dir+"/p", 0o600); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(dir+"/p", []byte("through"), 0) }()
	b, err := os.ReadFile(dir + "/p")
	return errors.Join(err, <-done, expect("what came through", string(b), "through"))
}

func socket(dir string) error {
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("hello")) // who reads it will see
			_ = c.Close()
		}
	}()
	c, err := net.Dial("unix", dir+"/s")
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 5)
	_, err = c.Read(buf)
	return errors.Join(err, expect("what came through", string(buf), "hello"))
}

func fileSystem(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	return errors.Join(expect("the longest name", st.Namelen, 255), expect("there are blocks", st.Bsize > 0 && st.Blocks > 0, true),
		expect("no more is free than there is", st.Bfree <= st.Blocks && st.Bavail <= st.Bfree, true))
}

func distinctInodes(dir string) error {
	seen := map[uint64]string{}
	for i := range 50 {
		name := "f" + strconv.Itoa(i)
		if err := touch(dir + "/" + name); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(dir+"/"+name, &st); err != nil {
			return err
		}
		if other, ok := seen[st.Ino]; ok {
			return fmt.Errorf("%s and %s are both inode %d", other, name, st.Ino)
		}
		seen[st.Ino] = name
	}
	return nil
}
