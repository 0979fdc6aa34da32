package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockMigration holds the lock under which any program, official ones too, changes the
// schema of the database at path.
func lockMigration(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".migration.lock", os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("migration lock: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("migration lock: %w", err), f.Close())
		}
	}
}
