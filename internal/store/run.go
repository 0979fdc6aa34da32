package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	sqlite3 "modernc.org/sqlite/lib"
)

// Reason is why a run ended, as stored.
type Reason string

// The reasons. Official programs fail on any other word.
const (
	Completed           Reason = "Completed"
	Failed              Reason = "Failed"
	MaxDurationExceeded Reason = "MaxDurationExceeded"
	IdleTimeout         Reason = "IdleTimeout"
	AgentUnresponsive   Reason = "AgentUnresponsive"
	ShutdownRequested   Reason = "ShutdownRequested"
	DrainRequested      Reason = "DrainRequested"
	Signal              Reason = "Signal"
	InternalError       Reason = "InternalError"
)

// Run is one life of a sandbox's runtime process.
type Run struct {
	ID           int32
	SandboxID    int32
	PID          int    // 0 if unknown
	Active       bool   // the row says it runs; the process may be gone
	Reason       Reason // empty while active
	ExitCode     *int
	StartedAt    time.Time
	TerminatedAt time.Time
}

const runColumns = `id, sandbox_id, pid, status, termination_reason, exit_code, started_at, terminated_at`

func scanRun(row scanner) (Run, error) {
	var r Run
	var status string
	var pid, exit sql.NullInt64
	var reason, started, terminated sql.NullString
	if err := row.Scan(&r.ID, &r.SandboxID, &pid, &status, &reason, &exit, &started, &terminated); err != nil {
		return Run{}, err
	}
	r.PID, r.Active, r.Reason = int(pid.Int64), status == "Running", Reason(reason.String)
	if exit.Valid {
		n := int(exit.Int64)
		r.ExitCode = &n
	}
	var errs [2]error
	r.StartedAt, errs[0] = parseTime(started)
	r.TerminatedAt, errs[1] = parseTime(terminated)
	return r, errors.Join(errs[:]...)
}

// BeginRun records that process pid runs a sandbox. It fails with [ErrNotFound] if the
// sandbox was removed meanwhile.
func (s *Store) BeginRun(ctx context.Context, sandboxID int32, pid int) (id int32, err error) {
	err = retry(ctx, func() error {
		return s.db.QueryRowContext(ctx, `INSERT INTO run(sandbox_id, pid, status, started_at) VALUES(?, ?, 'Running', ?) RETURNING id`,
			sandboxID, pid, s.stamp()).Scan(&id)
	})
	if code(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY {
		return 0, fmt.Errorf("sandbox %w: id %d", ErrNotFound, sandboxID)
	}
	return id, err
}

// Ending is how a run ended.
type Ending struct {
	RunID     int32
	SandboxID int32
	Reason    Reason
	ExitCode  *int   // nil: NULL
	Status    Status // what becomes of the sandbox: Stopped or Crashed
}

// FinishRun records the end of a run and of what its sandbox was doing, together. Rows
// that were removed meanwhile are no error.
func (s *Store) FinishRun(ctx context.Context, e Ending) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		now := s.stamp()
		var exit any
		if e.ExitCode != nil {
			exit = *e.ExitCode
		}
		if _, err := tx.ExecContext(ctx, `UPDATE run SET status = 'Terminated', termination_reason = ?, exit_code = ?, terminated_at = ?
			WHERE id = ?`, e.Reason, exit, now, e.RunID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE sandbox SET status = ?, active_config = NULL, network_slot = NULL, updated_at = ? WHERE id = ?`, e.Status, now, e.SandboxID)
		return err
	})
}

// ActiveRun returns the newest run of a sandbox whose row says it runs, or [ErrNotFound].
func (s *Store) ActiveRun(ctx context.Context, sandboxID int32) (Run, error) {
	return s.oneRun(ctx, `SELECT `+runColumns+` FROM run WHERE sandbox_id = ? AND status = 'Running' ORDER BY started_at DESC, id DESC LIMIT 1`, sandboxID)
}

// LastRun returns the newest run of a sandbox, or [ErrNotFound].
func (s *Store) LastRun(ctx context.Context, sandboxID int32) (Run, error) {
	return s.oneRun(ctx, `SELECT `+runColumns+` FROM run WHERE sandbox_id = ? ORDER BY id DESC LIMIT 1`, sandboxID)
}

func (s *Store) oneRun(ctx context.Context, query string, args ...any) (r Run, err error) {
	err = retry(ctx, func() error {
		r, err = scanRun(s.db.QueryRowContext(ctx, query, args...))
		return err
	})
	return r, err
}

// Reconcile corrects the rows of a sandbox whose runtime died without a word, and returns
// the sandbox as it is then. Without a run row a sandbox counts as still starting. alive
// tells whether a process exists; nil is [ProcessAlive].
func (s *Store) Reconcile(ctx context.Context, id int32, alive func(pid int) bool) (Sandbox, error) {
	if alive == nil {
		alive = ProcessAlive
	}
	b, err := s.SandboxByID(ctx, id)
	if err != nil || b.Status != Running && b.Status != Draining {
		return b, err
	}
	run, err := s.ActiveRun(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return b, nil
	case err != nil:
		return b, err
	case alive(run.PID):
		return b, nil
	}
	err = s.update(ctx, func(tx *sql.Tx) error { return s.bury(ctx, tx, b, run) })
	if err != nil {
		return b, err
	}
	return s.SandboxByID(ctx, id)
}

// bury ends a dead run, unless another process was faster. One that was asked to stop
// has stopped; one that was not has crashed.
func (s *Store) bury(ctx context.Context, tx *sql.Tx, b Sandbox, run Run) error {
	reason, status := InternalError, Crashed
	if b.Status == Draining {
		reason, status = ShutdownRequested, Stopped
	}
	now := s.stamp()
	r, err := tx.ExecContext(ctx, `UPDATE run SET status = 'Terminated', termination_reason = ?, terminated_at = ?
		WHERE id = ? AND status = 'Running'`, reason, now, run.ID)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE sandbox SET status = ?, active_config = NULL, network_slot = NULL, updated_at = ? WHERE id = ? AND status = ?`, status, now, b.ID, b.Status)
	return err
}

// ProcessAlive reports that a process exists, be it a zombie or another user's.
func ProcessAlive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
