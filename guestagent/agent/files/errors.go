//go:build linux

package files

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// failed puts the steps that failed before the text of an error number.
func failed(steps string, err error) error {
	var inner *opError
	if errors.As(err, &inner) {
		return &opError{text: steps + inner.text, err: inner.err}
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &opError{text: steps + proto.ErrnoText(int(errno)), err: errno}
	}
	return fmt.Errorf("%s%w", steps, err)
}

type opError struct {
	text string
	err  error
}

func (e *opError) Error() string { return e.text }
func (e *opError) Unwrap() error { return e.err }
