package microsandbox

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/rootfs/patch"
)

// UnmarshalJSON decodes the persisted configuration of a sandbox.
func (c *SandboxConfig) UnmarshalJSON(b []byte) error {
	s, err := parseSpec(string(b))
	if err != nil {
		return err
	}
	*c = s.config()
	return nil
}

// Config is the persisted configuration in the form of the options that made it.
func (h *SandboxHandle) Config() (*SandboxConfig, error) {
	s, err := parseSpec(h.row.Config)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	c := s.config()
	return &c, nil
}

// EffectiveConfig is what the running machine uses, or what the next one will.
func (h *SandboxHandle) EffectiveConfig() (*SandboxConfig, error) {
	s, err := effectiveSpec(h.row)
	if err != nil {
		return nil, err
	}
	c := s.config()
	return &c, nil
}

// effectiveSpec is what a sandbox's running machine uses, or what the next one will.
func effectiveSpec(row store.Sandbox) (*spec, error) {
	text := row.Config
	if live(row.Status) && row.ActiveConfig != "" {
		text = row.ActiveConfig
	}
	s, err := parseSpec(text)
	return s, wrap(ErrInternal, err)
}

// DefaultCommand is the effective ENTRYPOINT and CMD, empty if there is none.
func (c *SandboxConfig) DefaultCommand() []string { return slices.Concat(c.Entrypoint, c.Cmd) }

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (s *spec) config() SandboxConfig {
	c := SandboxConfig{
		Name: s.Name, Image: s.Image.describe(), CPUs: s.Resources.CPUs, MaxCPUs: s.Resources.MaxCPUs, MemoryMiB: s.Resources.MemoryMiB, MaxMemoryMiB: s.Resources.MaxMemoryMiB, CPUPlacement: CPUPlacement(s.Resources.CPUPlacement), THP: THPPolicy(s.Resources.THP),
		Workdir: value(s.Runtime.Workdir), Shell: s.Runtime.Shell, User: value(s.Runtime.User), Hostname: value(s.Runtime.Hostname),
		Labels: s.Labels, Entrypoint: s.Runtime.Entrypoint, Cmd: s.Runtime.Cmd, LogLevel: LogLevel(value(s.Runtime.LogLevel)), QuietLogs: s.Runtime.LogLevel == nil,
		MaxDuration: time.Duration(value(s.Lifecycle.MaxDurationSecs)) * time.Second, IdleTimeout: time.Duration(value(s.Lifecycle.IdleTimeoutSecs)) * time.Second,
		Ephemeral: s.Lifecycle.Ephemeral, SecurityProfile: SecurityProfile(s.SecurityProfile), DeploymentProfile: deploymentProfile(s.DeploymentProfile),
		PullPolicy: map[string]PullPolicy{"Always": PullPolicyAlways, "Never": PullPolicyNever, "IfMissing": PullPolicyIfMissing}[s.PullPolicy],
	}
	if d := s.Image.OCI; d != nil {
		c.RootDisk = d.RootDisk.config()
	}
	if d := s.Image.Bind; d != nil {
		c.Image, c.ImageBind = "", d.Path
	}
	if d := s.Image.Disk; d != nil {
		c.ImageFstype = value(d.Fstype)
	}
	c.setNetwork(s.Network)
	if routes, err := s.vsockRoutes(); err == nil {
		for _, r := range routes {
			c.Vsock = append(c.Vsock, VsockRoute{r.HostSocket, r.Port, VsockSocketType(r.SocketType)})
		}
	}
	for _, e := range s.Env {
		c.setEnv(e.Key, e.Value)
	}
	if s.Init != nil {
		c.Init = &InitConfig{Cmd: s.Init.Cmd, Args: s.Init.Args, Env: map[string]string{}}
		for _, e := range s.Init.Env {
			c.Init.Env[e.Key] = e.Value
		}
	}
	if len(s.Runtime.Scripts) > 0 {
		c.Scripts = maps.Clone(s.Runtime.Scripts)
	}
	for _, text := range s.Patches {
		var p patch.Patch
		if json.Unmarshal(text, &p) == nil { // else a later release made it
			c.Patches = append(c.Patches, patchConfig(p))
		}
	}
	for _, r := range s.Rlimits {
		c.Rlimits = append(c.Rlimits, Rlimit{Resource: strings.ToLower(r.Resource), Soft: r.Soft, Hard: r.Hard})
	}
	for _, m := range s.Mounts {
		WithMounts(map[string]MountConfig{m.Guest: m.config()})(&c)
	}
	return c
}
