//go:build !linux

package event

import "errors"

// ErrUnsupported reports an operating system without eventfd(2).
var ErrUnsupported = errors.New("eventfd needs Linux")

// Event cannot be created here.
type Event struct{}

// New returns ErrUnsupported.
func New() (*Event, error) { return nil, ErrUnsupported }

// FD is never valid.
func (e *Event) FD() int { return -1 }

// Signal returns ErrUnsupported.
func (e *Event) Signal() error { return ErrUnsupported }

// Serve returns ErrUnsupported.
func (e *Event) Serve(func() bool) error { return ErrUnsupported }

// Block returns ErrUnsupported.
func (e *Event) Block() error { return ErrUnsupported }

// Close does nothing.
func (e *Event) Close() error { return nil }
