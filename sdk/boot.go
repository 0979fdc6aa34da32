package microsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/snapshot"
)

// readyTimeout is how long a sandbox may take from its start until its agent answers.
const readyTimeout = 180 * time.Second

// StartError reports a sandbox whose guest did not become ready.
type StartError struct {
	Name    string
	Failure *BootFailure // what the runtime left behind, nil if nothing
	Cause   error
	Removed bool // the sandbox was ephemeral, or a copy: its logs are gone with it
	// Restored says that it was to go on from a memory; of a snapshot, it may still start
	// from the disk alone.
	Restored, FromSnapshot bool
}

// Error names the sandbox and the reason.
func (e *StartError) Error() string {
	if e.Failure != nil {
		return fmt.Sprintf("failed to start %q: %s: %s", e.Name, e.Failure.Stage, e.Failure.Message)
	}
	return fmt.Sprintf("failed to start %q: %v", e.Name, e.Cause)
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Cause }

// startupCommand is what a detached sandbox runs on its own; an empty cmd stands for its
// ENTRYPOINT and CMD.
type startupCommand struct {
	cmd  string
	args []string
}

// startup is the command that the runtime itself runs.
func (s *spec) startup(c *startupCommand) (*launch.Startup, error) {
	argv := append([]string{c.cmd}, c.args...)
	if c.cmd == "" {
		if argv = s.defaultCommand(); len(argv) == 0 {
			return nil, fail(ErrNoDefaultCommand, "image %s has neither an ENTRYPOINT nor a CMD: name the command to run", s.Image.describe())
		}
	}
	st := &launch.Startup{Cmd: argv[0], Args: argv[1:], Cwd: s.Runtime.Workdir, User: s.Runtime.User}
	for _, e := range s.Env {
		st.Env = append(st.Env, e.Key+"="+e.Value)
	}
	return st, nil
}

// boot is one start of a sandbox.
type boot struct {
	*catalog
	spec     *spec
	config   *SandboxConfig     // of a new sandbox
	snapshot *snapshot.Artefact // that a new sandbox starts from; nil for none
	child    *child             // of a new sandbox that goes on where another was saved
	image    *oci.Image         // of a new sandbox; nil for a disk image
	vmdk     string             // the root disk of an OCI image
	startup  *launch.Startup
	detached bool

	row     store.Sandbox
	created bool           // by this call: a start that was cancelled removes it again
	made    []store.Volume // likewise
}

// create adds the sandbox and boots it.
func (b *boot) create(ctx context.Context) (*Sandbox, error) {
	lock, err := b.home.lock(ctx, b.spec.Name, func() error {
		_, err := b.byName(ctx, b.spec.Name)
		if err == nil {
			err = alreadyExists(b.spec.Name) // another process was faster
		}
		return gone(err)
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Release() }()
	if err := b.withVolumes(ctx, func() error { return b.settleIn(ctx) }); err != nil {
		return nil, err
	}
	return b.run(ctx, lock)
}

// settleIn adds the sandbox's row and directory, or neither. Both take milliseconds of
// waiting, so they are made at the same time. The caller holds the lock.
func (b *boot) settleIn(ctx context.Context) error {
	inserted := make(chan error, 1)
	go func() { inserted <- b.insert(ctx) }()
	made, err := b.provision(ctx)
	if err == nil {
		defer made.release()
	}
	if e := <-inserted; e != nil {
		if err == nil {
			e = errors.Join(e, os.RemoveAll(made.path))
		}
		return e
	}
	if err == nil {
		// No row, no sandbox: what is there was left by a removal that did not end.
		home := b.home.sandbox(b.spec.Name)
		if err = wrap(ErrIO, os.RemoveAll(home)); err == nil {
			err = wrap(ErrIO, os.Rename(made.path, home))
		}
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made.path))
		}
	}
	if err == nil && b.child != nil && !b.spec.Lifecycle.Ephemeral {
		// From here on the file in the directory says that it is nothing yet.
		b.row.Ephemeral = false
		_, err = b.store.SetEphemeral(ctx, b.row.ID, false)
		err = wrap(ErrInternal, err)
	}
	if err == nil {
		err = b.patchDirectory(ctx) // which has to wait until the name is ours
	}
	if err != nil {
		return errors.Join(err, b.erase(context.WithoutCancel(ctx), b.row))
	}
	return nil
}

func (b *boot) insert(ctx context.Context) error {
	text, err := b.rowText()
	if err != nil {
		return wrap(ErrInternal, err)
	}
	n := store.NewSandbox{
		// Without its directory, a copy that has ended is nothing; see settleIn.
		Name: b.spec.Name, Config: text, ActiveConfig: text, Status: store.Running, Ephemeral: b.spec.Lifecycle.Ephemeral || b.child != nil,
		Labels: b.spec.Labels, Rootfs: b.rootfs(),
	}
	b.row, err = b.store.InsertSandbox(ctx, n)
	if errors.Is(err, store.ErrNotFound) && b.image != nil {
		// The image is in the cache, but the database does not know it: it was deleted,
		// or restored from a backup.
		if err = b.store.SaveImage(ctx, stored(b.image)); err == nil {
			b.row, err = b.store.InsertSandbox(ctx, n)
		}
	}
	if errors.Is(err, store.ErrExists) {
		return alreadyExists(b.spec.Name)
	}
	b.created = err == nil
	return wrap(ErrInternal, err)
}

// rowText is the configuration of a new sandbox.
func (b *boot) rowText() (string, error) {
	if b.child != nil {
		return b.child.text, nil
	}
	text, err := json.Marshal(b.spec)
	return string(text), err
}

// rootfs is what the root of a new sandbox is made of.
func (b *boot) rootfs() *store.Rootfs {
	disk := b.spec.Image.OCI
	switch {
	case disk == nil && b.spec.Image.Bind != nil:
		return &store.Rootfs{Mode: "bind"}
	case disk == nil:
		return &store.Rootfs{Mode: "disk-image"}
	}
	root := &store.Rootfs{Reference: disk.Reference, ManifestDigest: value(b.spec.ManifestDigest), Mode: "erofs", RootDiskKind: disk.RootDisk.Kind, RootDiskPath: disk.RootDisk.Path}
	if b.image != nil {
		root.Reference = b.image.Name
	}
	if root.RootDiskKind == rootDiskManaged {
		root.UpperFSType, root.RootDiskPath = "ext4", ""
	}
	return root
}

// start boots the sandbox of an existing row.
func (b *boot) start(ctx context.Context, row store.Sandbox) (*Sandbox, error) {
	lock, err := b.home.lock(ctx, row.Name, func() error {
		fresh, err := b.again(ctx, row)
		if err == nil && live(fresh.Status) {
			err = fail(ErrSandboxStillRunning, "sandbox still running: %s", row.Name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Release() }()
	if err := b.withVolumes(ctx, func() error { return b.claim(ctx, row) }); err != nil {
		return nil, err
	}
	return b.run(ctx, lock)
}

// claim makes the row of an existing sandbox say that it runs.
func (b *boot) claim(ctx context.Context, row store.Sandbox) error {
	// The row's own text, not our reading of it: it may say more than we know.
	claimed, ok, err := b.store.StartSandbox(ctx, row.ID, row.Config)
	if err != nil {
		return wrap(ErrInternal, err)
	}
	if !ok {
		if _, err := b.again(ctx, row); err != nil {
			return err
		}
		return fail(ErrSandboxStillRunning, "sandbox still running: %s", row.Name)
	}
	row.NetworkSlot = claimed.NetworkSlot
	b.row = row
	return nil
}

// run starts the runtime for the row, which says Running, and waits for the agent. The
// caller holds the lock.
func (b *boot) run(ctx context.Context, lock *launch.Lock) (*Sandbox, error) {
	sb := &Sandbox{name: b.spec.Name, home: b.home, owned: !b.detached, spec: b.spec}
	err := b.prepare()
	if err == nil {
		err = b.launch(ctx, lock, sb)
	}
	if err != nil {
		return nil, b.failed(ctx, err)
	}
	return sb, nil
}

// prepare makes the sandbox's directories.
func (b *boot) prepare() error {
	name := b.spec.Name
	for _, dir := range []string{b.home.logs(name), b.home.runtime(name)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return wrap(ErrIO, err)
		}
	}
	if err := b.spec.writeScripts(b.home.runtime(name)); err != nil {
		return err
	}
	return wrap(ErrIO, launch.RemoveBootError(b.home.logs(name))) // of an earlier start
}

var errRuntimeEnded = errors.New("the sandbox process ended before its agent answered")

// launch starts the runtime and connects sb to the agent.
func (b *boot) launch(ctx context.Context, lock *launch.Lock, sb *Sandbox) (err error) {
	o, err := b.options(lock)
	if err != nil {
		return err
	}
	place := b.reserveMetrics(ctx, o.Config)
	defer func() { place.settle(err == nil) }()
	proc, err := b.spawn(ctx, o)
	if err != nil {
		return err
	}
	// The death of the runtime ends the wait for its agent.
	wait, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-proc.Exited():
			cancel(errRuntimeEnded)
		case <-wait.Done():
		}
	}()
	c, err := client.Dial(wait, o.Config.AgentSock, client.Options{RetryFor: readyTimeout})
	switch {
	case err == nil:
		if err = b.sameSource(); err == nil {
			sb.client, sb.proc = c, proc
			return nil
		}
		err = errors.Join(err, c.Close())
	case errors.Is(context.Cause(wait), errRuntimeEnded):
		if b.ranThrough(ctx) {
			sb.proc = proc
			return nil
		}
		err = fmt.Errorf("%w: %s", errRuntimeEnded, proc.State())
	}
	return errors.Join(err, abort(proc))
}

// sameSource reports that the snapshot whose memory the guest has is another one by now than
// that whose disks it has.
func (b *boot) sameSource() error {
	if b.child == nil || b.snapshot == nil {
		return nil
	}
	return sameSnapshot(b.snapshot)
}

// spawn starts the runtime with the sandbox's disks, which nobody else gets from then on.
func (b *boot) spawn(ctx context.Context, o launch.Options) (*launch.Process, error) {
	err := b.spec.checkRootDisk(o.Config)
	if err != nil {
		return nil, err
	}
	if o.Inherit, err = lockDisks(o.Config); err != nil {
		return nil, err
	}
	defer launch.UnlockDisks(o.Inherit) // the runtime has its own copies
	if b.child == nil {                 // else the guest knows its disk by heart
		if err := b.spec.growRootDisk(o.Config); err != nil {
			return nil, err
		}
	}
	return launch.Spawn(ctx, o)
}

// lockDisks locks the disk images that a launch uses.
func lockDisks(c *launch.Config) ([]*os.File, error) {
	disks, err := c.DiskUses()
	if err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	locks, err := launch.LockDisks(disks)
	return locks, wrap(ErrInvalidConfig, err)
}

// abortGrace is how long a runtime may take to clean up behind a guest that never ran.
const abortGrace = 3 * time.Second

// abort ends a runtime whose guest nobody waits for any more.
func abort(proc *launch.Process) error {
	_ = proc.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-proc.Exited():
	case <-time.After(abortGrace):
		_ = proc.Signal(killSignal)
		<-proc.Exited()
	}
	return proc.Close()
}

// ranThrough reports that the start-up command was so short that the sandbox had come and
// gone before this process was connected.
func (b *boot) ranThrough(ctx context.Context) bool {
	if b.startup == nil || readBootFailure(b.home.logs(b.spec.Name)) != nil {
		return false
	}
	run, err := b.store.LastRun(ctx, b.row.ID)
	if errors.Is(err, store.ErrNotFound) {
		_, err = b.store.SandboxByID(ctx, b.row.ID)
		return b.spec.Lifecycle.Ephemeral && errors.Is(err, store.ErrNotFound)
	}
	return err == nil && !run.Active && run.Reason != store.InternalError && run.Reason != store.AgentUnresponsive
}

// options describe the runtime to start.
func (b *boot) options(lock *launch.Lock) (launch.Options, error) {
	cfg, err := b.spec.launchConfig(b.home, b.row.NetworkSlot, b.vmdk)
	if err != nil {
		return launch.Options{}, err
	}
	b.spec.launchStartup(cfg, b.startup)
	bin, err := b.home.binary()
	if err != nil {
		return launch.Options{}, wrap(ErrLibraryNotLoaded, err)
	}
	r := b.spec.Resources
	o := launch.Options{
		Binary: bin, Name: b.spec.Name, SandboxID: b.row.ID, VCPUs: r.CPUs, MemoryMiB: r.MemoryMiB,
		LogLevel: value(b.spec.Runtime.LogLevel), Config: cfg, Detached: b.detached, Lock: lock,
		Env: withoutSecrets(os.Environ(), cfg.Network),
	}
	if r.MaxCPUs > r.CPUs {
		o.MaxVCPUs = r.MaxCPUs
	}
	if r.MaxMemoryMiB > r.MemoryMiB {
		o.MaxMemoryMiB = r.MaxMemoryMiB
	}
	if b.child != nil {
		b.child.launch(&o)
	}
	return o, nil
}

// failed leaves the catalogue and the files as a start that failed should. A new sandbox
// stays, stopped, with its logs; one that is ephemeral or whose creation was cancelled
// does not. The caller holds the lock.
func (b *boot) failed(ctx context.Context, cause error) error {
	clean := context.WithoutCancel(ctx)
	failure := readBootFailure(b.home.logs(b.spec.Name))
	remove := b.created && ctx.Err() != nil || b.spec.Lifecycle.Ephemeral || b.child != nil
	cleanErr := b.settle(clean, remove)
	if ctx.Err() != nil {
		return errors.Join(cancelled(ctx), cleanErr)
	}
	cause = errors.Join(cause, cleanErr)
	var known *Error
	if errors.As(cause, &known) {
		return cause
	}
	return &Error{Kind: ErrInternal, Cause: &StartError{
		Name: b.spec.Name, Failure: failure, Cause: cause, Removed: remove, Restored: b.child != nil, FromSnapshot: b.snapshot != nil,
	}}
}

func (b *boot) settle(ctx context.Context, remove bool) error {
	if remove {
		return errors.Join(b.erase(ctx, b.row), b.eraseMade(ctx))
	}
	_, err := b.store.Reconcile(ctx, b.row.ID, func(pid int) bool { return isRuntime(pid, b.row.ID) })
	if errors.Is(err, store.ErrNotFound) {
		return nil // removed meanwhile
	}
	if err != nil {
		return wrap(ErrInternal, err)
	}
	if _, err := b.store.SetStatus(ctx, b.row.ID, store.Stopped, store.Running, store.Draining, store.Crashed); err != nil {
		return wrap(ErrInternal, err)
	}
	return wrap(ErrIO, b.home.removeSockets(b.spec.Name))
}
