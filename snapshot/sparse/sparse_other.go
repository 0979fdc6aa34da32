//go:build !linux

package sparse

import (
	"context"
	"os"
)

// Next is not available on this system.
func Next(*os.File, int64, int64) (Extent, error) { return Extent{}, ErrUnsupported }

// Copy is not available on this system.
func Copy(context.Context, *os.File, *os.File) error { return ErrUnsupported }

// CopyFile is not available on this system.
func CopyFile(context.Context, string, string, os.FileMode) error { return ErrUnsupported }

// Open is not available on this system.
func Open(string) (*os.File, error) { return nil, ErrUnsupported }

// SyncDir is not available on this system.
func SyncDir(string) error { return ErrUnsupported }
