package microsandbox

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot/format"
)

// canBeSaved reports why the machine of a sandbox cannot be saved.
func (c *catalog) canBeSaved(ctx context.Context, row store.Sandbox) error {
	if row.Status != store.Running && row.Status != store.Paused {
		return fail(ErrSandboxNotRunning, "sandbox %s is not running: it is %s: only what runs, or is paused, has a memory to save", row.Name, (&SandboxHandle{row: row}).Status())
	}
	r, err := c.home.control(row.Name).ask(ctx, controlRequest{Op: "capabilities"})
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fail(ErrUnsupportedOperation, "the memory of sandbox %s cannot be saved: its runtime is another one than gomsb, or is about to end", row.Name)
	case err != nil:
		return err
	case r.Capabilities == nil || !r.Capabilities.Checkpoint:
		return fail(ErrUnsupportedOperation, "the memory of sandbox %s cannot be saved: it was started by an older gomsb, or on a system where that is not available; restart it with this one", row.Name)
	}
	return nil
}

// save has the runtime of a sandbox save its machine at dir, which must not be there. That
// takes as long as it takes. When ctx ends, the runtime writes nothing there any more.
func (c *catalog) save(ctx context.Context, row store.Sandbox, dir string, lifetime format.Lifetime) error {
	_, err := c.home.control(row.Name).askLong(ctx, controlRequest{Op: "checkpoint", Dir: dir, Passing: lifetime == format.Passing})
	if err == nil || ctx.Err() != nil {
		return err
	}
	if _, gone := c.again(ctx, row); gone != nil {
		return gone
	}
	return &Error{Kind: ErrIO, Message: "save the memory of sandbox " + row.Name, Cause: err}
}
