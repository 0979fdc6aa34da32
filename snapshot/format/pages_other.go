//go:build !linux

package format

// pages counts all pages as present on this system.
type pages struct{}

func newPages() pages                  { return pages{} }
func (pages) close()                   {}
func (pages) written(b []byte) []Range { return join(nil, Range{Length: int64(len(b))}) }

func (pages) resident(b []byte, runs []Range, first int64) []Range {
	return join(runs, Range{Offset: first, Length: int64(len(b))})
}
