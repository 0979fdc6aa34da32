package microsandbox

import (
	"context"
	"os/exec"
)

// SetupOption changes EnsureInstalled.
type SetupOption func(*setupConfig)

type setupConfig struct{}

// WithSkipDownload keeps EnsureInstalled from downloading, which this release never does:
// the program is its own runtime.
func WithSkipDownload() SetupOption { return func(*setupConfig) {} }

// EnsureInstalled checks that there is a program to start runtimes from, which is
// ErrLibraryNotLoaded if not. There is nothing to install, so programs need not call it.
func EnsureInstalled(ctx context.Context, _ ...SetupOption) error {
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	h, err := openHome()
	if err != nil {
		return err
	}
	b, err := h.binary()
	if err == nil && !b.Self {
		_, err = exec.LookPath(b.Path)
	}
	if err != nil {
		return &Error{Kind: ErrLibraryNotLoaded, Message: "no runtime: check MSB_PATH and paths.msb of " + h.configFile, Cause: err}
	}
	return nil
}

// IsInstalled reports that EnsureInstalled would succeed.
func IsInstalled() bool { return EnsureInstalled(context.Background()) == nil }
