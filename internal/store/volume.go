package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Volume is a row of the volume table: a named volume, whose files are elsewhere.
type Volume struct {
	ID        int32
	Name      string
	Kind      string            // "dir" or "disk"
	QuotaMiB  *uint32           // of a directory, nil for none
	Capacity  *int64            // of a disk, bytes
	Format    string            // of a disk: "raw"
	Fstype    string            // of a disk: "ext4"
	Labels    map[string]string // nil for none
	CreatedAt time.Time         // set by InsertVolume
	UpdatedAt time.Time         // likewise
}

const volumeColumns = `id, name, kind, quota_mib, capacity_bytes, disk_format, disk_fstype, labels, created_at, updated_at`

func scanVolume(row scanner) (Volume, error) {
	var v Volume
	var quota, capacity sql.NullInt64
	var format, fstype, labels, created, updated sql.NullString
	if err := row.Scan(&v.ID, &v.Name, &v.Kind, &quota, &capacity, &format, &fstype, &labels, &created, &updated); err != nil {
		return Volume{}, err
	}
	if v.Kind != "disk" {
		v.Kind = "dir" // as official programs take any other word
	}
	if quota.Valid {
		mib := uint32(min(max(quota.Int64, 0), 1<<32-1))
		v.QuotaMiB = &mib
	}
	if capacity.Valid {
		v.Capacity = &capacity.Int64
	}
	v.Format, v.Fstype = format.String, fstype.String
	var errs [3]error
	v.Labels, errs[0] = parsePairs(labels.String)
	v.CreatedAt, errs[1] = parseTime(created)
	v.UpdatedAt, errs[2] = parseTime(updated)
	return v, errors.Join(errs[:]...)
}

// parsePairs reads labels as official programs store them: [["key", "value"], ...].
func parsePairs(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	var pairs [][2]string
	if err := json.Unmarshal([]byte(text), &pairs); err != nil {
		return nil, fmt.Errorf("%w: volume labels: %w", ErrCorrupt, err)
	}
	if len(pairs) == 0 {
		return nil, nil
	}
	labels := make(map[string]string, len(pairs))
	for _, p := range pairs {
		labels[p[0]] = p[1]
	}
	return labels, nil
}

// pairs is the inverse of parsePairs, NULL for none.
func pairs(labels map[string]string) (any, error) {
	if len(labels) == 0 {
		return nil, nil
	}
	var list [][2]string
	for k, v := range labels {
		list = append(list, [2]string{k, v})
	}
	slices.SortFunc(list, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	text, err := json.Marshal(list)
	return string(text), err
}

// InsertVolume adds a volume. It fails with [ErrExists] if the name is taken.
func (s *Store) InsertVolume(ctx context.Context, v Volume) (added Volume, err error) {
	labels, err := pairs(v.Labels)
	if err != nil {
		return Volume{}, err
	}
	err = retry(ctx, func() error {
		now := s.stamp()
		added, err = scanVolume(s.db.QueryRowContext(ctx, `INSERT INTO volume
			(name, kind, quota_mib, capacity_bytes, disk_format, disk_fstype, labels, created_at, updated_at)
			VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+volumeColumns,
			v.Name, v.Kind, v.QuotaMiB, v.Capacity, orNull(v.Format), orNull(v.Fstype), labels, now, now))
		return err
	})
	if code(err) == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return Volume{}, fmt.Errorf("volume %w: %s", ErrExists, v.Name)
	}
	return added, err
}

// Volume returns the volume of that name, or [ErrNotFound].
func (s *Store) Volume(ctx context.Context, name string) (v Volume, err error) {
	err = retry(ctx, func() error {
		v, err = scanVolume(s.db.QueryRowContext(ctx, `SELECT `+volumeColumns+` FROM volume WHERE name = ?`, name))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("volume %w: %s", ErrNotFound, name)
	}
	return v, err
}

// Volumes lists the volumes, newest first.
func (s *Store) Volumes(ctx context.Context) ([]Volume, error) {
	return queryAll(ctx, s, scanVolume, `SELECT `+volumeColumns+` FROM volume ORDER BY created_at DESC, id DESC`)
}

// DeleteVolume removes a volume's row. It reports whether it was there.
func (s *Store) DeleteVolume(ctx context.Context, id int32) (bool, error) {
	return s.exec(ctx, `DELETE FROM volume WHERE id = ?`, id)
}
