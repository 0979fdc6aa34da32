package launch

import (
	"errors"
	"fmt"
)

// Errors of this package. All are wrapped with what to do about them.
var (
	// ErrUsage is the class of errors in the arguments, descriptors or configuration of
	// a runtime. A runtime that meets one exits with code 2 before it says it started.
	ErrUsage = errors.New("invalid sandbox invocation")
	// ErrConfig reports a configuration document that is malformed or contradicts itself.
	ErrConfig = fmt.Errorf("%w: invalid configuration", ErrUsage)
	// ErrMount reports a malformed mount or disk string.
	ErrMount = errors.New("invalid mount")
	// ErrUnsupported reports something valid that this runtime cannot do yet.
	ErrUnsupported = errors.New("not supported by this runtime")
	// ErrLocked reports that another process runs a sandbox of the same name.
	ErrLocked = errors.New("sandbox is already running")
	// ErrPathTooLong reports a socket path that does not fit sockaddr_un.
	ErrPathTooLong = errors.New("socket path is too long")
	// ErrNotFound reports that no runtime binary could be found.
	ErrNotFound = errors.New("msb binary not found")
	// ErrStart is the class of errors of a runtime that did not start.
	ErrStart = errors.New("sandbox runtime did not start")
)

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, args...))
}

func configf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
}
