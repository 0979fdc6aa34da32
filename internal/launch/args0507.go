package launch

import (
	"cmp"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
)

// parse0507 reads the dialect of 0.5.7, whose arguments are the whole configuration. What
// that release's runtime had no say in gets the value that 0.6.18's controller gives it.
func parse0507(args []string) (*Invocation, error) {
	p := parser0507{
		inv: Invocation{VCPUs: 1, MemoryMiB: 512, ConfigFD: -1, ParentWatchFD: -1, StartupFD: -1, LifecycleLockFD: -1},
		cfg: Config{CPUPlacement: "inherit", THP: "madvise", DeploymentProfile: "single_tenant"},
	}
	if i := slices.Index(args, "--"); i >= 0 {
		args, p.cfg.ExecArgs = args[:i], args[i+1:]
	}
	set := p.flags()
	if err := set.parse(args); err != nil {
		return nil, err
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return &p.inv, nil
}

// parser0507 holds the flags that are not fields of the result as they are.
type parser0507 struct {
	inv Invocation
	cfg Config
	env guestEnv

	maxDuration, idleTimeout uint64
	interval                 uint64
	shmName                  string
	metricsSlot              uint32
	generation               uint64
	network                  string
	hasSlot, hasGeneration   bool
}

func (p *parser0507) flags() flagSet {
	inv, cfg := &p.inv, &p.cfg
	level := func(l string) func() { return func() { inv.LogLevel = l } }
	list := func(dst *[]string) func(string) error {
		return func(s string) error { *dst = append(*dst, s); return nil }
	}
	given := func(seen *bool, set func(string) error) func(string) error {
		return func(s string) error { *seen = true; return set(s) }
	}
	return flagSet{
		switches: map[string]func(){
			"--error": level("error"), "--warn": level("warn"), "--info": level("info"),
			"--debug": level("debug"), "--trace": level("trace"),
			"--disable-metrics-sample": func() { cfg.Metrics.Disabled = true },
			"--rootfs-disk-readonly":   func() { cfg.Rootfs.DiskReadOnly = true },
			"--forward":                func() {}, // the log is the file's alone
		},
		values: map[string]func(string) error{
			"--log-level":                  text(&inv.LogLevel),
			"--name":                       text(&inv.Name),
			"--sandbox-id":                 number(&inv.SandboxID, 31),
			"--db-path":                    text(&cfg.DBPath),
			"--db-connect-timeout-secs":    number(&cfg.DBConnectTimeoutSecs, 63),
			"--log-dir":                    text(&cfg.LogDir),
			"--runtime-dir":                text(&cfg.RuntimeDir),
			"--agent-sock":                 text(&cfg.AgentSock),
			"--parent-watch-fd":            number(&inv.ParentWatchFD, 31),
			"--max-duration":               number(&p.maxDuration, 64),
			"--idle-timeout":               number(&p.idleTimeout, 64),
			"--libkrunfw-path":             text(&cfg.LibkrunfwPath),
			"--vcpus":                      number(&inv.VCPUs, 8),
			"--memory-mib":                 number(&inv.MemoryMiB, 32),
			"--metrics-sample-interval-ms": number(&p.interval, 64),
			"--metrics-shm-name":           text(&p.shmName),
			"--metrics-slot":               given(&p.hasSlot, number(&p.metricsSlot, 32)),
			"--metrics-generation":         given(&p.hasGeneration, number(&p.generation, 64)),
			"--rootfs-path":                optional(&cfg.Rootfs.Path),
			"--rootfs-disk":                optional(&cfg.Rootfs.Disk),
			"--rootfs-disk-format":         optional(&cfg.Rootfs.DiskFormat),
			"--rootfs-blk":                 optional(&cfg.Rootfs.Upper),
			"--network-config":             text(&p.network),
			"--sandbox-slot":               number(&cfg.SandboxSlot, 16),
			"--workdir":                    text(&cfg.Bootstrap.DefaultCwd),
			"--init-path":                  optional(&cfg.InitPath),
			"--exec-path":                  optional(&cfg.ExecPath),
		},
		lists: map[string]func(string) error{
			"--mount": list(&cfg.Mounts),
			"--disk":  list(&cfg.Disks),
			"--env":   p.env.add,
		},
	}
}

// optional returns a setter of a value that is nil when it is not given.
func optional(dst **string) func(string) error {
	return func(s string) error {
		*dst = new(string)
		return text(*dst)(s)
	}
}

// finish turns what was given into the configuration.
func (p *parser0507) finish() error {
	c := &p.cfg
	c.DBConnectTimeoutSecs = cmp.Or(c.DBConnectTimeoutSecs, 30)
	c.SandboxesDir = filepath.Dir(filepath.Dir(c.RuntimeDir))
	// Where the socket is too long for <run>/agent, it is in the sandbox's own folder.
	if c.RunDir = filepath.Dir(filepath.Dir(c.AgentSock)); filepath.Base(filepath.Dir(c.AgentSock)) != "agent" {
		c.RunDir = filepath.Join(filepath.Dir(filepath.Dir(c.DBPath)), "run")
	}
	c.CPULeaseDir, c.WritebackLeaseDir = filepath.Join(c.RunDir, "cpu-leases"), filepath.Join(c.RunDir, "writeback-leases")
	if p.maxDuration != 0 {
		c.Lifecycle.MaxDurationSecs = &p.maxDuration
	}
	if p.idleTimeout != 0 {
		c.Lifecycle.IdleTimeoutSecs = &p.idleTimeout
	}
	if p.interval != 0 {
		c.Metrics.SampleIntervalMS = &p.interval
	}
	if p.shmName != "" && p.hasSlot && p.hasGeneration {
		c.Metrics.Slot = &MetricsSlot{ShmName: p.shmName, Slot: p.metricsSlot, Generation: p.generation}
	}
	if p.network != "" {
		c.Network = new(Network)
		if err := json.Unmarshal([]byte(p.network), &c.Network.Config); err != nil {
			return configf("--network-config: %v", err)
		}
	}
	if err := p.env.bootstrap(&c.Bootstrap); err != nil {
		return configf("--env: %v", err)
	}
	p.inv.Config = c
	return errors.Join(p.inv.Validate(), c.Validate())
}
