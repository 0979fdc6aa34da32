package stitch

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrDescriptor reports a text that Descriptor did not write.
var ErrDescriptor = errors.New("no descriptor of joined files")

// Parse is the inverse of Descriptor: it returns the extents, and ErrDescriptor for any
// text that is not exactly what Descriptor makes of them.
func Parse(text []byte) ([]Extent, error) {
	var extents []Extent
	for line := range bytes.Lines(text) {
		rest, ok := strings.CutPrefix(string(line), "RW ")
		if !ok {
			continue
		}
		e, offset, err := parseExtent(strings.TrimSuffix(rest, "\n"))
		if err != nil {
			return nil, err
		}
		if offset == 0 {
			extents = append(extents, e)
			continue
		}
		if len(extents) == 0 || e.Size > maxDisk-extents[len(extents)-1].Size {
			return nil, fmt.Errorf("%w: %.80q", ErrDescriptor, line)
		}
		extents[len(extents)-1].Size += e.Size
	}
	if again, err := Descriptor(extents); err != nil || !bytes.Equal(again, text) {
		return nil, ErrDescriptor
	}
	return extents, nil
}

// parseExtent reads `SECTORS FLAT "PATH" OFFSET`.
func parseExtent(s string) (e Extent, offset int64, err error) {
	count, rest, _ := strings.Cut(s, ` FLAT "`)
	path, at, _ := strings.Cut(rest, `" `)
	sectors, err := strconv.ParseInt(count, 10, 64)
	if err == nil {
		offset, err = strconv.ParseInt(at, 10, 64)
	}
	if err != nil || sectors <= 0 || sectors > maxExtent || offset < 0 {
		return Extent{}, 0, fmt.Errorf("%w: extent %.80q", ErrDescriptor, s)
	}
	return Extent{Path: path, Size: sectors * sectorSize}, offset, nil
}
