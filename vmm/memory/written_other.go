//go:build unix && !linux

package memory

import "errors"

// Populate is not available on this operating system.
func (m *Memory) Populate(uint64, uint64) error { return errors.ErrUnsupported }

// Written is not available on this operating system.
func (m *Memory) Written() ([]Range, error) { return nil, errors.ErrUnsupported }
