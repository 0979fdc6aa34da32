//go:build !linux

package sysmon

import (
	"errors"
	"time"
)

// Relax is [errors.ErrUnsupported].
func Relax(time.Duration) error { return errors.ErrUnsupported }

// Yield is [errors.ErrUnsupported].
func Yield(string) (again func(), err error) { return nil, errors.ErrUnsupported }
