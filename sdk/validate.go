package microsandbox

import (
	"maps"
	"path"
	"slices"
	"strings"
)

const (
	maxNameBytes     = 128
	maxHostnameBytes = 64
	maxCPUs          = 32
	minMemoryMiB     = 64
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// checkName reports whether a sandbox may be called name.
func checkName(name string) error {
	switch {
	case name == "":
		return fail(ErrInvalidConfig, "sandbox name is required")
	case len(name) > maxNameBytes:
		return fail(ErrInvalidConfig, "sandbox name must be at most %d characters: got %d", maxNameBytes, len(name))
	}
	for i := range len(name) {
		c := name[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || c != '.' && c != '-' && c != '_') {
			return fail(ErrInvalidConfig, "sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and underscores: %s", name)
		}
	}
	return nil
}

var rlimitNames = []string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"}

var reservedLabels = []string{"sandbox.", "microsandbox.", "service."}

func (p DeploymentProfile) validate() error {
	if !slices.Contains([]DeploymentProfile{"", DeploymentProfileSingleTenant, DeploymentProfileMultiTenant}, p) {
		return fail(ErrInvalidConfig, "unknown deployment profile %q: use single-tenant or multi-tenant", p)
	}
	return nil
}

// validate checks everything that needs no look at the host.
func (c *SandboxConfig) validate() error {
	if err := checkName(c.Name); err != nil {
		return err
	}
	switch {
	case c.Image != "" && c.ImageBind != "":
		return fail(ErrInvalidConfig, "the root is either image %s or directory %s", c.Image, c.ImageBind)
	case c.Image+c.ImageBind+c.Snapshot == "":
		return fail(ErrInvalidConfig, "missing required sandbox field `image`; provide an image argument or set `image` in --conf")
	case c.CPUs > maxCPUs:
		return fail(ErrInvalidConfig, "cpus must be at most %d: got %d", maxCPUs, c.CPUs)
	case c.MaxCPUs != 0 && c.MaxCPUs < orDefault(c.CPUs, defaultCPUs):
		return fail(ErrInvalidConfig, "max_cpus %d must be greater than or equal to cpus %d", c.MaxCPUs, orDefault(c.CPUs, defaultCPUs))
	case c.MaxMemoryMiB != 0 && c.MaxMemoryMiB < orDefault(c.MemoryMiB, defaultMemoryMiB):
		return fail(ErrInvalidConfig, "max_memory %d MiB must be greater than or equal to memory %d MiB", c.MaxMemoryMiB, orDefault(c.MemoryMiB, defaultMemoryMiB))
	case c.MemoryMiB != 0 && c.MemoryMiB < minMemoryMiB:
		return fail(ErrInvalidConfig, "memory must be at least %d MiB: got %d", minMemoryMiB, c.MemoryMiB)
	case len(c.Hostname) > maxHostnameBytes:
		return fail(ErrInvalidConfig, "hostname is too long: %d bytes (max %d)", len(c.Hostname), maxHostnameBytes)
	case c.Shell != "" && (c.Shell == "/" || strings.ContainsAny(c.Shell, " \t\r\n\v\f\x00")):
		return fail(ErrInvalidConfig, "shell %q is not a program: no white space, and not /", c.Shell)
	case !slices.Contains([]PullPolicy{PullPolicyDefault, PullPolicyAlways, PullPolicyIfMissing, PullPolicyNever}, c.PullPolicy):
		return fail(ErrInvalidConfig, "unknown pull policy %q: use always, if-missing or never", c.PullPolicy)
	case !slices.Contains([]SecurityProfile{"", SecurityProfileDefault, SecurityProfileRestricted}, c.SecurityProfile):
		return fail(ErrInvalidConfig, "unknown security profile %q: use default or restricted", c.SecurityProfile)
	case !slices.Contains([]LogLevel{LogLevelDefault, LogLevelTrace, LogLevelDebug, LogLevelInfo, LogLevelWarn, LogLevelError}, c.LogLevel):
		return fail(ErrInvalidConfig, "unknown log level %q: use error, warn, info, debug or trace", c.LogLevel)
	case !slices.Contains([]THPPolicy{"", THPAlways, THPMadvise, THPNever}, c.THP):
		return fail(ErrInvalidConfig, "unknown huge page policy %q: use always, madvise or never", c.THP)
	case c.Init != nil && c.Init.Cmd != "auto" && !path.IsAbs(c.Init.Cmd):
		return fail(ErrInvalidConfig, "init %q is neither an absolute path nor auto", c.Init.Cmd)
	}
	if err := c.checkSnapshot(); err != nil {
		return err
	}
	for _, check := range []func() error{c.validatePlacement, c.DeploymentProfile.validate, func() error { return c.RootDisk.validate(c) }, c.validatePatches, c.validateScripts} {
		if err := check(); err != nil {
			return err
		}
	}
	if err := checkEnv(c.Env); err != nil {
		return err
	}
	if c.Init != nil {
		if err := checkEnv(c.Init.Env); err != nil {
			return err
		}
	}
	for _, k := range sortedKeys(c.Labels) {
		if err := checkLabel(k); err != nil {
			return err
		}
	}
	for _, r := range c.Rlimits {
		if err := r.validate(); err != nil {
			return err
		}
	}
	if _, err := c.networkSpec(); err != nil {
		return err
	}
	if _, err := c.vsockSpec(); err != nil {
		return err
	}
	for _, guest := range sortedKeys(c.Volumes) {
		if err := c.Volumes[guest].validate(guest); err != nil {
			return err
		}
	}
	return nil
}

func checkEnv(env map[string]string) error {
	for _, k := range sortedKeys(env) {
		switch {
		case k == "" || strings.ContainsAny(k, "=\x00"):
			return fail(ErrInvalidConfig, "environment variable %q is not a valid name", k)
		case strings.HasPrefix(k, "MSB_"):
			return fail(ErrInvalidConfig, "environment variable %q uses the reserved MSB_ prefix", k)
		case strings.ContainsRune(env[k], 0):
			return fail(ErrInvalidConfig, "environment variable %q has a NUL in its value", k)
		}
	}
	return nil
}

func checkLabel(key string) error {
	if key == "" {
		return fail(ErrInvalidConfig, "label key must not be empty")
	}
	if p := reservedPrefix(key); p != "" {
		return fail(ErrInvalidConfig, "label key '%s' uses reserved prefix '%s'", key, p)
	}
	return nil
}

// reservedPrefix returns the prefix that keeps a label key from being set, "" if none.
func reservedPrefix(key string) string {
	for _, p := range reservedLabels {
		if strings.HasPrefix(key, p) {
			return p
		}
	}
	return ""
}

func (r Rlimit) validate() error {
	switch {
	case !slices.Contains(rlimitNames, r.Resource):
		return fail(ErrInvalidConfig, "unknown rlimit resource: %s: use one of %s", r.Resource, strings.Join(rlimitNames, " "))
	case r.Soft > r.Hard:
		return fail(ErrInvalidConfig, "resource limit %s: soft %d exceeds hard %d", r.Resource, r.Soft, r.Hard)
	}
	return nil
}
