package microsandbox

import (
	"context"
	"errors"
	"os"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// catalog is the database of a data root, open for one call of this package.
type catalog struct {
	home  home
	store *store.Store
}

// openCatalog opens the database; one that does not exist is store.ErrNoDatabase unless
// create. The caller closes it.
func openCatalog(ctx context.Context, h home, create bool) (*catalog, error) {
	if err := h.checkBackend(); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, h.database(), store.Options{Create: create, BusyTimeout: h.settings.busyTimeout()})
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	return &catalog{home: h, store: s}, nil
}

// openOwnCatalog is openCatalog for the data root that the environment names.
func openOwnCatalog(ctx context.Context, create bool) (*catalog, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	return openCatalog(ctx, h, create)
}

func (c *catalog) close() { _ = c.store.Close() } // what was committed is safe

func notFound(name string) error { return fail(ErrSandboxNotFound, "sandbox not found: %s", name) }

// find looks a sandbox up in a database that need not exist. The caller closes the
// catalog unless there is an error.
func find(ctx context.Context, h home, name string) (*catalog, store.Sandbox, error) {
	c, err := openCatalog(ctx, h, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return nil, store.Sandbox{}, notFound(name)
	}
	if err != nil {
		return nil, store.Sandbox{}, err
	}
	row, err := c.byName(ctx, name)
	if err != nil {
		c.close()
		return nil, store.Sandbox{}, err
	}
	return c, row, nil
}

// byName returns a sandbox as it really is, or ErrSandboxNotFound.
func (c *catalog) byName(ctx context.Context, name string) (store.Sandbox, error) {
	row, err := c.store.Sandbox(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return row, notFound(name)
	}
	if err != nil {
		return row, wrap(ErrInternal, err)
	}
	return c.reconcile(ctx, row)
}

// again is byName for a sandbox that was looked up before: not another one that has its
// name meanwhile.
func (c *catalog) again(ctx context.Context, row store.Sandbox) (store.Sandbox, error) {
	fresh, err := c.store.SandboxByID(ctx, row.ID)
	if errors.Is(err, store.ErrNotFound) {
		return row, notFound(row.Name)
	}
	if err != nil {
		return row, wrap(ErrInternal, err)
	}
	return c.reconcile(ctx, fresh)
}

// live reports a status in which a runtime should exist.
func live(s store.Status) bool {
	return s == store.Running || s == store.Draining || s == store.Paused || s == store.Starting
}

// reconcile corrects what a runtime or controller that died without a word left in the
// database. An ephemeral sandbox that has ended is removed, and so is a copy that never came
// up: ErrSandboxNotFound.
func (c *catalog) reconcile(ctx context.Context, row store.Sandbox) (store.Sandbox, error) {
	if live(row.Status) {
		fresh, err := c.checkRun(ctx, row)
		if errors.Is(err, store.ErrNotFound) {
			return row, notFound(row.Name)
		}
		if err != nil {
			return row, wrap(ErrInternal, err)
		}
		row = fresh
	}
	switch {
	case !live(row.Status) && (row.Ephemeral || c.unborn(row)):
		return c.reap(ctx, row)
	case row.Status == store.Running && c.paused(ctx, row):
		row.Status = store.Paused
	}
	return row, nil
}

// paused reports that the runtime of a sandbox has paused it, which its row does not say.
func (c *catalog) paused(ctx context.Context, row store.Sandbox) bool {
	agent, err := launch.AgentSocket(c.home.run(), row.Name)
	if err != nil {
		return false
	}
	pid := launch.PausedBy(agent)
	if pid == 0 {
		return false
	}
	run, err := c.store.ActiveRun(ctx, row.ID)
	return err == nil && run.PID == pid
}

// checkRun compares a row that says a runtime exists with the process there is.
func (c *catalog) checkRun(ctx context.Context, row store.Sandbox) (store.Sandbox, error) {
	run, err := c.store.ActiveRun(ctx, row.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return c.abandoned(ctx, row)
	case err != nil || isRuntime(run.PID, row.ID):
		return row, err
	}
	return c.store.Reconcile(ctx, row.ID, func(pid int) bool { return isRuntime(pid, row.ID) })
}

// abandoned deals with a sandbox without a run: its controller is about to start the
// runtime, which it does under the lifecycle lock, or died before it could.
func (c *catalog) abandoned(ctx context.Context, row store.Sandbox) (store.Sandbox, error) {
	if row.Status != store.Running && row.Status != store.Draining {
		return row, nil
	}
	lock, err := launch.AcquireLock(c.home.run(), row.Name)
	if errors.Is(err, launch.ErrLocked) {
		return row, nil
	}
	if err != nil {
		return row, err
	}
	defer func() { _ = lock.Release() }()
	// The run may have been there, and gone, before the lock was ours.
	if _, err := c.store.ActiveRun(ctx, row.ID); !errors.Is(err, store.ErrNotFound) {
		return row, err
	}
	if _, err := c.store.SetStatus(ctx, row.ID, store.Stopped, store.Running, store.Draining); err != nil {
		return row, err
	}
	return c.store.SandboxByID(ctx, row.ID)
}

// reap removes an ephemeral sandbox whose runtime could not do so itself, or one that was
// not born.
func (c *catalog) reap(ctx context.Context, row store.Sandbox) (store.Sandbox, error) {
	lock, err := launch.AcquireLock(c.home.run(), row.Name)
	if err != nil {
		return row, nil // its runtime or its controller is at it
	}
	defer func() { _ = lock.Release() }()
	fresh, err := c.store.SandboxByID(ctx, row.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return row, wrap(ErrInternal, err)
	case live(fresh.Status):
		return fresh, nil // started again meanwhile
	default:
		if err := c.erase(ctx, row); err != nil {
			return row, err
		}
	}
	return row, notFound(row.Name)
}

// erase deletes the files, then the row, so that a failure can be repeated. The caller
// holds the lifecycle lock.
func (c *catalog) erase(ctx context.Context, row store.Sandbox) error {
	if err := checkName(row.Name); err != nil { // it becomes a path
		return err
	}
	if err := os.RemoveAll(c.home.sandbox(row.Name)); err != nil {
		return wrap(ErrIO, err)
	}
	if err := c.home.removeSockets(row.Name); err != nil {
		return wrap(ErrIO, err)
	}
	_, err := c.store.DeleteSandbox(ctx, row.ID)
	return wrap(ErrInternal, err)
}

// process returns the runtime of a sandbox, nil if there is none (yet).
func (c *catalog) process(ctx context.Context, row store.Sandbox) (*process, error) {
	run, err := c.store.ActiveRun(ctx, row.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	return openProcess(run.PID, row.ID), nil
}
