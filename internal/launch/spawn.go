package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// StartTimeout is how long a runtime has to say that it started.
const StartTimeout = 30 * time.Second

// maxStartupLine bounds the line in which it says so, bytes.
const maxStartupLine = 4096

// Options describe a runtime to start. Binary, Name, SandboxID, VCPUs, MemoryMiB, Config
// and Lock are required.
type Options struct {
	Binary       Binary
	Name         string
	SandboxID    int32
	VCPUs        uint8
	MemoryMiB    uint32
	MaxVCPUs     uint8
	MaxMemoryMiB uint32
	LogLevel     string
	Kernel       string // our addition to the dialect: leave it empty for official binaries
	Restore      string // likewise: see Invocation
	Config       *Config
	// Detached starts a session of its own for the runtime, which then outlives this
	// process. An attached runtime shuts down when the Process is closed or this
	// process ends.
	Detached bool
	// Lock is the sandbox's lifecycle lock. The runtime shares it; the caller still has
	// to release its own copy.
	Lock *Lock
	// Inherit are open files that the runtime keeps open without using them, such as
	// disk images that are locked with flock.
	Inherit []*os.File
	// Env is the runtime's environment; nil is that of this process.
	Env []string
	// Stderr receives what an attached runtime says before its log is open; nil is
	// this process's standard error.
	Stderr *os.File
	// Timeout replaces StartTimeout unless 0.
	Timeout time.Duration
}

// invocation is the command line of o.
func (o *Options) invocation() *Invocation {
	inv := &Invocation{
		Name: o.Name, SandboxID: o.SandboxID, VCPUs: o.VCPUs, MemoryMiB: o.MemoryMiB,
		MaxVCPUs: o.MaxVCPUs, MaxMemoryMiB: o.MaxMemoryMiB, LogLevel: o.LogLevel, Kernel: o.Kernel, Restore: o.Restore,
		ConfigFD: ConfigFD, ParentWatchFD: -1, StartupFD: -1, LifecycleLockFD: LifecycleLockFD, Config: o.Config,
	}
	if o.Detached {
		inv.StartupFD = StartupFD
	} else {
		inv.ParentWatchFD = ParentWatchFD
	}
	return inv
}

// Spawn starts a runtime and returns when it has said that it runs, which is before the
// guest boots. Errors wrap [ErrUsage] for options out of range and [ErrStart] otherwise;
// no process is left behind then.
func Spawn(ctx context.Context, o Options) (*Process, error) {
	inv := o.invocation()
	if err := inv.Validate(); err != nil {
		return nil, err
	}
	if o.Config == nil || o.Lock == nil {
		return nil, usagef("a configuration and the lifecycle lock are needed to start a sandbox")
	}
	document, err := o.Config.Encode()
	if err != nil {
		return nil, err
	}
	var files fileSet
	defer files.closeAll()
	config, err := files.anonymous("msb-config", document)
	if err != nil {
		return nil, fmt.Errorf("%w: pass the configuration: %w", ErrStart, err)
	}
	ready, said, err := files.pipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	cmd, watch, err := o.command(inv, &files, config, said)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w: check MSB_PATH", ErrStart, err)
	}
	p := newProcess(cmd, watch)
	if watch != nil {
		files.keep(watch)
	}
	files.close(said)
	if err := awaitStartup(ctx, ready, p, o.Timeout); err != nil {
		return nil, errors.Join(err, p.abort())
	}
	return p, nil
}

// command lays out the descriptors of the child. Entry i of ExtraFiles becomes
// descriptor 3+i; nil entries are closed in the child.
func (o *Options) command(inv *Invocation, files *fileSet, config, said *os.File) (*exec.Cmd, *os.File, error) {
	cmd := exec.Command(o.Binary.Path, inv.Args()...)
	cmd.Env = o.environment()
	cmd.ExtraFiles = make([]*os.File, LifecycleLockFD-3+1, LifecycleLockFD-3+1+len(o.Inherit))
	cmd.ExtraFiles[ConfigFD-3] = config
	cmd.ExtraFiles[LifecycleLockFD-3] = o.Lock.File()
	cmd.ExtraFiles = append(cmd.ExtraFiles, o.Inherit...)
	if o.Detached {
		cmd.SysProcAttr = newSession()
		cmd.ExtraFiles[StartupFD-3] = said
		return cmd, nil, nil
	}
	watched, watch, err := files.pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.ExtraFiles[ParentWatchFD-3] = watched
	cmd.Stdout = said
	cmd.Stderr = os.Stderr
	if o.Stderr != nil {
		cmd.Stderr = o.Stderr
	}
	return cmd, watch, nil
}

// environment is the runtime's. Its own heap, which is small, is to have no huge pages, of
// which it would use but parts: they are for its guest (GODEBUG of package runtime).
func (o *Options) environment() []string {
	env := o.Env
	if env == nil {
		env = os.Environ()
	}
	env = slices.Clone(env)
	if o.Binary.Self {
		env = append(env, SelfEnv+"=1")
	}
	const settings = "GODEBUG="
	for i, v := range env {
		if before, ok := strings.CutPrefix(v, settings); ok {
			env[i] = settings + "disablethp=1," + before // the last one counts
			return env
		}
	}
	return append(env, settings+"disablethp=1")
}

// awaitStartup reads {"pid":N} and checks that N is the child.
func awaitStartup(ctx context.Context, ready *os.File, p *Process, timeout time.Duration) error {
	if timeout == 0 {
		timeout = StartTimeout
	}
	deadline := time.Now().Add(timeout)
	if err := ready.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := readLine(ready)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrStart, context.Cause(ctx))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w within %s", ErrStart, timeout)
	case err != nil:
		return fmt.Errorf("%w: it ended before it reported: %w", ErrStart, err)
	}
	var startup struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(line, &startup); err != nil {
		return fmt.Errorf("%w: its first line %q: %w", ErrStart, line, err)
	}
	if startup.PID != p.PID() {
		return fmt.Errorf("%w: it reported process %d but is %d: MSB_PATH must not name a wrapper that forks", ErrStart, startup.PID, p.PID())
	}
	return nil
}

// readLine reads up to a newline, byte-exact enough for a pipe that carries one line.
func readLine(f *os.File) ([]byte, error) {
	var line []byte
	buf := make([]byte, 512)
	for {
		n, err := f.Read(buf)
		line = append(line, buf[:n]...)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			return line[:i], nil
		}
		if err != nil {
			return nil, err
		}
		if len(line) > maxStartupLine {
			return nil, fmt.Errorf("first line is longer than %d bytes", maxStartupLine)
		}
	}
}
