package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed schema.sql
var schema string

//go:embed migrations.txt
var migrationList string

// Migrations are the names that a database of 0.6.18 has recorded, oldest first.
func Migrations() []string { return strings.Fields(migrationList) }

// errNoSchema reports a database without any table.
var errNoSchema = errors.New("database is empty")

// checkSchema compares the recorded migrations with ours. Their number and the newest
// name suffice when they match; only a database that differs is looked at closely.
func (s *Store) checkSchema(ctx context.Context) error {
	err := s.compareSchema(ctx)
	if err == nil || errors.Is(err, ErrSchemaOlder) || errors.Is(err, ErrSchemaNewer) {
		return err
	}
	return s.noSchema(ctx, err)
}

// compareSchema is checkSchema for a database that has our tables.
func (s *Store) compareSchema(ctx context.Context) error {
	known := Migrations()
	var count int
	var newest sql.NullString
	err := s.db.QueryRowContext(ctx, `SELECT count(*), max(version) FROM seaql_migrations`).Scan(&count, &newest)
	if err != nil || count == len(known) && newest.String == known[len(known)-1] {
		return err
	}
	return s.explainSchema(ctx, known)
}

// noSchema says what it means that compareSchema failed with cause.
func (s *Store) noSchema(ctx context.Context, cause error) error {
	var tables int
	err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&tables)
	switch {
	case err != nil:
		return err
	case tables == 0:
		return errNoSchema
	}
	// Another process may have made the tables just now: then they are ours.
	if err := s.compareSchema(ctx); code(err) != sqlite3.SQLITE_ERROR {
		return err
	}
	return fmt.Errorf("%w: its tables are not of microsandbox: %w", ErrCorrupt, cause)
}

// explainSchema says in which direction a database differs.
func (s *Store) explainSchema(ctx context.Context, known []string) error {
	missing := make(map[string]bool, len(known))
	for _, v := range known {
		missing[v] = true
	}
	rows, err := s.db.QueryContext(ctx, `SELECT version FROM seaql_migrations ORDER BY version`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var unknown []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return err
		}
		if !missing[v] {
			unknown = append(unknown, v)
		}
		delete(missing, v)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	switch {
	case len(unknown) > 0:
		return fmt.Errorf("%w: unknown migration %s", ErrSchemaNewer, unknown[0])
	case len(missing) > 0:
		return fmt.Errorf("%w: %d migrations are missing", ErrSchemaOlder, len(missing))
	}
	return nil
}

// createSchema makes all tables and records all migrations, or nothing.
func (s *Store) createSchema(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("create tables: %w", err)
	}
	applied := s.now().Unix()
	for _, v := range Migrations() {
		if _, err := tx.ExecContext(ctx, `INSERT INTO seaql_migrations(version, applied_at) VALUES(?, ?)`, v, applied); err != nil {
			return fmt.Errorf("record migrations: %w", err)
		}
	}
	return tx.Commit()
}
