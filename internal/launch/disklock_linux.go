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
		if _, ok := heldIn(dir, &want); ok {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			found = append(found, DiskHolder{PID: pid, Sandbox: sandboxOf(dir)})
		}
	}
	return found
}

// heldIn looks for a lock on the file of st among the open files of the process at dir,
// and reports whether it is there and excludes readers too.
func heldIn(dir string, st *unix.Stat_t) (exclusive, held bool) {
	open, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return false, false // gone, or another user's
	}
	for _, e := range open {
		var have unix.Stat_t
		if unix.Stat(dir+"/fd/"+e.Name(), &have) != nil || have.Dev != st.Dev || have.Ino != st.Ino {
			continue
		}
		info, _ := os.ReadFile(dir + "/fdinfo/" + e.Name()) // closed meanwhile: no lock
		for line := range bytes.Lines(info) {
			if bytes.HasPrefix(line, []byte("lock:")) && bytes.Contains(line, []byte("FLOCK")) {
				held = true
				exclusive = exclusive || bytes.Contains(line, []byte("WRITE"))
			}
		}
	}
	return exclusive, held
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

// DiskInherited reports that this process got a lock on the disk image from the process
// that started it, and that it is enough for what the disk is used for. Ask before you
// take locks yourself, of which it cannot tell them.
func DiskInherited(d DiskUse) bool {
	var st unix.Stat_t
	if unix.Stat(d.Path, &st) != nil {
		return false
	}
	exclusive, held := heldIn("/proc/self", &st)
	return held && (exclusive || d.ReadOnly)
}
