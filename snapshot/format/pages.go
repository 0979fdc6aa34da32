package format

// Range is a run of bytes; where nothing else is said, in the file "memory".
type Range struct{ Offset, Length int64 }

// End is the offset after the run.
func (r Range) End() int64 { return r.Offset + r.Length }

// Resident tells which pages of a mapping are in memory, as runs of offsets in b, which
// begins and ends at pages. Where the system does not tell it is all of b.
func Resident(b []byte) []Range {
	p := newPages()
	defer p.close()
	return p.resident(b)
}

// join appends a run to ascending ones, as part of the last if it follows that.
func join(runs []Range, r Range) []Range {
	if r.Length == 0 {
		return runs
	}
	if n := len(runs); n > 0 && runs[n-1].End() == r.Offset {
		runs[n-1].Length += r.Length
		return runs
	}
	return append(runs, r)
}
