package microsandbox

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/gomsb/gomsb/internal/store"
)

// Pause makes the running sandbox stand still: no program of it runs until Resume, and
// its memory stays. Time does not stop: when it goes on, the clock is right and timers
// that ran out fire. Its idle timeout waits, its longest duration does not. What asks it
// for something new fails with ErrSandboxPaused; Stop and Kill end it as ever. A sandbox
// that is paused already is no error.
func (h *SandboxHandle) Pause(ctx context.Context) error { return h.standStill(ctx, "pause") }

// Resume lets a paused sandbox go on. One that runs is no error.
func (h *SandboxHandle) Resume(ctx context.Context) error { return h.standStill(ctx, "resume") }

// standStill asks the runtime for one or the other.
func (h *SandboxHandle) standStill(ctx context.Context, op string) error {
	err := h.onCatalog(ctx, func(_ *catalog, row store.Sandbox) error {
		if row.Status == store.Running || row.Status == store.Paused {
			return nil
		}
		return fail(ErrSandboxNotRunning, "sandbox %s is not running: it is %s", row.Name, (&SandboxHandle{row: row}).Status())
	})
	if err != nil {
		return err
	}
	_, err = h.home.control(h.row.Name).ask(ctx, controlRequest{Op: op})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fail(ErrUnsupportedOperation, "cannot %s sandbox %s: its runtime takes no such request; it is another one than gomsb, or is about to end", op, h.row.Name)
	}
	return err
}

// Pause makes the sandbox stand still; see [SandboxHandle.Pause].
func (s *Sandbox) Pause(ctx context.Context) error {
	h, err := s.handle(ctx)
	if err != nil {
		return err
	}
	return h.Pause(ctx)
}

// Resume lets the paused sandbox go on; see [SandboxHandle.Resume].
func (s *Sandbox) Resume(ctx context.Context) error {
	h, err := s.handle(ctx)
	if err != nil {
		return err
	}
	return h.Resume(ctx)
}
