package store

import (
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of this package.
var (
	// ErrNotFound reports a sandbox, run or image that is not in the database.
	ErrNotFound = errors.New("not found")
	// ErrExists reports a sandbox name that is taken.
	ErrExists = errors.New("already exists")
	// ErrInUse reports an image that sandboxes are made of; see InUseError.
	ErrInUse = errors.New("in use")
	// ErrNoSlot reports that all network slots are taken.
	ErrNoSlot = errors.New("all 65535 network slots are taken: remove a sandbox")
	// ErrNoDatabase reports that there is no database at the path, or one that is only
	// being made.
	ErrNoDatabase = errors.New("no database")
	// ErrSchemaOlder reports a database of an older release.
	ErrSchemaOlder = errors.New("database is of an older microsandbox: run any command of the official 0.6.18 once to migrate it, or choose another MSB_HOME")
	// ErrSchemaNewer reports a database of a newer release.
	ErrSchemaNewer = errors.New("database is of a newer microsandbox: use that release, or choose another MSB_HOME")
	// ErrBusy reports that other processes kept the database locked through all retries.
	ErrBusy = errors.New("database is busy")
	// ErrFull reports that the file system is full.
	ErrFull = errors.New("no space for the database")
	// ErrCorrupt reports a file that is not an intact SQLite database.
	ErrCorrupt = errors.New("database is damaged")
)

// InUseError lists the sandboxes that keep an image from being removed.
type InUseError struct{ Sandboxes []string }

// Error names the sandboxes.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%v by sandbox(es): %v", ErrInUse, e.Sandboxes)
}

// Unwrap makes the error an ErrInUse.
func (e *InUseError) Unwrap() error { return ErrInUse }

// classify wraps what the driver reports in a sentinel where there is one.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE { // the index of the log beside the database has no room
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// code is the extended result code in err, 0 if there is none.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
