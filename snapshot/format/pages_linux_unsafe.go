//go:build linux

package format

import (
	"bufio"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"unsafe"
)

// pages answers questions about this process's pages from /proc/self. Where /proc does
// not answer, all pages count as present, which costs time and nothing else.
type pages struct {
	pagemap   *os.File // nil where there is none
	anonymous []span   // private mappings without a file, ascending
}

// span is a range of virtual addresses.
type span struct{ start, end uint64 }

func newPages() *pages {
	p := &pages{}
	if uint64(os.Getpagesize()) != PageSize {
		return p
	}
	p.anonymous = anonymous()
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

// anonymous lists the mappings whose absent pages are zeros.
func anonymous() []span {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var all []span
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// address perms offset dev inode path
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || len(fields[1]) < 4 || fields[1][3] != 'p' || fields[4] != "0" {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil {
			all = append(all, span{start, end})
		}
	}
	return all
}

func address(b []byte) uint64 {
	// SAFETY: only the number is used.
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

// written tells which pages of b may be something else than zeros: of mappings without
// a file those that are present, of others all.
func (p *pages) written(b []byte) []Range {
	var runs []Range
	base := address(b)
	at, size := uint64(0), uint64(len(b))
	for _, s := range p.anonymous {
		if s.end <= base+at || s.start >= base+size {
			continue
		}
		start := max(s.start, base) - base
		end := min(s.end, base+size) - base
		runs = join(runs, Range{Offset: int64(at), Length: int64(start - at)})
		runs = p.resident(b[start:end], runs, int64(start))
		at = end
	}
	return join(runs, Range{Offset: int64(at), Length: int64(size - at)})
}

const (
	sizeEntry    = 8       // of pagemap, in bytes; one for each page
	entryPresent = 3 << 62 // in memory, or swapped out
	entriesRead  = 8192    // at a time
)

// resident appends the runs of present pages of b, whose first byte has the offset first.
func (p *pages) resident(b []byte, runs []Range, first int64) []Range {
	buf := make([]byte, min(entriesRead, len(b)/PageSize)*sizeEntry)
	entry := int64(address(b)/PageSize) * sizeEntry
	for at := 0; at < len(b); {
		n := min(len(buf)/sizeEntry, (len(b)-at)/PageSize)
		if n == 0 {
			return join(runs, Range{Offset: first + int64(at), Length: int64(len(b) - at)})
		}
		if !p.read(buf[:n*sizeEntry], entry) {
			return join(runs, Range{Offset: first + int64(at), Length: int64(len(b) - at)})
		}
		for i := range n {
			if binary.NativeEndian.Uint64(buf[i*sizeEntry:])&entryPresent != 0 {
				runs = join(runs, Range{Offset: first + int64(at+i*PageSize), Length: PageSize})
			}
		}
		entry += int64(n) * sizeEntry
		at += n * PageSize
	}
	return runs
}

func (p *pages) read(buf []byte, offset int64) bool {
	if p.pagemap == nil {
		return false
	}
	_, err := p.pagemap.ReadAt(buf, offset)
	return err == nil
}
