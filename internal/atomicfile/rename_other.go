//go:build !linux && !darwin

package atomicfile

import "errors"

// rename without replacing is not available on this system.
func rename(string, string, bool) error { return errors.ErrUnsupported }
