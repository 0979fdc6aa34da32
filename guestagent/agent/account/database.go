package account

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Database names the two files. The zero value is the usual ones below /etc.
type Database struct {
	Passwd, Group string
}

// Entry is one line of the passwd file.
type Entry struct {
	Name     string
	UID, GID uint32
	Home     string
}

const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
	// maxFile bounds how much of a file is read, bytes.
	maxFile = 64 << 20
	// maxLine bounds one line, bytes. Longer ones end the search with an error.
	maxLine = 1 << 20
)

// ByName finds a user by name.
func (d Database) ByName(name string) (e Entry, ok bool, err error) {
	return d.find(func(e Entry) bool { return e.Name == name })
}

// ByUID finds a user by number.
func (d Database) ByUID(uid uint32) (e Entry, ok bool, err error) {
	return d.find(func(e Entry) bool { return e.UID == uid })
}

func (d Database) find(match func(Entry) bool) (found Entry, ok bool, err error) {
	err = lines(d.Passwd, passwdFile, func(line string) bool {
		e, valid := parseEntry(line)
		if valid && match(e) {
			found, ok = e, true
		}
		return !ok
	})
	return found, ok, err
}

// parseEntry reads name:password:uid:gid:comment:home:shell.
func parseEntry(line string) (Entry, bool) {
	f := strings.Split(line, ":")
	if len(f) < 4 || f[0] == "" || f[0][0] == '#' {
		return Entry{}, false
	}
	uid, err := parseID(f[2])
	if err != nil {
		return Entry{}, false
	}
	gid, err := parseID(f[3])
	if err != nil {
		return Entry{}, false
	}
	e := Entry{Name: f[0], UID: uid, GID: gid}
	if len(f) > 5 {
		e.Home = f[5]
	}
	return e, true
}

// groupID finds a group by name.
func (d Database) groupID(name string) (gid uint32, ok bool, err error) {
	err = d.groups(func(g string, id uint32, _ string) bool {
		if g == name {
			gid, ok = id, true
		}
		return !ok
	})
	return gid, ok, err
}

// memberships lists the groups that name is a member of, gid always among them and first.
func (d Database) memberships(name string, gid uint32) ([]uint32, error) {
	ids := []uint32{gid}
	err := d.groups(func(_ string, id uint32, members string) bool {
		for m := range strings.SplitSeq(members, ",") {
			if m == name && id != gid && len(ids) < maxGroups {
				ids = append(ids, id)
				break
			}
		}
		return true
	})
	return ids, err
}

// maxGroups is how many supplementary groups Linux allows (NGROUPS_MAX).
const maxGroups = 65536

// groups calls f for each line name:password:gid:members until it returns false.
func (d Database) groups(f func(name string, gid uint32, members string) bool) error {
	return lines(d.Group, groupFile, func(line string) bool {
		p := strings.Split(line, ":")
		if len(p) < 3 || p[0] == "" || p[0][0] == '#' {
			return true
		}
		gid, err := parseID(p[2])
		if err != nil {
			return true
		}
		members := ""
		if len(p) > 3 {
			members = p[3]
		}
		return f(p[0], gid, members)
	})
}

// parseID reads a decimal user or group number. The highest value means "no change" to
// the system calls, so it is none.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == 1<<32-1 {
		err = strconv.ErrRange
	}
	return uint32(n), err
}

// lines calls f with each line of a file until it returns false. A missing file has none.
func lines(path, usual string, f func(line string) bool) error {
	if path == "" {
		path = usual
	}
	// Without O_NONBLOCK a FIFO in the file's place would stop the agent.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	st, err := file.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	in := bufio.NewScanner(io.LimitReader(file, maxFile))
	in.Buffer(make([]byte, 0, 4096), maxLine)
	for in.Scan() {
		if !f(strings.TrimSuffix(in.Text(), "\r")) {
			return nil
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
