package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Snapshot is one row of the snapshot index. The index is a cache: the artefact's
// directory is the truth.
type Snapshot struct {
	Digest              string // identity
	Name                string // empty outside the home's snapshots directory
	ParentDigest        string // empty if none
	Scope               string // "disk" or "resumable"
	StateKind           string // "file" or "checkpoint"
	ImageRef            string
	ImageManifestDigest string
	Format              string // empty for a checkpoint
	Fstype              string // empty for a checkpoint
	CheckpointDigest    string // empty for a file
	Path                string // of the artefact
	SizeBytes           *int64 // apparent size
	Locality            string // "embedded"
	Availability        string // "ready"
	MigrationState      string // "canonical"
	MigrationErrorCode  string // empty if none
	CreatedAt           time.Time
	IndexedAt           time.Time // set by SaveSnapshot
	Children            int       // kept by SaveSnapshot, RemoveSnapshot and RecountSnapshots
}

const snapshotQuery = `SELECT digest, name, parent_digest, scope, state_kind, image_ref, image_manifest_digest, format, fstype,
	checkpoint_manifest_digest, artifact_path, size_bytes, locality, availability, migration_state, migration_error_code,
	created_at, indexed_at, child_count FROM snapshot_index`

func scanSnapshot(row scanner) (Snapshot, error) {
	var s Snapshot
	var name, parent, format, fstype, checkpoint, code, created, indexed sql.NullString
	var size sql.NullInt64
	if err := row.Scan(&s.Digest, &name, &parent, &s.Scope, &s.StateKind, &s.ImageRef, &s.ImageManifestDigest, &format, &fstype,
		&checkpoint, &s.Path, &size, &s.Locality, &s.Availability, &s.MigrationState, &code, &created, &indexed, &s.Children); err != nil {
		return Snapshot{}, err
	}
	s.Name, s.ParentDigest, s.Format, s.Fstype = name.String, parent.String, format.String, fstype.String
	s.CheckpointDigest, s.MigrationErrorCode = checkpoint.String, code.String
	if size.Valid {
		s.SizeBytes = &size.Int64
	}
	var errs [2]error
	s.CreatedAt, errs[0] = parseTime(created)
	s.IndexedAt, errs[1] = parseTime(indexed)
	return s, errors.Join(errs[:]...)
}

// SaveSnapshot indexes a file snapshot of disk scope. It replaces every row that has its
// digest, name or path, and counts it as a child of its parent.
func (s *Store) SaveSnapshot(ctx context.Context, snap Snapshot) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		stale := `digest = ? OR artifact_path = ? OR name = ?`
		if err := dropSnapshots(ctx, tx, stale, snap.Digest, snap.Path, orNull(snap.Name)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO snapshot_index(digest, name, parent_digest, scope, state_kind, image_ref,
			image_manifest_digest, format, fstype, artifact_path, size_bytes, created_at, indexed_at, child_count)
			VALUES(?, ?, ?, 'disk', 'file', ?, ?, ?, ?, ?, ?, ?, ?, (SELECT count(*) FROM snapshot_index WHERE parent_digest = ?))`,
			snap.Digest, orNull(snap.Name), orNull(snap.ParentDigest), snap.ImageRef, snap.ImageManifestDigest,
			orNull(snap.Format), orNull(snap.Fstype), snap.Path, snap.SizeBytes, formatTime(snap.CreatedAt), s.stamp(), snap.Digest)
		if err != nil || snap.ParentDigest == "" {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE snapshot_index SET child_count = child_count + 1 WHERE digest = ?`, snap.ParentDigest)
		return err
	})
}

// RemoveSnapshot deletes a snapshot's row and takes it off its parent's count. It fails
// with [ErrNotFound].
func (s *Store) RemoveSnapshot(ctx context.Context, digest string) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		var there string
		if err := tx.QueryRowContext(ctx, `SELECT digest FROM snapshot_index WHERE digest = ?`, digest).Scan(&there); err != nil {
			return err
		}
		return dropSnapshots(ctx, tx, `digest = ?`, digest)
	})
}

// dropSnapshots deletes the rows that match, each off its parent's count.
func dropSnapshots(ctx context.Context, tx *sql.Tx, where string, args ...any) error {
	_, err := tx.ExecContext(ctx, `UPDATE snapshot_index AS p SET child_count = max(0, child_count -
		(SELECT count(*) FROM snapshot_index WHERE parent_digest = p.digest AND (`+where+`)))`, args...)
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM snapshot_index WHERE `+where, args...)
	}
	return err
}

// RecountSnapshots sets every child count from the parents that the rows name.
func (s *Store) RecountSnapshots(ctx context.Context) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE snapshot_index AS p SET child_count =
			(SELECT count(*) FROM snapshot_index WHERE parent_digest = p.digest)`)
		return err
	})
}

// Snapshots lists the index, newest first.
func (s *Store) Snapshots(ctx context.Context) ([]Snapshot, error) {
	return queryAll(ctx, s, scanSnapshot, snapshotQuery+` ORDER BY created_at DESC, digest`)
}

// Snapshot returns the row of a digest, or [ErrNotFound].
func (s *Store) Snapshot(ctx context.Context, digest string) (snap Snapshot, err error) {
	err = retry(ctx, func() error {
		snap, err = scanSnapshot(s.db.QueryRowContext(ctx, snapshotQuery+` WHERE digest = ?`, digest))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("snapshot %w: %s", ErrNotFound, digest)
	}
	return snap, err
}
