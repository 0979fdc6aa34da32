package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/journal"
	"github.com/gomsb/gomsb/internal/store"
)

// finishTime bounds how long the end may wait for other users of the database.
const finishTime = 10 * time.Second

// finish leaves everything as a sandbox that does not run leaves it, and returns the exit
// code. The machine is gone and its disks are flushed.
func (s *sandbox) finish(end ending) int {
	if s.sock != nil {
		if err := s.sock.remove(); err != nil {
			// Rows that say it runs make somebody look; a socket nobody knows of does not.
			s.log.Error("cannot remove the agent socket; the run stays recorded as active", "err", err)
			s.close()
			return end.code
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), finishTime)
	defer cancel()
	if s.runID != 0 {
		if err := s.endRun(ctx, end); err != nil {
			s.log.Error("cannot record the end of the run", "err", err)
		}
	}
	if s.started {
		s.logged(s.execLog.System(journal.Ended))
	}
	s.log.Info("done", "reason", string(end.reason), "code", end.code)
	s.close()
	return end.code
}

// endRun writes the rows, and removes what an ephemeral sandbox leaves.
func (s *sandbox) endRun(ctx context.Context, end ending) (err error) {
	db, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	exit := end.code
	if end.command != nil {
		exit = *end.command
	}
	err = db.FinishRun(ctx, store.Ending{
		RunID: s.runID, SandboxID: s.inv.SandboxID, Reason: end.reason, ExitCode: &exit, Status: end.status,
	})
	if err != nil || end.boot != nil {
		return err // after a boot that failed its controller still reads the logs
	}
	row, err := db.SandboxByID(ctx, s.inv.SandboxID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil || !row.Ephemeral:
		return err
	}
	if err := launch.ValidateName(s.inv.Name); err != nil { // it becomes a path
		return err
	}
	if err := os.RemoveAll(filepath.Join(s.cfg.SandboxesDir, s.inv.Name)); err != nil {
		return err
	}
	_, err = db.DeleteSandbox(ctx, s.inv.SandboxID)
	return err
}

// close gives up the metrics slot and closes the logs.
func (s *sandbox) close() {
	if s.slot != nil {
		if err := s.slot.release(s.started); err != nil {
			s.log.Warn("cannot close the metrics registry", "err", err)
		}
	}
	var errs []error
	if s.execLog != nil {
		errs = append(errs, s.execLog.Close())
	}
	if s.kernelLog != nil {
		errs = append(errs, s.kernelLog.Close())
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("cannot close the logs", "err", err)
	}
}
