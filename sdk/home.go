package microsandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/metrics"
	"github.com/gomsb/gomsb/rootfs/volume"
)

// home is the data root and the places below it, or where config.json has them.
type home struct {
	root       string
	configFile string
	settings   settings
}

// openHome is $MSB_HOME, else ~/.microsandbox, else ./.microsandbox, unless config.json
// there, or the file that $MSB_CONFIG_PATH names, has another.
func openHome() (home, error) {
	h := home{root: os.Getenv("MSB_HOME"), configFile: os.Getenv("MSB_CONFIG_PATH")}
	if h.root == "" {
		user, _ := os.UserHomeDir() // "" leaves the working directory
		h.root = filepath.Join(user, ".microsandbox")
	}
	if abs, err := filepath.Abs(h.root); err == nil {
		h.root = abs
	}
	h.configFile = orDefault(h.configFile, h.path("config.json"))
	var err error
	h.settings, err = readSettings(h.configFile)
	h.root = orDefault(h.settings.Home, h.root)
	return h, err
}

// DataRoot is the directory that everything is below unless config.json says otherwise:
// $MSB_HOME or ~/.microsandbox.
func DataRoot() (string, error) {
	h, err := openHome()
	return h.root, err
}

func (h home) path(parts ...string) string {
	return filepath.Join(append([]string{h.root}, parts...)...)
}

func (h home) database() string           { return h.path("db", "msb.db") }
func (h home) metrics() string            { return metrics.Name(h.root) }
func (h home) run() string                { return h.path("run") }
func (h home) cache() string              { return orDefault(h.settings.Paths.Cache, h.path("cache")) }
func (h home) sandboxes() string          { return orDefault(h.settings.Paths.Sandboxes, h.path("sandboxes")) }
func (h home) sandbox(name string) string { return filepath.Join(h.sandboxes(), name) }
func (h home) logs(name string) string    { return filepath.Join(h.sandbox(name), "logs") }
func (h home) runtime(name string) string { return filepath.Join(h.sandbox(name), "runtime") }
func (h home) snapshots() string          { return orDefault(h.settings.Paths.Snapshots, h.path("snapshots")) }
func (h home) volumes() volume.Folder {
	return volume.Folder(orDefault(h.settings.Paths.Volumes, h.path("volumes")))
}

// secrets is the folder of registry credentials in files.
func (h home) secrets() string {
	return filepath.Join(orDefault(h.settings.Paths.Secrets, h.path("secrets")), "registries")
}

// libkrunfw is the kernel bundle for a runtime of microsandbox 0.6.18: the one that
// MSB_LIBKRUNFW_PATH or config.json names, else the first that is next to the runtime, in
// lib beside its folder, or in the data root. Ours runs its own kernel all the same.
func (h home) libkrunfw() string {
	const name = "libkrunfw.so.5.6.1"
	inRoot := h.path("lib", name)
	if path := orDefault(os.Getenv("MSB_LIBKRUNFW_PATH"), h.settings.Paths.Libkrunfw); path != "" {
		return path
	}
	binary, err := h.binary()
	if err != nil {
		return inRoot // who starts the runtime says so
	}
	dir := filepath.Dir(binary.Path)
	for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, "..", "lib", name)} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return inRoot
}

// binary is the program to start runtimes from.
func (h home) binary() (launch.Binary, error) {
	return launch.Resolve(h.settings.Paths.MSB, h.root, os.Getenv)
}

// lockPatience is how long a runtime that has said all may take to end: its rows say
// that it stopped a moment before its process is gone.
const lockPatience = 2 * time.Second

// lock takes the lifecycle lock of a sandbox. It waits for a runtime that is ending,
// unless giveUp returns an error.
func (h home) lock(ctx context.Context, name string, giveUp func() error) (*launch.Lock, error) {
	deadline := time.Now().Add(lockPatience)
	for wait := time.Millisecond; ; wait = min(2*wait, 10*time.Millisecond) {
		l, err := launch.AcquireLock(h.run(), name)
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, launch.ErrLocked):
			return nil, wrap(ErrIO, err)
		case time.Now().After(deadline):
			return nil, fail(ErrSandboxStillRunning, "sandbox still running: %s is being started or stopped", name)
		}
		if giveUp != nil {
			if err := giveUp(); err != nil {
				return nil, err
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, cancelled(ctx)
		}
	}
}

// control is where the named sandbox takes changes while it runs.
func (h home) control(name string) controlSocket {
	agent, err := launch.AgentSocket(h.run(), name)
	if err != nil {
		return "" // too long for a socket: nothing listens there
	}
	return controlSocket(launch.ControlSocket(agent))
}

// removeSockets deletes what a runtime that was killed left in the run directory. The
// caller holds the lifecycle lock.
func (h home) removeSockets(name string) error {
	link := launch.AgentLink(h.run(), name)
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(filepath.Join(h.run(), "sandboxes", launch.Hash24(name)))
}
