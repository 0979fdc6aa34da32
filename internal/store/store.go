package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Options of Open. The zero value opens an existing database.
type Options struct {
	// Create makes the database, its directory and its schema if they are not there.
	Create bool
	// BusyTimeout is how long one statement waits for other processes; 0 is 5 s.
	BusyTimeout time.Duration
	// Now replaces time.Now in tests.
	Now func() time.Time
}

// Store is an open database, with one connection. It is safe for concurrent use; calls
// take turns.
type Store struct {
	db  *sql.DB
	now func() time.Time
}

// Open opens the database at path. Errors wrap [ErrNoDatabase], [ErrSchemaOlder],
// [ErrSchemaNewer], [ErrCorrupt] or what the file system reported.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	_, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && !o.Create:
		return nil, fmt.Errorf("%w at %s", ErrNoDatabase, path)
	case err != nil && !missing:
		return nil, fmt.Errorf("open database: %w", err)
	case missing:
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("create database: %w", err)
		}
	}
	s, err := connect(path, o)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, path, o.Create); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), s.Close())
	}
	return s, nil
}

func connect(path string, o Options) (*Store, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	mode := "rw"
	if o.Create {
		mode = "rwc"
	}
	// A URL, so that no character of the path is taken for a parameter.
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: url.Values{
		"mode":    {mode},
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(" + strconv.FormatInt(o.BusyTimeout.Milliseconds(), 10) + ")",
			"journal_mode(WAL)", "synchronous(NORMAL)", "foreign_keys(ON)",
		},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return &Store{db: db, now: o.Now}, nil
}

// prepare checks the schema, and makes it if there is none and create is set.
func (s *Store) prepare(ctx context.Context, path string, create bool) error {
	// Only the first use of a new file can find no schema, and it is not worth a lock.
	err := retry(ctx, func() error { return s.checkSchema(ctx) })
	if !errors.Is(err, errNoSchema) {
		return err
	}
	if !create {
		return fmt.Errorf("%w yet: it has no tables", ErrNoDatabase)
	}
	unlock, err := lockMigration(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	return retry(ctx, func() error {
		if err := s.checkSchema(ctx); !errors.Is(err, errNoSchema) {
			return err // another process made it meanwhile
		}
		return s.createSchema(ctx)
	})
}

// Close closes the database. It is idempotent.
func (s *Store) Close() error { return s.db.Close() }

// update runs f in an immediate transaction, again if SQLite says so. f must only touch
// the database and may run several times.
func (s *Store) update(ctx context.Context, f func(tx *sql.Tx) error) error {
	return retry(ctx, func() error {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // no-op after Commit
		if err := f(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

const (
	retries      = 8
	retryFirst   = 10 * time.Millisecond
	retryLongest = 500 * time.Millisecond
)

// retry runs f until it succeeds, fails for good or was tried 8 times, waiting 10 ms to
// 500 ms in between. The error is classified.
func retry(ctx context.Context, f func() error) error {
	wait := retryFirst
	for try := 1; ; try++ {
		err := f()
		if c := code(err); try == retries || c != sqlite3.SQLITE_BUSY && c != sqlite3.SQLITE_BUSY_SNAPSHOT && c != sqlite3.SQLITE_BUSY_RECOVERY {
			return classify(err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, retryLongest)
	}
}
