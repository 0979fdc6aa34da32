package snapshot

import (
	"context"
	"errors"
	"os"

	"github.com/gomsb/gomsb/internal/filelock"
)

// lock lets one process at a time change the names in dir. The lock is on the directory
// itself, so that there is no file to leave behind.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, d); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return func() { _ = d.Close() }, nil
}
