package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/filelock"
)

// lockMigration holds the lock under which any program, official ones too, changes the
// schema of the database at path.
func lockMigration(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".migration.lock", os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("migration lock: %w", err)
	}
	if err := filelock.Wait(ctx, f); err != nil {
		return nil, errors.Join(fmt.Errorf("migration lock: %w", err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
