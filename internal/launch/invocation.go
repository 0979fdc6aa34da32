package launch

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
)

// The descriptors a controller passes, by number.
const (
	ConfigFD        = 96
	ParentWatchFD   = 97
	StartupFD       = 98
	LifecycleLockFD = 99
)

// Invocation is a parsed command line of the runtime, whatever its dialect. Descriptors
// are -1 when not passed.
type Invocation struct {
	Name         string
	SandboxID    int32
	VCPUs        uint8
	MemoryMiB    uint32
	MaxVCPUs     uint8  // 0: no hotplug
	MaxMemoryMiB uint32 // 0: no hotplug
	LogLevel     string // error, warn, info, debug, trace; empty: the runtime's default
	Kernel       string // path of a kernel to boot; empty: the runtime chooses
	Restore      string // directory of a checkpoint to go on from; empty: the guest boots

	ConfigFD        int
	ConfigFile      string
	ParentWatchFD   int
	StartupFD       int
	LifecycleLockFD int

	Config *Config // nil until Load, unless it was in the arguments
}

// Attached reports that the runtime ends when the controller that started it goes away.
func (inv *Invocation) Attached() bool { return inv.ParentWatchFD >= 0 }

// Parse reads the arguments after "sandbox", in the dialect of 0.6.18 or of 0.5.7. It looks
// at nothing but args. Errors wrap [ErrUsage].
func Parse(args []string) (*Invocation, error) {
	own := args // without those of a program
	if i := slices.Index(args, "--"); i >= 0 {
		own = args[:i]
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(own, func(arg string) bool { return slices.Contains(names, flagName(arg)) })
	}
	switch {
	case has("--config-fd", "--config-file"):
		return parse0618(args)
	case has("--agent-sock"):
		return parse0507(args)
	}
	return nil, usagef("neither --config-fd nor --config-file is given")
}

// Args writes the command line of the 0.6.18 dialect, in the order of its core, the
// leading "sandbox" included.
func (inv *Invocation) Args() []string {
	args := []string{"sandbox"}
	add := func(flag, value string) { args = append(args, flag, value) }
	num := func(flag string, n int64) { add(flag, strconv.FormatInt(n, 10)) }
	if inv.LogLevel != "" {
		args = append(args, "--"+inv.LogLevel)
	}
	add("--name", inv.Name)
	num("--sandbox-id", int64(inv.SandboxID))
	if inv.ParentWatchFD >= 0 {
		num("--parent-watch-fd", int64(inv.ParentWatchFD))
	}
	if inv.StartupFD >= 0 {
		num("--startup-fd", int64(inv.StartupFD))
	}
	num("--vcpus", int64(inv.VCPUs))
	num("--memory-mib", int64(inv.MemoryMiB))
	if inv.MaxVCPUs > inv.VCPUs {
		num("--max-vcpus", int64(inv.MaxVCPUs))
	}
	if inv.MaxMemoryMiB > inv.MemoryMiB {
		num("--max-memory-mib", int64(inv.MaxMemoryMiB))
	}
	if inv.Kernel != "" {
		add("--kernel", inv.Kernel)
	}
	if inv.Restore != "" {
		add("--restore", inv.Restore)
	}
	if inv.ConfigFD >= 0 {
		num("--config-fd", int64(inv.ConfigFD))
	}
	if inv.ConfigFile != "" {
		add("--config-file", inv.ConfigFile)
	}
	if inv.LifecycleLockFD >= 0 {
		num("--lifecycle-lock-fd", int64(inv.LifecycleLockFD))
	}
	return args
}

// Validate reports the first value out of range, wrapping [ErrUsage].
func (inv *Invocation) Validate() error {
	if err := ValidateName(inv.Name); err != nil {
		return err
	}
	switch {
	case inv.SandboxID <= 0:
		return usagef("--sandbox-id %d: want 1 to %d", inv.SandboxID, math.MaxInt32)
	case inv.VCPUs == 0:
		return usagef("--vcpus: want at least 1")
	case inv.MemoryMiB == 0:
		return usagef("--memory-mib: want at least 1")
	case inv.ConfigFD >= 0 && inv.ConfigFile != "":
		return usagef("--config-fd and --config-file exclude each other")
	case inv.ParentWatchFD >= 0 && inv.ParentWatchFD != ParentWatchFD:
		return usagef("--parent-watch-fd %d: want %d", inv.ParentWatchFD, ParentWatchFD)
	case inv.StartupFD >= 0 && inv.StartupFD != StartupFD:
		return usagef("--startup-fd %d: want %d", inv.StartupFD, StartupFD)
	case inv.Restore != "" && !filepath.IsAbs(inv.Restore):
		return usagef("--restore %q: want an absolute path", inv.Restore)
	case inv.LogLevel != "" && !oneOf(inv.LogLevel, "error", "warn", "info", "debug", "trace"):
		return usagef("log level %q: choose error, warn, info, debug or trace", inv.LogLevel)
	}
	return nil
}

// MaxName is the longest sandbox name, bytes.
const MaxName = 128

// ValidateName accepts names of [A-Za-z0-9][A-Za-z0-9._-]* up to [MaxName] bytes, which
// are safe as one component of a path. Errors wrap [ErrUsage].
func ValidateName(name string) error {
	if name == "" || len(name) > MaxName {
		return usagef("sandbox name %q: want 1 to %d bytes", name, MaxName)
	}
	for i, c := range []byte(name) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return usagef("sandbox name %q: want letters, digits, '.', '_' and '-', first a letter or digit", name)
		}
	}
	return nil
}
