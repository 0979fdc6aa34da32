package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	msb "github.com/gomsb/gomsb/sdk"
)

// creation holds the flags that run and create share.
type creation struct {
	mountFlags
	configuration
	name, hostname, user string
	labels, env          []string
	cpus, maxCPUs        uint8
	memory, maxMemory    string
	rootDisk, upperSize  string
	snapshot             string
	diskOnly, trust      bool
	changes              changes
	workdir, shell       string
	entrypoint           string
	init                 string
	initArgs, initEnv    []string
	security, logLevel   string
	pull, thp            string
	placement            string
	maxDuration, idle    string
	replace, quiet       bool
	replaceTimeout       string
	network              networking
}

func (c *creation) flags(f *pflag.FlagSet) {
	c.configuration.flags(f)
	f.StringVarP(&c.name, "name", "n", "", "name of the sandbox; without one it gets a generated name")
	f.StringVarP(&c.hostname, "hostname", "H", "", "the guest's host name (default: the sandbox's name)")
	f.StringArrayVar(&c.labels, "label", nil, "attach a label, KEY=VALUE or KEY (repeatable)")
	f.StringVarP(&c.user, "user", "u", "", "user of commands, NAME|UID[:GROUP|GID]")
	f.Uint8VarP(&c.cpus, "cpus", "c", 0, "number of virtual processors (default 1)")
	f.Uint8Var(&c.maxCPUs, "max-cpus", 0, "ceiling for later changes of --cpus")
	f.StringVarP(&c.memory, "memory", "m", "", "guest memory, such as 512M or 2G (default 512M)")
	f.StringVar(&c.maxMemory, "max-memory", "", "ceiling for later changes of --memory")
	f.StringVar(&c.placement, "cpu-placement", "", "where virtual processors run: inherit (anywhere), auto (on one NUMA node), spread (each on a core of its own) or compact (on as few cores as they need) (default inherit)")
	f.StringVar(&c.thp, "thp", "", "huge pages in the guest: always, madvise or never (default madvise)")
	c.mountFlags.flags(f)
	f.StringVar(&c.rootDisk, "root-disk", "", "where the root's changes live: SIZE of a disk of its own, tmpfs[:SIZE], flat[:SIZE], or a disk image, PATH[:format=F,fstype=T] (default 4G)")
	f.StringVar(&c.upperSize, "oci-upper-size", "", "old name of --root-disk SIZE")
	_ = f.MarkHidden("oci-upper-size") // it was defined the line before

	// The others are the names in older releases.
	for _, name := range []string{"from-snapshot", "from-snap", "snapshot"} {
		f.StringVar(&c.snapshot, name, "", "start from a snapshot, by its name or path, instead of an image")
	}
	_ = errors.Join(f.MarkHidden("from-snap"), f.MarkHidden("snapshot")) // they exist
	memoryFlags(f, &c.diskOnly, &c.trust)
	c.changes.flags(f)
	f.StringVarP(&c.workdir, "workdir", "w", "", "working directory of commands")
	f.StringVar(&c.shell, "shell", "", "shell for scripts (default /bin/sh)")
	f.StringArrayVarP(&c.env, "env", "e", nil, "set a variable, KEY=VALUE, or KEY to copy it from here (repeatable)")
	f.StringVar(&c.entrypoint, "entrypoint", "", "replace the image's entrypoint")
	f.StringVar(&c.init, "init", "", "hand PID 1 to this program of the image, or auto")
	f.StringArrayVar(&c.initArgs, "init-arg", nil, "argument for --init (repeatable)")
	f.StringArrayVar(&c.initEnv, "init-env", nil, "variable for --init, KEY=VALUE (repeatable)")
	f.StringVar(&c.security, "security", "", "security profile: default or restricted")
	f.StringVar(&c.logLevel, "log-level", "", "detail of the runtime's log: error, warn, info, debug or trace")
	f.StringVar(&c.pull, "pull", "", "when to fetch the image: always, if-missing or never")
	f.StringVar(&c.maxDuration, "max-duration", "", "stop after this time, such as 90s, 10m or 2h")
	f.StringVar(&c.idle, "idle-timeout", "", "stop after this time without activity")
	f.BoolVar(&c.replace, "replace", false, "remove a sandbox of the same name first")
	f.StringVar(&c.replaceTimeout, "replace-with-timeout", "", "like --replace, killing the old one after this time; 0 kills at once")
	c.network.flags(f)
	for _, name := range []string{"net", "no-net", "net-rule", "net-default", "net-default-egress", "net-default-ingress"} {
		exclusive(f, "net-conf", name)
	}
	f.BoolVarP(&c.quiet, "quiet", "q", false, "print no progress")
}

// overridden lists the creation flags that were given, but those that say which
// sandbox is meant.
func overridden(f *pflag.FlagSet) (names []string) {
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(creation).flags(shared)
	f.Visit(func(x *pflag.Flag) {
		if shared.Lookup(x.Name) != nil && !slices.Contains([]string{"name", "quiet", "workdir", "user", "env"}, x.Name) {
			names = append(names, "--"+x.Name)
		}
	})
	return names
}

func parsed[T any](flag, value string, parse func(string) (T, error), set func(T)) error {
	if value == "" {
		return nil
	}
	v, err := parse(value)
	if err != nil {
		return fmt.Errorf("invalid value '%s' for '--%s': %w", value, flag, err)
	}
	set(v)
	return nil
}

// options turns the flags into options for the sdk.
func (c *creation) options(cmd *cobra.Command, a *app, image string) ([]msb.SandboxOption, error) {
	if c.snapshot != "" && image != "" {
		return nil, usage("the argument '--from-snapshot <PATH_OR_NAME>' cannot be used with '[IMAGE]'")
	}
	if c.init == "" && (len(c.initArgs) > 0 || len(c.initEnv) > 0) {
		return nil, lacking(withValue("init"))
	}
	image, opts, err := c.configure(cmd.Flags(), image)
	if err != nil {
		return nil, err
	}
	if image != "" || c.snapshot != "" {
		opts = append(opts, msb.WithImage(image), msb.WithFromSnapshot(c.snapshot))
	}
	if !hasRoot(opts) {
		return nil, errNoImage
	}
	if c.diskOnly {
		opts = append(opts, msb.WithDiskOnly())
	}
	if c.trust {
		opts = append(opts, msb.WithTrustedConfig())
	}
	err = firstError(
		expect("pull policy", c.pull, "always", "if-missing", "never"),
		oneOf("security", c.security, "default", "restricted"),
		knownPlacement(c.placement),
		oneOf("thp", c.thp, "always", "madvise", "never"),
		expect("log level", c.logLevel, logLevels...),
	)
	if err != nil {
		return nil, err
	}
	add := func(o ...msb.SandboxOption) { opts = append(opts, o...) }
	changed := cmd.Flags().Changed
	if c.rootDisk != "" && c.upperSize != "" {
		return nil, usage("the argument '--root-disk <SPEC>' cannot be used with '--oci-upper-size <SIZE>'")
	}
	if changed("cpus") && c.cpus == 0 {
		return nil, errors.New("invalid config: cpus must be greater than 0")
	}
	add(msb.WithCPUs(c.cpus), msb.WithMaxCPUs(c.maxCPUs), msb.WithHostname(c.hostname), msb.WithUser(c.user), msb.WithWorkdir(c.workdir), msb.WithShell(c.shell),
		msb.WithPullPolicy(msb.PullPolicy(c.pull)), msb.WithSecurityProfile(msb.SecurityProfile(c.security)), msb.WithTHP(msb.THPPolicy(c.thp)), msb.WithCPUPlacement(msb.CPUPlacement(c.placement)))
	mib := func(o func(uint32) msb.SandboxOption) func(uint32) {
		return func(v uint32) { add(o(v)) }
	}
	err = firstError(
		parsed("memory", c.memory, positiveMiB, mib(msb.WithMemory)),
		parsed("max-memory", c.maxMemory, positiveMiB, mib(msb.WithMaxMemory)),
		parsed("max-duration", c.maxDuration, flagtype.Seconds, func(d time.Duration) { add(msb.WithMaxDuration(d)) }),
		parsed("idle-timeout", c.idle, flagtype.Seconds, func(d time.Duration) { add(msb.WithIdleTimeout(d)) }),
		parsed("replace-with-timeout", c.replaceTimeout, flagtype.SubSeconds, func(d time.Duration) { add(msb.WithReplaceWithTimeout(d)) }),
		parsed("oci-upper-size", c.upperSize, rootDiskSize, func(v uint32) { add(msb.WithRootDisk(msb.RootDisk.Managed(v))) }),
		parsed("root-disk", c.rootDisk, rootDisk, func(d msb.RootDiskConfig) { add(msb.WithRootDisk(d)) }),
	)
	if err != nil {
		return nil, err
	}
	if c.replace && c.replaceTimeout == "" {
		add(msb.WithReplace())
	}
	for _, l := range c.labels {
		k, v, err := flagtype.Label(l)
		if err != nil {
			return nil, err
		}
		add(msb.WithLabel(k, v))
	}
	for _, e := range c.env {
		k, v, err := flagtype.Env(e)
		if err != nil {
			return nil, err
		}
		add(msb.WithEnv(map[string]string{k: v}))
	}
	if changed("entrypoint") {
		add(msb.WithEntrypoint(strings.Fields(c.entrypoint)...))
	}
	if c.init != "" {
		env := map[string]string{}
		for _, e := range c.initEnv {
			k, v, err := flagtype.Env(e)
			if err != nil {
				return nil, err
			}
			env[k] = v
		}
		add(msb.WithInit(msb.Init.Cmd(c.init, msb.InitOptions{Args: c.initArgs, Env: env})))
	}
	mounts, err := c.mounts(c.mounted)
	if err != nil {
		return nil, err
	}
	add(msb.WithMounts(mounts))
	changes, err := c.changes.options(c.shell)
	if err != nil {
		return nil, err
	}
	add(changes...)
	network, err := c.network.options(changed)
	if err != nil {
		return nil, err
	}
	add(network...)
	if !c.quiet {
		add(a.showPull())
	}
	level := c.logLevel
	if level == "" {
		level = a.level
	}
	if level != "" {
		add(msb.WithLogLevel(msb.LogLevel(level)))
	}
	return opts, nil
}

var errNoImage = errors.New("missing required sandbox field `image`; provide an image argument or set `image` in --conf")

// hasRoot reports that a sandbox with these options has something to start from.
func hasRoot(opts []msb.SandboxOption) bool {
	c := &msb.SandboxConfig{}
	for _, o := range opts {
		o(c)
	}
	return c.Image+c.ImageBind+c.Snapshot != ""
}

// oneOf checks a flag that has a few possible values; empty is not given.
func oneOf(flag, value string, possible ...string) error {
	if value == "" || slices.Contains(possible, value) {
		return nil
	}
	return badValue(value, withValue(flag), choice(possible))
}

// knownPlacement checks --cpu-placement; empty is not given.
func knownPlacement(value string) error {
	known := []string{"inherit", "auto", "spread", "compact"}
	if value == "" || slices.Contains(known, value) {
		return nil
	}
	return badValue(value, withValue("cpu-placement"), fmt.Errorf("unknown CPU placement: %s (expected: %s)", value, strings.Join(known, ", ")))
}

// expect checks a value that has a few possible ones, and a name of its own in the error; empty is not given.
func expect(what, value string, possible ...string) error {
	if value == "" || slices.Contains(possible, value) {
		return nil
	}
	return fmt.Errorf("invalid %s: %s (expected: %s)", what, value, strings.Join(possible, ", "))
}

func positiveMiB(s string) (uint32, error) {
	n, err := flagtype.MiB(s)
	if err == nil && n == 0 {
		err = fmt.Errorf("memory must be greater than 0")
	}
	return n, err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
