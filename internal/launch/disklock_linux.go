package launch

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxHolders bounds how many holders of a lock are named.
const maxHolders = 4

// diskHolders finds the processes that have a lock on the file at path. A process that
// merely has the file open is not one.
func diskHolders(path string) []DiskHolder {
	var want unix.Stat_t
	if unix.Stat(path, &want) != nil {
		return nil
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var found []DiskHolder
	for _, dir := range processes {
		if len(found) == maxHolders {
			break
		}
		if len(locksIn(dir, &want)) > 0 {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			found = append(found, DiskHolder{PID: pid, Sandbox: sandboxOf(dir)})
		}
	}
	return found
}

// fileLock is a lock that a process has by one of its open files.
type fileLock struct {
	fd        int
	exclusive bool
}

// locksIn are the locks on the file of st that the process at dir has.
func locksIn(dir string, st *unix.Stat_t) []fileLock {
	open, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return nil // gone, or another user's
	}
	var locks []fileLock
	for _, e := range open {
		var have unix.Stat_t
		if unix.Stat(dir+"/fd/"+e.Name(), &have) != nil || have.Dev != st.Dev || have.Ino != st.Ino {
			continue
		}
		fd, _ := strconv.Atoi(e.Name())
		info, _ := os.ReadFile(dir + "/fdinfo/" + e.Name()) // closed meanwhile: no lock
		for line := range bytes.Lines(info) {
			if bytes.HasPrefix(line, []byte("lock:")) && bytes.Contains(line, []byte("FLOCK")) {
				locks = append(locks, fileLock{fd, bytes.Contains(line, []byte("WRITE"))})
			}
		}
	}
	return locks
}

// sandboxOf is the sandbox that the process at dir runs, empty if it is no runtime.
func sandboxOf(dir string) string {
	line, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return ""
	}
	args := bytes.Split(line, []byte{0})
	if len(args) < 2 || string(args[1]) != "sandbox" {
		return ""
	}
	for i, a := range args[:len(args)-1] {
		if string(a) == "--name" {
			return string(args[i+1])
		}
	}
	return ""
}

// InheritedDisk is the lock on the disk image that this process got from the process that
// started it, if it is enough for what the disk is used for, and nil otherwise. It is the
// caller's from then on. Ask before you take locks yourself, of which it cannot tell it.
func InheritedDisk(d DiskUse) *os.File {
	var st unix.Stat_t
	if unix.Stat(d.Path, &st) != nil {
		return nil
	}
	for _, l := range locksIn("/proc/self", &st) {
		if l.exclusive || d.ReadOnly {
			unix.CloseOnExec(l.fd)
			return os.NewFile(uintptr(l.fd), d.Path)
		}
	}
	return nil
}
