//go:build !linux

package sysmon

import (
	"errors"
	"time"
)

// Monitor is that of this process.
type Monitor struct{}

// Relax is [errors.ErrUnsupported].
func (*Monitor) Relax(time.Duration) error { return errors.ErrUnsupported }

// Yield is [errors.ErrUnsupported].
func Yield(string) (again func(), err error) { return nil, errors.ErrUnsupported }
