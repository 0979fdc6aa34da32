//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// openChecks are about opening and about files that are open.
func openChecks() (all []check) {
	for name, script := range map[string]string{
		"creates":              "open f rw,creat\nstat f type=file size=0 mode=644",
		"keeps":                "create f 600\nwrite f text\nopen f rw,creat\nstat f mode=600 size=4",
		"truncates":            "create f 644\nwrite f text\nopen f w,trunc\nstat f size=0",
		"exclusive":            "open f rw,creat,excl\nopen f rw,creat,excl EEXIST",
		"exclusive-link":       "symlink none l\nopen l rw,creat,excl EEXIST\nmissing none",
		"through-dangling":     "symlink f l\nopen l rw,creat\nstat f type=file",
		"directory-of-file":    "create f 644\nopen f r,dir ENOTDIR",
		"directory":            "mkdir d 755\nopen d r,dir\nopen d r",
		"create-directory":     "mkdir d 755\nopen d r,creat EISDIR",
		"nofollow":             "create f 644\nsymlink f l\nopen l r,nofollow ELOOP\nopen f r,nofollow",
		"nofollow-inner":       "mkdir d 755\ncreate d/f 644\nsymlink d l\nopen l/f r,nofollow",
		"create-read-only":     "1000 open f w,creat\nstat f uid=1000\n1000 open f rw",
		"create-mode-zero":     "1000 create f 0\n1000 open f r EACCES\nstat f mode=0",
		"truncate-read-only":   "create f 444\n1000 open f w,trunc EACCES",
		"append-after-shorter": "create f 644\nwrite f longer\ntruncate f 2\nappend f x\nread f lox",
	} {
		all = append(all, check{name: "open/" + name, script: script})
	}
	for name, f := range map[string]func(dir string) error{
		"unlinked-lives":      unlinkedLives,
		"replaced-lives":      replacedLives,
		"unlinked-in-gone":    unlinkedInGoneDirectory,
		"removed-directory":   removedDirectory,
		"mode-does-not-count": modeDoesNotCount,
		"read-only-write":     wrongDirections,
		"relative":            relativeCalls,
		"text-busy":           textBusy,
		"execute":             execute,
		"fchmod-fchown":       byDescriptor,
		"two-offsets":         twoOffsets,
		"shared-offset":       sharedOffset,
	} {
		all = append(all, check{name: "open/" + name, run: f})
	}
	return all
}

func openFile(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// expect compares what was found with what should be.
func expect[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, not %v", what, got, want)
	}
	return nil
}

func expectErrno(what string, err error, want ...error) error {
	for _, w := range want {
		if errors.Is(err, w) {
			return nil
		}
	}
	return fmt.Errorf("%s: %v instead of %v", what, err, want)
}

// content reads all of an open file from its beginning.
func content(f *os.File) (string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Pread(int(f.Fd()), buf, 0)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func nlink(f *os.File) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return uint64(st.Nlink), err
}

func unlinkedLives(dir string) error {
	f, err := openFile(dir+"/f", unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("text"); err != nil {
		return err
	}
	if err := unix.Unlink(dir + "/f"); err != nil {
		return err
	}
	n, err := nlink(f)
	if err != nil {
		return err
	}
	if err := expect("the number of links", n, 0); err != nil {
		return err
	}
	if _, err := f.WriteString(" and more"); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := f.Chmod(0o600); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if err := f.Truncate(11); err != nil {
		return fmt.Errorf("truncate: %w", err)
	}
	text, err := content(f)
	return errors.Join(err, expect("the content", text, "text and mo"))
}

func replacedLives(dir string) error {
	if err := os.WriteFile(dir+"/f", []byte("old"), 0o644); err != nil {
		return err
	}
	f, err := openFile(dir+"/f", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.WriteFile(dir+"/g", []byte("new"), 0o644); err != nil {
		return err
	}
	if err := os.Rename(dir+"/g", dir+"/f"); err != nil {
		return err
	}
	old, err := content(f)
	if err != nil {
		return err
	}
	now, err := os.ReadFile(dir + "/f")
	return errors.Join(err, expect("what is open", old, "old"), expect("what has the name", string(now), "new"))
}

func unlinkedInGoneDirectory(dir string) error {
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		return err
	}
	f, err := openFile(dir+"/d/f", unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.RemoveAll(dir + "/d"); err != nil {
		return err
	}
	_, err = f.WriteString("text")
	text, readErr := content(f)
	return errors.Join(err, readErr, expect("the content", text, "text"))
}

func removedDirectory(dir string) error {
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		return err
	}
	f, err := openFile(dir+"/d", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(dir + "/d"); err != nil {
		return err
	}
	_, err = unix.Openat(int(f.Fd()), "new", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
	return expectErrno("create in a removed directory", err, unix.ENOENT)
}

// modeDoesNotCount any more once a file is open.
func modeDoesNotCount(dir string) error {
	who := identity{uid: 1000, gid: 1000}
	var f *os.File
	var err error
	if e := who.act(func() { f, err = openFile(dir+"/f", unix.O_CREAT|unix.O_RDWR) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	defer f.Close()
	if err := unix.Chmod(dir+"/f", 0); err != nil {
		return err
	}
	e := who.act(func() {
		if _, err = f.WriteString("text"); err == nil {
			err = f.Truncate(2)
		}
	})
	text, readErr := content(f)
	return errors.Join(e, err, readErr, expect("the content", text, "te"))
}

func wrongDirections(dir string) error {
	r, err := openFile(dir+"/f", unix.O_CREAT|unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := openFile(dir+"/f", unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer w.Close()
	_, writeErr := unix.Write(int(r.Fd()), []byte("x"))
	_, readErr := unix.Read(int(w.Fd()), make([]byte, 1))
	return errors.Join(expectErrno("write", writeErr, unix.EBADF), expectErrno("read", readErr, unix.EBADF),
		expectErrno("truncate", unix.Ftruncate(int(r.Fd()), 1), unix.EINVAL, unix.EBADF))
}

// relativeCalls follow a directory that was renamed.
func relativeCalls(dir string) error {
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		return err
	}
	f, err := openFile(dir+"/d", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Rename(dir+"/d", dir+"/e"); err != nil {
		return err
	}
	if err := unix.Mkdirat(int(f.Fd()), "new", 0o755); err != nil {
		return err
	}
	if err := unix.Symlinkat("x", int(f.Fd()), "link"); err != nil {
		return err
	}
	if err := unix.Renameat(int(f.Fd()), "link", int(f.Fd()), "moved"); err != nil {
		return err
	}
	var st unix.Stat_t
	return errors.Join(unix.Lstat(dir+"/e/new", &st), unix.Lstat(dir+"/e/moved", &st))
}

// waitArg makes this program wait for a file to vanish.
const waitArg = "wait-for-the-end-of"

func wait(path string) {
	for range 3000 {
		if _, err := os.Lstat(path); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func copySelf(path string) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(path, program, 0o755)
}

// textBusy is a program that runs.
func textBusy(dir string) error {
	if err := errors.Join(copySelf(dir+"/program"), os.WriteFile(dir+"/running", nil, 0o644)); err != nil {
		return err
	}
	cmd := exec.Command(dir+"/program", waitArg, dir+"/running")
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err := openFile(dir+"/program", unix.O_WRONLY)
	busy := errors.Join(expectErrno("open a running program for writing", err, unix.ETXTBSY), expectErrno("truncate it", unix.Truncate(dir+"/program", 0), unix.ETXTBSY))
	if err := errors.Join(os.Remove(dir+"/running"), cmd.Wait()); err != nil {
		return err
	}
	f, err := openFile(dir+"/program", unix.O_WRONLY)
	if err == nil {
		err = f.Close()
	}
	return errors.Join(busy, err)
}

// execute programs and scripts, if their mode allows it.
func execute(dir string) error {
	if err := os.WriteFile(dir+"/script", []byte("#!"+dir+"/program "+waitArg+"\n"), 0o755); err != nil {
		return err
	}
	if err := copySelf(dir + "/program"); err != nil {
		return err
	}
	// The program gets the script's own path to wait for: it goes away at once.
	cmd := exec.Command(dir + "/script")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("script: %w", err)
	}
	if err := errors.Join(unix.Unlink(dir+"/script"), cmd.Wait()); err != nil {
		return err
	}
	if err := os.Chmod(dir+"/program", 0o644); err != nil {
		return err
	}
	return expectErrno("execute without permission", exec.Command(dir+"/program", waitArg, "/none").Run(), unix.EACCES)
}

func byDescriptor(dir string) error {
	f, err := openFile(dir+"/f", unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := errors.Join(unix.Fchown(int(f.Fd()), 5, 6), unix.Fchmod(int(f.Fd()), 0o4711), unix.Ftruncate(int(f.Fd()), 7)); err != nil {
		return err
	}
	s := script{dir: dir}
	return s.run("stat f uid=5 gid=6 mode=4711 size=7")
}

func twoOffsets(dir string) error {
	if err := os.WriteFile(dir+"/f", []byte("0123456789"), 0o644); err != nil {
		return err
	}
	a, err := openFile(dir+"/f", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := openFile(dir+"/f", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer b.Close()
	buf := make([]byte, 3)
	_, err1 := a.Read(buf)
	_, err2 := b.Read(buf)
	return errors.Join(err1, err2, expect("what the second reads", string(buf), "012"))
}

func sharedOffset(dir string) error {
	f, err := openFile(dir+"/f", unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	again, err := unix.Dup(int(f.Fd()))
	if err != nil {
		return err
	}
	defer unix.Close(again)
	_, err1 := f.WriteString("one ")
	_, err2 := unix.Write(again, []byte("two"))
	text, err3 := content(f)
	return errors.Join(err1, err2, err3, expect("the content", text, "one two"))
}
