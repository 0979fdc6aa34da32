package microsandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/internal/store"
)

// belongings are what programs of microsandbox make in the data root.
var belongings = []string{"bin", "cache", "config.json", "db", "lib", "logs", "run", "sandboxes", "secrets", "snapshots", "ssh", "tls", "tmp", "volumes"}

// UninstallReport is what RemoveDataRoot did.
type UninstallReport struct {
	Root    string
	Nothing bool     // there was nothing to remove
	Kept    []string // names in the root that are not known, and stay; without any, the root is gone as well
}

// RemoveDataRoot removes all sandboxes, images, volumes and snapshots of the data root, its
// settings, and the root itself unless there is something else in it. Folders elsewhere that
// config.json names are left alone. It fails with ErrSandboxStillRunning while a sandbox
// runs, and with ErrInvalidConfig if the root is the user's home directory or above it.
func RemoveDataRoot(ctx context.Context) (*UninstallReport, error) {
	h, _ := openHome() // settings that cannot be read are no reason to keep them
	report := &UninstallReport{Root: h.root}
	if err := checkRemovable(h.root); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(h.root)
	if errors.Is(err, fs.ErrNotExist) {
		report.Nothing = true
		return report, nil
	}
	if err == nil {
		err = h.idle(ctx)
	}
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	for _, e := range entries {
		if !slices.Contains(belongings, e.Name()) {
			report.Kept = append(report.Kept, e.Name())
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(h.root, e.Name())))
	}
	if report.Nothing = len(entries) > 0 && len(report.Kept) == len(entries); len(report.Kept) == 0 {
		err = errors.Join(err, os.Remove(h.root))
	}
	return report, wrap(ErrInternal, err)
}

// checkRemovable refuses folders in which names like bin and tmp may be somebody else's.
func checkRemovable(root string) error {
	user, _ := os.UserHomeDir() // "" is below nothing
	if rest, err := filepath.Rel(root, user); err == nil && !strings.HasPrefix(rest, "..") {
		return fail(ErrInvalidConfig, "the data root is %s, where other things may be as well: remove by hand what is not needed of %s", root, strings.Join(belongings, " "))
	}
	return nil
}

// idle fails if a sandbox runs.
func (h home) idle(ctx context.Context) error {
	s, err := store.Open(ctx, h.database(), store.Options{BusyTimeout: h.settings.busyTimeout()})
	if errors.Is(err, store.ErrNoDatabase) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &catalog{home: h, store: s}
	defer c.close()
	page, err := c.page(ctx, store.Filter{Limit: largestPage})
	if err != nil {
		return err
	}
	for _, sb := range page.Sandboxes {
		if sb.Live() {
			return fail(ErrSandboxStillRunning, "sandbox '%s' is running: stop it first", sb.Name())
		}
	}
	return nil
}
