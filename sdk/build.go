package microsandbox

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/oci"
)

// Defaults of a new sandbox.
const (
	defaultCPUs            = 1
	defaultMemoryMiB       = 512
	defaultShell           = "/bin/sh"
	defaultMetricsInterval = 1000 // ms
)

func pointer[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// wholeSeconds rounds d up; nil stands for no bound.
func wholeSeconds(d time.Duration) *uint64 {
	if d <= 0 {
		return nil
	}
	n := uint64((d + time.Second - 1) / time.Second)
	return &n
}

// newSpec resolves the configuration against the image that the sandbox starts from.
// img is nil for a disk image root.
func newSpec(c *SandboxConfig, img *oci.Image) (*spec, error) {
	s := &spec{
		Name: c.Name,
		Resources: resources{
			CPUs: orDefault(c.CPUs, defaultCPUs), MemoryMiB: orDefault(c.MemoryMiB, defaultMemoryMiB),
			CPUPlacement: c.CPUPlacement.document(), THP: string(c.THP),
		},
		Runtime: runtimeSpec{
			Workdir: pointer(c.Workdir), Shell: orDefault(c.Shell, defaultShell), Scripts: map[string]string{}, Hostname: pointer(c.Hostname), User: pointer(c.User),
			LogLevel: pointer(string(c.LogLevel)), MetricsSampleInterval: defaultMetricsInterval,
		},
		Env: []keyValue{}, Labels: map[string]string{}, Rlimits: []rlimit{}, Mounts: []mountSpec{}, Patches: []json.RawMessage{},
		PullPolicy:        map[PullPolicy]string{PullPolicyAlways: "Always", PullPolicyNever: "Never"}[c.PullPolicy],
		SecurityProfile:   string(orDefault(c.SecurityProfile, SecurityProfileDefault)),
		DeploymentProfile: c.DeploymentProfile.document(),
		Lifecycle:         lifecycleSpec{Ephemeral: c.Ephemeral, MaxDurationSecs: wholeSeconds(c.MaxDuration), IdleTimeoutSecs: wholeSeconds(c.IdleTimeout)},
	}
	s.PullPolicy = orDefault(s.PullPolicy, "IfMissing")
	s.Resources.MaxCPUs = orDefault(c.MaxCPUs, s.Resources.CPUs)
	s.Resources.MaxMemoryMiB = orDefault(c.MaxMemoryMiB, s.Resources.MemoryMiB)
	var err error
	if s.Network, err = c.networkSpec(); err != nil {
		return nil, err
	}
	s.secretValues = c.secretValues()
	if s.Vsock, err = c.vsockSpec(); err != nil {
		return nil, err
	}
	if err := s.setImage(c, img); err != nil {
		return nil, err
	}
	for _, k := range c.envOrder {
		s.Env = append(s.Env, keyValue{k, c.Env[k]})
	}
	maps.Copy(s.Labels, c.Labels)
	maps.Copy(s.Runtime.Scripts, c.Scripts)
	if err := s.setPatches(c); err != nil {
		return nil, err
	}
	if c.Entrypoint != nil {
		s.Runtime.Entrypoint = c.Entrypoint
	}
	if c.Cmd != nil {
		s.Runtime.Cmd = c.Cmd
	}
	for _, r := range c.Rlimits {
		s.Rlimits = append(s.Rlimits, rlimit{strings.ToUpper(r.Resource[:1]) + r.Resource[1:], r.Soft, r.Hard})
	}
	s.setInit(c, img)
	return s, s.setMounts(c, img != nil)
}

// setMounts adds the mounts in the order of their paths, and the default /tmp.
func (s *spec) setMounts(c *SandboxConfig, isOCI bool) error {
	seen := map[string]bool{}
	for _, guest := range c.volumeOrder {
		clean := filepath.Clean(guest)
		if seen[clean] {
			return fail(ErrInvalidConfig, "two mounts on %s", clean)
		}
		seen[clean] = true
		m, err := c.Volumes[guest].spec(clean)
		if err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, m)
	}
	if isOCI && !seen["/tmp"] {
		size := min(max(s.Resources.MemoryMiB/4, 1), 512)
		s.Mounts = append(s.Mounts, mountSpec{Type: "Tmpfs", Guest: "/tmp", SizeMiB: &size})
	}
	slices.SortFunc(s.Mounts, func(a, b mountSpec) int { // parents first
		return cmp.Or(strings.Count(a.Guest, "/")-strings.Count(b.Guest, "/"), strings.Compare(a.Guest, b.Guest))
	})
	return nil
}

// defaultCommand is entrypoint and command together; empty if there is none.
func (s *spec) defaultCommand() []string {
	return slices.Concat(s.Runtime.Entrypoint, s.Runtime.Cmd)
}

// launchConfig is what the runtime is told about the sandbox. vmdk is the root disk of
// an OCI image, empty for a disk image.
func (s *spec) launchConfig(h home, slot uint16, vmdk string) (*launch.Config, error) {
	socket, err := launch.AgentSocket(h.run(), s.Name)
	if err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	interval := s.Runtime.MetricsSampleInterval
	c := &launch.Config{
		DBPath: h.database(), DBConnectTimeoutSecs: h.settings.connectSeconds(), LogDir: h.logs(s.Name), RuntimeDir: h.runtime(s.Name), SandboxesDir: h.sandboxes(), RunDir: h.run(),
		CPULeaseDir: filepath.Join(h.run(), "cpu-leases"), WritebackLeaseDir: filepath.Join(h.run(), "writeback-leases"),
		CPUPlacement: orDefault(s.Resources.CPUPlacement, "inherit"), THP: orDefault(s.Resources.THP, "madvise"),
		AgentSock: socket, LibkrunfwPath: h.libkrunfw(),
		Lifecycle:         launch.Lifecycle{MaxDurationSecs: s.Lifecycle.MaxDurationSecs, IdleTimeoutSecs: s.Lifecycle.IdleTimeoutSecs},
		Metrics:           launch.Metrics{SampleIntervalMS: &interval, Disabled: s.Runtime.DisableMetrics},
		DeploymentProfile: orDefault(h.settings.DeploymentProfile, deploymentProfile(s.DeploymentProfile)).document(), SandboxSlot: slot,
	}
	if c.Network, err = s.networkConfig(); err != nil {
		return nil, err
	}
	if c.Vsock, err = s.vsockRoutes(); err != nil {
		return nil, err
	}
	b := &c.Bootstrap
	b.Hostname = s.hostname()
	b.SecurityProfile = proto.SecurityProfile(s.SecurityProfile)
	if s.Runtime.User != nil {
		b.User = *s.Runtime.User
	}
	if b.DefaultCwd = value(s.Runtime.Workdir); b.DefaultCwd == "" && s.Image.OCI != nil {
		b.DefaultCwd = "/"
	}
	for _, e := range s.Env {
		b.DefaultEnv = append(b.DefaultEnv, proto.EnvVar{Key: e.Key, Value: e.Value})
	}
	for _, r := range s.Rlimits {
		b.Rlimits = append(b.Rlimits, proto.Rlimit{Resource: strings.ToLower(r.Resource), Soft: r.Soft, Hard: r.Hard})
	}
	if s.Init != nil {
		b.HandoffInit = &proto.HandoffInit{Cmd: s.Init.Cmd, Args: s.Init.Args, Cwd: orDefault(b.DefaultCwd, "/")}
		for _, e := range s.Init.Env {
			b.HandoffInit.Env = append(b.HandoffInit.Env, proto.EnvVar{Key: e.Key, Value: e.Value})
		}
	}
	if err := s.launchRoot(c, vmdk); err != nil {
		return nil, err
	}
	return c, s.launchMounts(c)
}

func (s *spec) networkConfig() (*launch.Network, error) {
	n := &launch.Network{Config: launch.DefaultNetworkConfig()}
	if len(s.Network) > 0 {
		if err := json.Unmarshal(s.Network, &n.Config); err != nil {
			return nil, &Error{Kind: ErrInvalidConfig, Message: "network configuration", Cause: err}
		}
	}
	if err := s.resolveSecrets(&n.Config.Secrets); err != nil {
		return nil, err
	}
	if p := n.Config.OutboundProxy; p != nil && n.Config.Enabled {
		var err error
		if n.OutboundProxy, err = p.Resolve(os.LookupEnv); err != nil {
			return nil, wrap(ErrInvalidConfig, err)
		}
	}
	return n, nil
}

func (s *spec) hostname() string {
	if h := s.Runtime.Hostname; h != nil && *h != "" {
		return *h
	}
	if len(s.Name) <= maxHostnameBytes {
		return s.Name
	}
	return s.Name[:maxHostnameBytes-9] + "-" + launch.Hash24(s.Name)[:8]
}

func (s *spec) launchMounts(c *launch.Config) error {
	for _, m := range s.Mounts {
		flags := proto.MountFlags{ReadOnly: m.Options.Readonly, NoExec: m.Options.Noexec, NoSUID: m.Options.Nosuid, NoDev: m.Options.Nodev}
		var err error
		switch m.Type {
		case "Tmpfs":
			c.Bootstrap.TmpfsMounts = append(c.Bootstrap.TmpfsMounts, proto.TmpfsMount{Path: m.Guest, SizeMiB: m.SizeMiB, Flags: flags})
		case "DiskImage":
			m.launchDisk(c, flags)
		case "Bind":
			err = m.launchBind(c, flags)
		case "Named":
			err = m.launchNamed(c, flags, s.volumes[m.Name])
		default:
			err = fail(ErrUnsupportedOperation, "mount %s: kind %s is not available in this release", m.Guest, strings.ToLower(m.Type))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
