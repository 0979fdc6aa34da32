package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Removed lists what a removal left without a user: the caller deletes the files.
type Removed struct {
	References []string
	Manifests  []string // digests
	Layers     []string // diff ids
}

// RemoveImage deletes a reference, and what only it used. It fails with [ErrNotFound], or
// with an [InUseError] if sandboxes use the image and force is not set.
func (s *Store) RemoveImage(ctx context.Context, reference string, force bool) (removed Removed, err error) {
	err = s.update(ctx, func(tx *sql.Tx) error {
		removed = Removed{}
		var manifest int64
		if err := tx.QueryRowContext(ctx, `SELECT manifest_id FROM image_ref WHERE reference = ?`, reference).Scan(&manifest); err != nil {
			return fmt.Errorf("image %w: %s", classify(err), reference)
		}
		users, err := texts(ctx, tx, `SELECT s.name FROM sandbox_rootfs r JOIN sandbox s ON s.id = r.sandbox_id WHERE r.manifest_id = ? ORDER BY s.name`, manifest)
		if err != nil {
			return err
		}
		if len(users) > 0 && !force {
			return &InUseError{Sandboxes: users}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM image_ref WHERE reference = ?`, reference); err != nil {
			return err
		}
		removed.References = []string{reference}
		return collect(ctx, tx, &removed)
	})
	return removed, err
}

// PruneImages deletes every reference whose image neither a sandbox nor a snapshot uses,
// and whatever has no reference then.
func (s *Store) PruneImages(ctx context.Context) (removed Removed, err error) {
	err = s.update(ctx, func(tx *sql.Tx) error {
		removed = Removed{}
		var err error
		removed.References, err = texts(ctx, tx, `DELETE FROM image_ref WHERE manifest_id NOT IN (
			SELECT manifest_id FROM sandbox_rootfs WHERE manifest_id IS NOT NULL
			UNION SELECT m.id FROM manifest m JOIN snapshot_index i ON i.image_manifest_digest = m.digest) RETURNING reference`)
		if err != nil {
			return err
		}
		return collect(ctx, tx, &removed)
	})
	return removed, err
}

// collect deletes manifests that nothing refers to and layers that no manifest has.
func collect(ctx context.Context, tx *sql.Tx, removed *Removed) error {
	var err error
	removed.Manifests, err = texts(ctx, tx, `DELETE FROM manifest WHERE id NOT IN (
		SELECT manifest_id FROM image_ref
		UNION SELECT manifest_id FROM sandbox_rootfs WHERE manifest_id IS NOT NULL
		UNION SELECT m.id FROM manifest m JOIN snapshot_index i ON i.image_manifest_digest = m.digest) RETURNING digest`)
	if err != nil {
		return err
	}
	removed.Layers, err = texts(ctx, tx, `DELETE FROM layer WHERE id NOT IN (SELECT layer_id FROM manifest_layer) RETURNING diff_id`)
	return err
}

// texts collects a query's one text column.
func texts(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
