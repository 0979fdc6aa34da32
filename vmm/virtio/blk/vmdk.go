package blk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// maxDescriptor bounds the text in bytes: twice what the largest disk needs with
	// paths of usual length.
	maxDescriptor = 8 << 20
	maxExtents    = 1 << 15
	// maxFiles bounds the descriptors of the host that one disk takes. An image has no
	// more than a few hundred layers.
	maxFiles = 1024
	// maxDisk is the largest disk in sectors: 64 TiB.
	maxDisk = 64 << 40 / SectorSize

	descriptorMagic = "# Disk DescriptorFile"
	sparseMagic     = "KDMV" // of an extent that holds its own descriptor
)

// vmdkExtent is one extent line of a descriptor, in sectors.
type vmdkExtent struct {
	sectors uint64
	path    string // absolute; empty for zeros
	offset  uint64 // in the file
}

// parseVMDK reads the text of a flat descriptor (VMware Virtual Disk Format 1.1): the
// extents of a disk that has no parent. Everything that it does not know is an error but
// comments and the disk database (ddb.*).
func parseVMDK(text []byte) ([]vmdkExtent, error) {
	if bytes.HasPrefix(text, []byte(sparseMagic)) {
		return nil, errors.New("it is a sparse VMDK: convert it to a raw disk")
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	if string(bytes.TrimRight(first, " \t\r")) != descriptorMagic {
		return nil, fmt.Errorf("it does not begin with %q", descriptorMagic)
	}
	var extents []vmdkExtent
	var total uint64
	seen := make(map[string]bool)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		l := strings.TrimSpace(string(line))
		if l == "" || l[0] == '#' {
			continue
		}
		if access, _, _ := strings.Cut(l, " "); access != "RW" && access != "RDONLY" && access != "NOACCESS" {
			if err := parseKey(l, seen); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			continue
		}
		e, err := parseExtent(l)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if total += e.sectors; total > maxDisk {
			return nil, fmt.Errorf("line %d: the disk is larger than 64 TiB", number)
		}
		if len(extents) == maxExtents {
			return nil, fmt.Errorf("line %d: more than %d extents", number, maxExtents)
		}
		extents = append(extents, e)
	}
	for _, k := range []string{"version", "createType"} {
		if !seen[k] {
			return nil, fmt.Errorf("it has no %s", k)
		}
	}
	if len(extents) == 0 {
		return nil, errors.New("it has no extents")
	}
	return extents, nil
}

// parseKey checks a line "key=value".
func parseKey(l string, seen map[string]bool) error {
	k, v, ok := strings.Cut(l, "=")
	k, v = strings.TrimSpace(k), strings.TrimSpace(v)
	if !ok || k == "" {
		return fmt.Errorf("%.80q is neither an extent nor a key", l)
	}
	if strings.HasPrefix(k, "ddb.") {
		return nil // geometry and identifiers, which no guest sees
	}
	if seen[k] {
		return fmt.Errorf("second %s", k)
	}
	seen[k] = true
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	switch k {
	case "version":
		ok = v == "1"
	case "CID", "encoding", "isNativeSnapshot":
	case "parentCID":
		ok = strings.EqualFold(v, "ffffffff") // no parent
	case "createType":
		ok = v == "twoGbMaxExtentFlat" || v == "monolithicFlat"
	default:
		return fmt.Errorf("key %.80q is not supported", k)
	}
	if !ok {
		return fmt.Errorf("%s %.80q is not supported", k, v)
	}
	return nil
}

// parseExtent reads a line `ACCESS SECTORS FLAT "PATH" OFFSET` or `ACCESS SECTORS ZERO`.
func parseExtent(l string) (vmdkExtent, error) {
	access, rest, _ := strings.Cut(l, " ")
	if access == "NOACCESS" {
		return vmdkExtent{}, errors.New("extent without access")
	}
	count, rest, _ := strings.Cut(rest, " ")
	var e vmdkExtent
	var err error
	if e.sectors, err = strconv.ParseUint(count, 10, 64); err != nil || e.sectors == 0 || e.sectors > maxDisk {
		return vmdkExtent{}, fmt.Errorf("extent of %.40q sectors", count)
	}
	kind, rest, _ := strings.Cut(rest, " ")
	switch {
	case kind == "ZERO" && rest == "":
		return e, nil
	case kind != "FLAT":
		return vmdkExtent{}, fmt.Errorf("extent of kind %.40q: only FLAT and ZERO are supported", kind)
	}
	rest, ok := strings.CutPrefix(rest, `"`)
	path, offset, closed := strings.Cut(rest, `"`)
	offset, spaced := strings.CutPrefix(offset, " ")
	if e.offset, err = strconv.ParseUint(offset, 10, 64); !ok || !closed || !spaced || err != nil || e.offset > maxDisk {
		return vmdkExtent{}, fmt.Errorf("extent %.200q is not followed by a quoted path and an offset", l)
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return vmdkExtent{}, fmt.Errorf("path %.200q holds a control character", path)
	}
	// A relative path would depend on where the descriptor lies, which may be a place
	// that a guest once wrote to.
	if !filepath.IsAbs(path) {
		return vmdkExtent{}, fmt.Errorf("path %.200q is not absolute", path)
	}
	e.path = path
	return e, nil
}

// OpenVMDK opens the disk that a flat VMDK descriptor describes: files of the host, or
// parts of them, and zeros, one after the other, read-only. Every extent must be inside
// its file. The error wraps ErrImage or is that of the host.
func OpenVMDK(path string) (Backend, error) {
	text, err := readDescriptor(path)
	if err != nil {
		return nil, err
	}
	extents, err := parseVMDK(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrImage, path, err)
	}
	c := &concat{}
	if err := c.build(extents); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), c.Close())
	}
	return c, nil
}

func readDescriptor(path string) ([]byte, error) {
	f, err := openFile(path, true)
	if err != nil {
		return nil, err
	}
	defer f.f.Close()
	if f.size > maxDescriptor {
		var magic [len(sparseMagic)]byte
		if _, err := f.f.ReadAt(magic[:], 0); err == nil && string(magic[:]) == sparseMagic {
			return nil, fmt.Errorf("%w: %s: it is a sparse VMDK: convert it to a raw disk", ErrImage, path)
		}
		return nil, fmt.Errorf("%w: %s has %d bytes, too many for a descriptor", ErrImage, path, f.size)
	}
	text := make([]byte, f.size)
	if _, err := io.ReadFull(io.NewSectionReader(f.f, 0, int64(f.size)), text); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return text, nil
}

// build opens the files of the extents; on failure the caller closes c.
func (c *concat) build(extents []vmdkExtent) error {
	files := make(map[string]*file)
	for _, e := range extents {
		var f *file
		if e.path != "" {
			if f = files[e.path]; f == nil {
				if len(files) == maxFiles {
					return fmt.Errorf("%w: more than %d files", ErrImage, maxFiles)
				}
				var err error
				if f, err = openFile(e.path, true); err != nil {
					return err
				}
				files[e.path] = f
				c.files = append(c.files, f)
			}
			if e.offset+e.sectors > f.size/SectorSize {
				return fmt.Errorf("%w: %s has %d bytes; the extent at sector %d needs %d sectors", ErrImage, e.path, f.size, e.offset, e.sectors)
			}
		}
		c.add(f, e.offset*SectorSize, e.sectors*SectorSize)
	}
	return nil
}
