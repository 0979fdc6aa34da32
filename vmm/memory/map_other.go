//go:build unix && !linux

package memory

import (
	"errors"
	"os"
)

const mapNoReserve = 0

func keepFromChildren([]byte) error { return nil }

// discard zeroes the pages: there is no portable way to give them back at once.
func discard(b []byte) error {
	clear(b)
	return nil
}

func discardFile(b []byte) error { return discard(b) }

// MapFile is not available on this operating system.
func (m *Memory) MapFile(uint64, *os.File, int64, int64) error { return errors.ErrUnsupported }

// Rebase is not available on this operating system.
func (m *Memory) Rebase([]Range, []View) error { return errors.ErrUnsupported }
