//go:build !linux

package snapshot

import (
	"context"

	"github.com/gomsb/gomsb/snapshot/sparse"
)

// lock is not available on this system, like sparse files.
func lock(context.Context, string) (func(), error) { return nil, sparse.ErrUnsupported }
