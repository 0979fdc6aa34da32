//go:build !linux

package sparse

import (
	"context"
	"os"
)

// Share is not available on this system.
func Share(*os.File, *os.File) error { return ErrCannotShare }

// CopyData is not available on this system.
func CopyData(context.Context, *os.File, *os.File) error { return ErrUnsupported }
