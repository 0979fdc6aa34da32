//go:build linux

package format

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"iter"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages answers questions about this process's pages from /proc/self. Where /proc does
// not answer, all pages count as present and changed, which costs time and nothing else.
type pages struct {
	pagemap *os.File  // nil where there is none
	private []mapping // the private mappings, ascending
	bases   []fileID  // of which is asked what has changed
}

// mapping is a range of virtual addresses and what is behind its untouched pages.
type mapping struct {
	start, end uint64
	file       fileID // zero: zeros
	offset     uint64 // in the file
}

// fileID tells files from each other as /proc/self/maps does, whose numbers are not those of
// stat on overlayfs and btrfs.
type fileID struct {
	major, minor uint32
	inode        uint64
}

// newPages answers of the pages that there are now; changed of those that one of the bases is
// behind.
func newPages(bases ...*os.File) *pages {
	p := &pages{}
	if uint64(os.Getpagesize()) != PageSize {
		return p
	}
	var probes []uint64
	for _, f := range bases {
		// Its content is of no interest.
		if b, err := unix.Mmap(int(f.Fd()), 0, PageSize, unix.PROT_READ, unix.MAP_PRIVATE); err == nil {
			probes = append(probes, address(b))
			defer func() { _ = unix.Munmap(b) }()
		}
	}
	p.private = privateMappings()
	for _, m := range p.private {
		for _, at := range probes {
			if m.start <= at && at < m.end && m.file != (fileID{}) {
				p.bases = append(p.bases, m.file)
			}
		}
	}
	if f, err := os.Open("/proc/self/pagemap"); err == nil {
		p.pagemap = f
	}
	return p
}

func (p *pages) close() {
	if p.pagemap != nil {
		_ = p.pagemap.Close()
	}
}

// privateMappings lists the private mappings of this process.
func privateMappings() []mapping {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var all []mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if m, ok := parseMapping(lines.Bytes()); ok {
			all = append(all, m)
		}
	}
	return all
}

// parseMapping reads a line such as "7f0895377000-7f0895379000 rw-p 00001000 fe:00 997 /a",
// of which there may be thousands while a guest stands still; false if it is no private mapping.
func parseMapping(line []byte) (m mapping, ok bool) {
	field := func(end byte) []byte {
		b, rest, _ := bytes.Cut(line, []byte{end})
		line = rest
		return b
	}
	ok = true
	number := func(b []byte, base, bits int) uint64 {
		n, err := strconv.ParseUint(string(b), base, bits)
		ok = ok && err == nil
		return n
	}
	m.start = number(field('-'), 16, 64)
	m.end = number(field(' '), 16, 64)
	perms := field(' ')
	m.offset = number(field(' '), 16, 64)
	m.file.major = uint32(number(field(':'), 16, 32))
	m.file.minor = uint32(number(field(' '), 16, 32))
	m.file.inode = number(field(' '), 10, 64)
	if m.file.inode == 0 {
		m.file = fileID{}
	}
	return m, ok && len(perms) == 4 && perms[3] == 'p'
}

func address(b []byte) uint64 {
	// SAFETY: only the number is used.
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

// written tells which pages of b may be something else than zeros: of mappings without
// a file those that are present, of others all.
func (p *pages) written(b []byte) []Range {
	var runs []Range
	for r, m := range p.split(b) {
		if m != nil && m.file == (fileID{}) {
			runs = p.present(b, runs, r, isPresent)
		} else {
			runs = join(runs, r)
		}
	}
	return runs
}

// changed tells which parts of b may be something else than what the bases have from offset
// on: of their mappings the pages that have become this process's own, all of others.
func (p *pages) changed(b []byte, offset int64) []part {
	var parts []part
	for r, m := range p.split(b) {
		switch {
		case m != nil && slices.Contains(p.bases, m.file) && m.offset+(address(b)+uint64(r.Offset)-m.start) == uint64(offset+r.Offset):
			for _, own := range p.present(b, nil, r, isOwn) {
				parts = append(parts, part{Range: own})
			}
		case m != nil && m.file == (fileID{}):
			end := r.Offset
			for _, own := range p.present(b, nil, r, isPresent) {
				parts = appendZeros(parts, end, own.Offset)
				parts = append(parts, part{Range: own})
				end = own.End()
			}
			parts = appendZeros(parts, end, r.End())
		default:
			parts = append(parts, part{Range: r})
		}
	}
	return parts
}

func appendZeros(parts []part, from, to int64) []part {
	if from == to {
		return parts
	}
	return append(parts, part{Range: Range{Offset: from, Length: to - from}, zero: true})
}

// split cuts b where its mappings end. What is no private mapping comes with nil.
func (p *pages) split(b []byte) iter.Seq2[Range, *mapping] {
	return func(yield func(Range, *mapping) bool) {
		base, at, size := address(b), uint64(0), uint64(len(b))
		for i := range p.private {
			m := &p.private[i]
			if m.end <= base+at || m.start >= base+size {
				continue
			}
			start, end := max(m.start, base)-base, min(m.end, base+size)-base
			if start > at && !yield(Range{Offset: int64(at), Length: int64(start - at)}, nil) {
				return
			}
			if !yield(Range{Offset: int64(start), Length: int64(end - start)}, m) {
				return
			}
			at = end
		}
		if at < size {
			yield(Range{Offset: int64(at), Length: int64(size - at)}, nil)
		}
	}
}

// Entries of pagemap; one for each page.
const (
	sizeEntry   = 8       // bytes
	entriesRead = 8192    // at a time
	entryInUse  = 3 << 62 // in memory, or swapped out
	entryShared = 1 << 61 // not this process's own: of a file, or shared
)

func isPresent(entry uint64) bool { return entry&entryInUse != 0 }

func isOwn(entry uint64) bool { return entry&entryInUse != 0 && entry&entryShared == 0 }

// present appends the runs of pages in r, a run of b, whose entry is as wanted.
func (p *pages) present(b []byte, runs []Range, r Range, wanted func(entry uint64) bool) []Range {
	buf := make([]byte, min(entriesRead, r.Length/PageSize)*sizeEntry)
	for at := r.Offset; at < r.End(); {
		n := min(int64(len(buf)/sizeEntry), (r.End()-at)/PageSize)
		entry := int64(address(b)/PageSize) + at/PageSize
		if n == 0 || !p.read(buf[:n*sizeEntry], entry*sizeEntry) {
			return join(runs, Range{Offset: at, Length: r.End() - at})
		}
		for i := range n {
			if wanted(binary.NativeEndian.Uint64(buf[i*sizeEntry:])) {
				runs = join(runs, Range{Offset: at + i*PageSize, Length: PageSize})
			}
		}
		at += n * PageSize
	}
	return runs
}

// resident appends the runs of pages of b that are in memory or swapped out.
func (p *pages) resident(b []byte) []Range {
	return p.present(b, nil, Range{Length: int64(len(b))}, isPresent)
}

func (p *pages) read(buf []byte, offset int64) bool {
	if p.pagemap == nil {
		return false
	}
	_, err := p.pagemap.ReadAt(buf, offset)
	return err == nil
}
