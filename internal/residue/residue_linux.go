package residue

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver
)

// Residue is what there is at one time. Two of them can be compared.
type Residue struct {
	Files       []string       // below the folders, but for the database's journals
	Locks       []string       // those of Files that somebody holds a lock on
	Processes   []string       // children of this process, and others that have a file of the folders open
	Descriptors []string       // of this process: files of the folders, and processes
	Rows        map[string]int // in each table of the database
}

// Of returns what there is in a data root and, if named, in other folders, of temporary
// files say. Nothing may be going on there meanwhile.
func Of(home string, others ...string) (r Residue, err error) {
	folders := append([]string{home}, others...)
	for _, dir := range folders {
		if err := r.addFiles(dir); err != nil {
			return r, err
		}
	}
	if err := r.addProcesses(folders); err != nil {
		return r, err
	}
	r.Rows, err = rows(filepath.Join(home, "db", "msb.db"))
	return r, err
}

func (r *Residue) addFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(d.Name(), "msb.db-") {
			return err // journals are there while the database is open
		}
		r.Files = append(r.Files, path)
		if !d.IsDir() && !d.Type().IsRegular() {
			return nil
		}
		held, err := locked(path)
		if held {
			r.Locks = append(r.Locks, path)
		}
		return err
	})
}

// locked reports that somebody has locked a file, in one of the two ways there are.
func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	record := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &record); err != nil {
		return false, fmt.Errorf("locks of %s: %w", path, err)
	}
	return record.Type != unix.F_UNLCK, nil
}

// addProcesses looks at all processes that this one may look at.
func (r *Residue) addProcesses(folders []string) error {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	self := fmt.Sprint(os.Getpid())
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		dir := filepath.Dir(stat)
		open := descriptors(dir, folders)
		// "pid (name) state parent ..."; the name may hold anything.
		after := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		switch {
		case filepath.Base(dir) == self:
			r.Descriptors = open
		case len(after) > 1 && after[1] == self, slices.ContainsFunc(open, func(s string) bool { return strings.HasPrefix(s, "/") }):
			line, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // empty if it has ended
			r.Processes = append(r.Processes, filepath.Base(dir)+" "+after[0]+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return nil
}

// descriptors lists those of a process that lead into the folders, or to processes.
func descriptors(proc string, folders []string) (open []string) {
	links, _ := filepath.Glob(filepath.Join(proc, "fd", "*"))
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil {
			continue
		}
		inside := func(dir string) bool { return to == dir || strings.HasPrefix(to, dir+"/") }
		if strings.HasPrefix(to, "anon_inode:[pidfd]") || strings.HasPrefix(to, "pidfd:") || slices.ContainsFunc(folders, inside) {
			open = append(open, to)
		}
	}
	slices.SortFunc(open, cmp.Compare)
	return open
}

// rows counts those of each table.
func rows(path string) (counts map[string]int, err error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro"}).String())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tables, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table'`)
	if err != nil {
		return nil, err
	}
	counts = map[string]int{}
	for tables.Next() {
		var name string
		if err := tables.Scan(&name); err != nil {
			return nil, err
		}
		counts[name] = 0
	}
	if err := tables.Err(); err != nil {
		return nil, err
	}
	for name := range counts {
		var n int
		if err := db.QueryRow(fmt.Sprintf("SELECT count(*) FROM %q", name)).Scan(&n); err != nil {
			return nil, err
		}
		counts[name] = n
	}
	return counts, nil
}
