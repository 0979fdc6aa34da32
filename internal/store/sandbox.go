package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Status of a sandbox, as stored.
type Status string

// The statuses. Official programs fail on any other word.
const (
	Created  Status = "Created"
	Starting Status = "Starting"
	Running  Status = "Running"
	Draining Status = "Draining"
	Paused   Status = "Paused"
	Stopped  Status = "Stopped"
	Crashed  Status = "Crashed"
)

// Sandbox is a row of the sandbox table.
type Sandbox struct {
	ID           int32
	Name         string
	Config       string // JSON, the desired configuration
	ActiveConfig string // JSON, what the running machine uses; empty when none runs
	Status       Status
	Ephemeral    bool   // removed when it ends
	NetworkSlot  uint16 // 1-65535; 0 without one
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// NewSandbox is a sandbox to insert.
type NewSandbox struct {
	Name         string
	Config       string
	ActiveConfig string
	Status       Status
	Ephemeral    bool
	Labels       map[string]string
	Rootfs       *Rootfs
}

// Rootfs records what a sandbox's root file system is made of.
type Rootfs struct {
	Reference      string // what the image was asked for as; empty for none
	ManifestDigest string // pins the image; empty for other roots
	Mode           string // erofs, bind or disk-image
	UpperFSType    string // empty: NULL
	RootDiskKind   string // empty: managed
	RootDiskPath   string // empty: NULL
}

const sandboxColumns = `id, name, config, active_config, status, ephemeral, network_slot, created_at, updated_at`

type scanner interface{ Scan(...any) error }

func scanSandbox(row scanner) (Sandbox, error) {
	var b Sandbox
	var active, created, updated sql.NullString
	var slot sql.NullInt32
	err := row.Scan(&b.ID, &b.Name, &b.Config, &active, &b.Status, &b.Ephemeral, &slot, &created, &updated)
	if err != nil {
		return Sandbox{}, err
	}
	b.ActiveConfig, b.NetworkSlot = active.String, uint16(slot.Int32)
	var errs [2]error
	b.CreatedAt, errs[0] = parseTime(created)
	b.UpdatedAt, errs[1] = parseTime(updated)
	return b, errors.Join(errs[:]...)
}

// InsertSandbox adds a sandbox with its labels and root, gives it the lowest free network
// slot, and notes that its image's reference was used. It fails with [ErrExists] if the name is taken, [ErrNoSlot], or
// [ErrNotFound] for an unknown manifest.
func (s *Store) InsertSandbox(ctx context.Context, n NewSandbox) (Sandbox, error) {
	var b Sandbox
	err := s.update(ctx, func(tx *sql.Tx) error {
		slot, err := freeSlot(ctx, tx)
		if err != nil {
			return err
		}
		now := s.stamp()
		row := tx.QueryRowContext(ctx, `INSERT INTO sandbox
			(name, config, active_config, status, ephemeral, network_slot, created_at, updated_at)
			VALUES(?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+sandboxColumns,
			n.Name, n.Config, orNull(n.ActiveConfig), n.Status, n.Ephemeral, slot, now, now)
		if b, err = scanSandbox(row); err != nil {
			return err
		}
		for k, v := range n.Labels {
			if _, err := tx.ExecContext(ctx, `INSERT INTO sandbox_labels(sandbox_id, key, value) VALUES(?, ?, ?)`, b.ID, k, v); err != nil {
				return err
			}
		}
		return s.insertRootfs(ctx, tx, b.ID, n.Rootfs)
	})
	if code(err) == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return Sandbox{}, fmt.Errorf("sandbox %w: %s", ErrExists, n.Name)
	}
	return b, err
}

func (s *Store) insertRootfs(ctx context.Context, tx *sql.Tx, id int32, r *Rootfs) error {
	if r == nil {
		return nil
	}
	var manifest sql.NullInt64
	if r.ManifestDigest != "" {
		if err := tx.QueryRowContext(ctx, `SELECT id FROM manifest WHERE digest = ?`, r.ManifestDigest).Scan(&manifest); err != nil {
			return fmt.Errorf("manifest %s: %w", r.ManifestDigest, classify(err))
		}
	}
	if r.Reference != "" {
		if err := s.pointReference(ctx, tx, r.Reference, manifest.Int64); err != nil {
			return err
		}
	}
	kind := r.RootDiskKind
	if kind == "" {
		kind = "managed"
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO sandbox_rootfs
		(sandbox_id, manifest_id, mode, upper_fstype, created_at, root_disk_kind, root_disk_path) VALUES(?, ?, ?, ?, ?, ?, ?)`,
		id, manifest, r.Mode, orNull(r.UpperFSType), s.stamp(), kind, orNull(r.RootDiskPath))
	return err
}

// freeSlot finds the lowest network slot that no sandbox has.
func freeSlot(ctx context.Context, tx *sql.Tx) (int, error) {
	rows, err := tx.QueryContext(ctx, `SELECT network_slot FROM sandbox WHERE network_slot IS NOT NULL ORDER BY network_slot`)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	free := 1
	for rows.Next() {
		var taken int
		if err := rows.Scan(&taken); err != nil {
			return 0, err
		}
		if taken != free {
			break
		}
		free++
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if free > 65535 {
		return 0, ErrNoSlot
	}
	return free, rows.Close()
}

// Sandbox returns the sandbox of that name, or [ErrNotFound].
func (s *Store) Sandbox(ctx context.Context, name string) (b Sandbox, err error) {
	err = retry(ctx, func() error {
		b, err = scanSandbox(s.db.QueryRowContext(ctx, `SELECT `+sandboxColumns+` FROM sandbox s WHERE s.name = ?`, name))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("sandbox %w: %s", ErrNotFound, name)
	}
	return b, err
}

// SandboxByID returns the sandbox of that id, or [ErrNotFound].
func (s *Store) SandboxByID(ctx context.Context, id int32) (b Sandbox, err error) {
	err = retry(ctx, func() error {
		b, err = scanSandbox(s.db.QueryRowContext(ctx, `SELECT `+sandboxColumns+` FROM sandbox s WHERE s.id = ?`, id))
		return err
	})
	return b, err
}

// Filter selects sandboxes. The zero value selects all.
type Filter struct {
	Labels   map[string]string // all must match
	Statuses []Status          // one of them; none: any
	BeforeID int32             // only older ones than this id; 0: from the newest
	Limit    int               // at most this many; 0: no limit
}

// Sandboxes lists sandboxes, newest first.
func (s *Store) Sandboxes(ctx context.Context, f Filter) ([]Sandbox, error) {
	var where []string
	var args []any
	for k, v := range f.Labels {
		where = append(where, `EXISTS (SELECT 1 FROM sandbox_labels l WHERE l.sandbox_id = s.id AND l.key = ? AND l.value = ?)`)
		args = append(args, k, v)
	}
	if len(f.Statuses) > 0 {
		where = append(where, `s.status IN (?`+strings.Repeat(`, ?`, len(f.Statuses)-1)+`)`)
		for _, st := range f.Statuses {
			args = append(args, st)
		}
	}
	if f.BeforeID > 0 {
		where = append(where, `s.id < ?`)
		args = append(args, f.BeforeID)
	}
	query := `SELECT ` + sandboxColumns + ` FROM sandbox s`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, ` AND `)
	}
	query += ` ORDER BY s.id DESC`
	if f.Limit > 0 {
		query += ` LIMIT ?`
		args = append(args, f.Limit)
	}
	return queryAll(ctx, s, scanSandbox, query, args...)
}

// queryAll collects all rows of a query.
func queryAll[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), query string, args ...any) (all []T, err error) {
	err = retry(ctx, func() error {
		all = nil
		rows, err := s.db.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		return rows.Err()
	})
	return all, err
}

// Labels returns the labels of a sandbox.
func (s *Store) Labels(ctx context.Context, id int32) (map[string]string, error) {
	type label struct{ key, value string }
	all, err := queryAll(ctx, s, func(r scanner) (l label, err error) { return l, r.Scan(&l.key, &l.value) },
		`SELECT key, value FROM sandbox_labels WHERE sandbox_id = ?`, id)
	labels := make(map[string]string, len(all))
	for _, l := range all {
		labels[l.key] = l.value
	}
	return labels, err
}

// SetStatus moves a sandbox to a status if it is in one of from (none: in any). One that
// does not run has no network slot. It reports whether it did.
func (s *Store) SetStatus(ctx context.Context, id int32, to Status, from ...Status) (bool, error) {
	slot := ``
	if to == Stopped || to == Crashed {
		slot = `, network_slot = NULL`
	}
	query, args := `UPDATE sandbox SET status = ?, updated_at = ?`+slot+` WHERE id = ?`, []any{to, s.stamp(), id}
	if len(from) > 0 {
		query += ` AND status IN (?` + strings.Repeat(`, ?`, len(from)-1) + `)`
		for _, f := range from {
			args = append(args, f)
		}
	}
	return s.exec(ctx, query, args...)
}

// SetEphemeral says whether a sandbox is removed when it ends. It reports whether it is there.
func (s *Store) SetEphemeral(ctx context.Context, id int32, on bool) (bool, error) {
	return s.exec(ctx, `UPDATE sandbox SET ephemeral = ?, updated_at = ? WHERE id = ?`, on, s.stamp(), id)
}

// StartSandbox claims a sandbox that is Stopped, Crashed or Created for a new run: status
// Running with the given active configuration, and the lowest free network slot unless it
// has one. It returns the row, and reports whether it did.
func (s *Store) StartSandbox(ctx context.Context, id int32, activeConfig string) (b Sandbox, ok bool, err error) {
	err = s.update(ctx, func(tx *sql.Tx) error {
		slot, err := freeSlot(ctx, tx)
		if err != nil {
			return err
		}
		b, err = scanSandbox(tx.QueryRowContext(ctx, `UPDATE sandbox
			SET status = 'Running', active_config = ?, network_slot = coalesce(network_slot, ?), updated_at = ?
			WHERE id = ? AND status IN ('Stopped', 'Crashed', 'Created') RETURNING `+sandboxColumns,
			orNull(activeConfig), slot, s.stamp(), id))
		ok = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return b, ok, err
}

// SetActivePorts replaces the published ports in what the running machine uses, by a JSON
// array in the form of the configuration. A row that says nothing about a running machine
// stays as it is.
func (s *Store) SetActivePorts(ctx context.Context, id int32, ports string) error {
	_, err := s.exec(ctx, `UPDATE sandbox SET active_config = json_set(active_config, '$.network.ports', json(?))
		WHERE id = ? AND json_type(active_config, '$.network') = 'object'`, ports, id)
	return err
}

// SetConfig replaces the desired configuration of a sandbox and, unless nil, its labels.
func (s *Store) SetConfig(ctx context.Context, id int32, config string, labels map[string]string) error {
	return s.EditSandbox(ctx, id, func(b Sandbox) (Edited, error) {
		return Edited{Config: config, ActiveConfig: b.ActiveConfig, Labels: labels}, nil
	})
}

// Edited is what EditSandbox stores.
type Edited struct {
	Config       string
	ActiveConfig string            // empty: NULL
	Labels       map[string]string // all of them; nil leaves them as they are
}

// EditSandbox replaces the configurations and labels of a sandbox by what f makes of the
// row, in one transaction; f may be called again. An error of f changes nothing, and
// [ErrNotFound] says that there is no such sandbox.
func (s *Store) EditSandbox(ctx context.Context, id int32, f func(Sandbox) (Edited, error)) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		b, err := scanSandbox(tx.QueryRowContext(ctx, `SELECT `+sandboxColumns+` FROM sandbox WHERE id = ?`, id))
		if err != nil {
			return err
		}
		e, err := f(b)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sandbox SET config = ?, active_config = ?, updated_at = ? WHERE id = ?`,
			e.Config, orNull(e.ActiveConfig), s.stamp(), id); err != nil || e.Labels == nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM sandbox_labels WHERE sandbox_id = ?`, id); err != nil {
			return err
		}
		for k, v := range e.Labels {
			if _, err := tx.ExecContext(ctx, `INSERT INTO sandbox_labels(sandbox_id, key, value) VALUES(?, ?, ?)`, id, k, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteSandbox removes a sandbox with its runs, labels and root. It reports whether it
// was there.
func (s *Store) DeleteSandbox(ctx context.Context, id int32) (bool, error) {
	return s.exec(ctx, `DELETE FROM sandbox WHERE id = ?`, id)
}

// exec runs one statement and reports whether it changed a row.
func (s *Store) exec(ctx context.Context, query string, args ...any) (changed bool, err error) {
	err = retry(ctx, func() error {
		r, err := s.db.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		changed = n > 0
		return err
	})
	return changed, err
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
