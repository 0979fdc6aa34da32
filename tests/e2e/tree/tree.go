//go:build linux

package tree

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is everything about one name of a tree. All text is quoted as %+q does it, since
// names are any bytes.
type Entry struct {
	Path   string   `json:"path"` // from the root, "/" for the root itself
	Mode   string   `json:"mode"` // type and permissions, octal
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Links  uint64   `json:"links,omitempty"`  // none for directories: every file system counts them in its own way
	Device string   `json:"device,omitempty"` // MAJOR:MINOR of a device
	Size   int64    `json:"size,omitempty"`   // of a file
	MTime  string   `json:"mtime"`            // SECONDS.NANOSECONDS
	Target string   `json:"target,omitempty"` // of a symbolic link
	Xattrs []string `json:"xattrs,omitempty"` // NAME=VALUE, sorted
	CRC64  string   `json:"crc64,omitempty"`  // ECMA-182, of a file's content
}

// List describes the tree at root in the order of its paths, without what lies below the
// paths that skip names.
func List(root string, skip []string) ([]Entry, error) {
	var all []Entry
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		e, err := describe(path, rel)
		if err != nil {
			return err
		}
		all = append(all, e)
		if d.IsDir() && slices.Contains(skip, rel) {
			return filepath.SkipDir
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(a.Path, b.Path) })
	return all, err
}

func describe(path, rel string) (Entry, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Entry{}, fmt.Errorf("lstat %q: %w", path, err)
	}
	e := Entry{
		Path: quote(rel), Mode: fmt.Sprintf("%06o", st.Mode), UID: st.Uid, GID: st.Gid, Links: uint64(st.Nlink),
		MTime: fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec),
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Links = 0
	case unix.S_IFREG:
		e.Size = st.Size
		e.CRC64, err = hash(path)
	case unix.S_IFLNK:
		var target string
		target, err = os.Readlink(path)
		e.Target = quote(target)
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Device = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if err == nil {
		e.Xattrs, err = xattrs(path)
	}
	return e, err
}

func quote(s string) string { return fmt.Sprintf("%+q", s) }

// ecma is a checksum of plain integer arithmetic: the emulated testbed takes minutes for
// a cryptographic hash of an image, and only accidents are looked for.
var ecma = crc64.MakeTable(crc64.ECMA)

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := crc64.New(ecma)
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return strconv.FormatUint(h.Sum64(), 16), nil
}

func xattrs(path string) ([]string, error) {
	names, err := attribute(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err != nil {
		return nil, fmt.Errorf("list attributes of %q: %w", path, err)
	}
	var all []string
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value, err := attribute(func(b []byte) (int, error) { return unix.Lgetxattr(path, string(name), b) })
		if err != nil {
			return nil, fmt.Errorf("attribute %s of %q: %w", name, path, err)
		}
		all = append(all, quote(string(name))+"="+quote(string(value)))
	}
	slices.Sort(all)
	return all, nil
}

// attribute asks for the size first, as most files have no attributes at all.
func attribute(get func([]byte) (int, error)) ([]byte, error) {
	n, err := get(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	n, err = get(b)
	return b[:max(n, 0)], err
}

// Write writes entries, one JSON object a line.
func Write(w io.Writer, entries []Entry) error {
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

// Read reads what Write wrote.
func Read(r io.Reader) ([]Entry, error) {
	var all []Entry
	for d := json.NewDecoder(r); ; {
		var e Entry
		err := d.Decode(&e)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
}
