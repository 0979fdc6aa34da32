package balloon

import (
	"encoding/binary"
	"time"
)

// Tag says what a statistic is (virtio 1.2 §5.5.6.3).
type Tag uint16

// The tags of virtio 1.2.
const (
	TagSwapIn Tag = iota
	TagSwapOut
	TagMajorFaults
	TagMinorFaults
	TagFree
	TagTotal
	TagAvailable
	TagCaches
	TagHugeAllocations
	TagHugeFailures

	knownTags
)

const (
	entrySize = 10 // struct virtio_balloon_stat: tag and value
	// maxEntries bounds one report. Linux sends at most 16.
	maxEntries = 64
)

// Stats is what the guest said last about its memory. It says what it likes.
type Stats struct {
	// Updated is when it said that.
	Updated time.Time

	SwapIn, SwapOut uint64 // bytes since boot
	MajorFaults     uint64 // page faults since boot that needed a disk
	MinorFaults     uint64 // and that did not
	Free            uint64 // bytes unused
	Total           uint64 // bytes
	Available       uint64 // bytes that programs can have without swapping
	Caches          uint64 // bytes that can be given up quickly
	HugeAllocations uint64 // huge pages allocated since boot
	HugeFailures    uint64 // and refused

	known uint32 // bit set of tags
}

// Has reports whether the guest gave the value of t.
func (s *Stats) Has(t Tag) bool { return t < knownTags && s.known&(1<<t) != 0 }

// Used is the memory in use in bytes, total less available, if the guest gave both.
func (s *Stats) Used() (uint64, bool) {
	if !s.Has(TagTotal) || !s.Has(TagAvailable) || s.Available > s.Total {
		return 0, false
	}
	return s.Total - s.Available, true
}

// field is where the value of t goes, nil if nobody knows t.
func (s *Stats) field(t Tag) *uint64 {
	switch t {
	case TagSwapIn:
		return &s.SwapIn
	case TagSwapOut:
		return &s.SwapOut
	case TagMajorFaults:
		return &s.MajorFaults
	case TagMinorFaults:
		return &s.MinorFaults
	case TagFree:
		return &s.Free
	case TagTotal:
		return &s.Total
	case TagAvailable:
		return &s.Available
	case TagCaches:
		return &s.Caches
	case TagHugeAllocations:
		return &s.HugeAllocations
	case TagHugeFailures:
		return &s.HugeFailures
	}
	return nil
}

// parseStats decodes a report. Unknown tags and a part of an entry at the end are left
// out; of equal tags the last one counts.
func parseStats(b []byte) Stats {
	var s Stats
	for ; len(b) >= entrySize; b = b[entrySize:] {
		t := Tag(binary.LittleEndian.Uint16(b))
		if f := s.field(t); f != nil {
			*f = binary.LittleEndian.Uint64(b[2:])
			s.known |= 1 << t
		}
	}
	return s
}

// Stats is the guest's last report, and whether there was one since it took up the
// device. A guest that has stopped to report leaves Updated behind.
func (d *Device) Stats() (Stats, bool) {
	d.statsMu.Lock()
	defer d.statsMu.Unlock()
	return d.stats, !d.stats.Updated.IsZero()
}

func (d *Device) setStats(s Stats) {
	d.statsMu.Lock()
	defer d.statsMu.Unlock()
	d.stats = s
}
