//go:build unix && !linux

package memory

import "errors"

// Populate is not available on this operating system.
func (m *Memory) Populate(uint64, uint64) error { return errors.ErrUnsupported }

// Touched is not available on this operating system.
func (m *Memory) Touched() (read, written []Range, err error) {
	return nil, nil, errors.ErrUnsupported
}

// Separate is not available on this operating system.
func (m *Memory) Separate() error { return errors.ErrUnsupported }

// Join is not available on this operating system.
func (m *Memory) Join() error { return errors.ErrUnsupported }
