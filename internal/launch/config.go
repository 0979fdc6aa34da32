package launch

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Config is the launch configuration of 0.6.18: everything about a sandbox that does not
// go on the command line. Paths are absolute host paths unless a field says otherwise.
type Config struct {
	DBPath               string `json:"db_path"`
	DBConnectTimeoutSecs uint64 `json:"db_connect_timeout_secs"`
	LogDir               string `json:"log_dir"`
	RuntimeDir           string `json:"runtime_dir"`
	SandboxesDir         string `json:"sandboxes_dir"`
	RunDir               string `json:"run_dir"` // empty: derived from AgentSock, see Run
	CPULeaseDir          string `json:"cpu_lease_dir"`
	WritebackLeaseDir    string `json:"writeback_lease_dir"`

	CPUPlacement         string          `json:"cpu_placement"` // inherit, auto, spread or compact
	PlacementProfileName *string         `json:"placement_profile_name,omitempty"`
	PlacementProfile     json.RawMessage `json:"placement_profile,omitempty"`

	AgentSock     string `json:"agent_sock"`
	LibkrunfwPath string `json:"libkrunfw_path"`
	THP           string `json:"thp"` // always, madvise or never

	BlockWritebackLimitBytes *uint64 `json:"block_writeback_limit_bytes,omitempty"`
	BlockWritebackPoolBytes  *uint64 `json:"block_writeback_pool_bytes,omitempty"`

	Startup    *Startup        `json:"startup"`
	Lifecycle  Lifecycle       `json:"lifecycle"`
	Metrics    Metrics         `json:"metrics"`
	Rootfs     Rootfs          `json:"rootfs"`
	Mounts     []string        `json:"mounts"`      // see ParseMount
	FileMounts []FileMount     `json:"file_mounts"` // one file each
	Disks      []string        `json:"disks"`       // see ParseDisk
	InitPath   *string         `json:"init_path"`
	Bootstrap  proto.Bootstrap `json:"bootstrap"`
	ExecPath   *string         `json:"exec_path"`
	ExecArgs   []string        `json:"exec_args"`
	Network    *Network        `json:"network"`

	DeploymentProfile string       `json:"deployment_profile"` // single_tenant or multi_tenant
	SandboxSlot       uint16       `json:"sandbox_slot"`       // network slot, 1-65535; 0 without one
	Vsock             []VsockRoute `json:"vsock"`
}

// Startup is a command that the runtime itself runs once the guest is ready; when it
// ends, so does the sandbox.
type Startup struct {
	Cmd  string   `json:"cmd"`
	Args []string `json:"args"`
	Env  []string `json:"env"` // "K=V"
	Cwd  *string  `json:"cwd"`
	User *string  `json:"user"`
}

// Lifecycle bounds a sandbox's life, in whole seconds; nil and 0 are no bound.
type Lifecycle struct {
	MaxDurationSecs *uint64 `json:"max_duration_secs"`
	IdleTimeoutSecs *uint64 `json:"idle_timeout_secs"`
}

// Metrics says where the runtime publishes its samples.
type Metrics struct {
	SampleIntervalMS *uint64      `json:"sample_interval_ms"` // nil or 0: no samples
	Disabled         bool         `json:"disabled"`
	Slot             *MetricsSlot `json:"slot"`
}

// MetricsSlot is a slot of the shared metrics registry that the controller reserved.
type MetricsSlot struct {
	ShmName    string `json:"shm_name"` // with its leading slash
	Slot       uint32 `json:"slot"`
	Generation uint64 `json:"generation"`
}

// Rootfs names what the guest's root file system is made of. Either Path (a host
// directory) or Disk is set. Paths may be relative to the working directory.
type Rootfs struct {
	Path               *string `json:"path"`
	FollowRootSymlinks bool    `json:"follow_root_symlinks"`
	Disk               *string `json:"disk"`
	DiskFormat         *string `json:"disk_format"` // raw, qcow2 or vmdk
	DiskReadOnly       bool    `json:"disk_readonly"`
	Upper              *string `json:"upper"`                  // writable ext4 image over a vmdk
	UpperFormat        *string `json:"upper_format,omitempty"` // raw (nil too) or qcow2
}

// FileMount shares one host file: a mount string and the name of the file.
type FileMount struct {
	Mount    string `json:"mount"`
	Filename string `json:"filename"`
}

// VsockRoute lets the guest reach a host socket by connecting to Port of CID 2.
type VsockRoute struct {
	HostSocket string `json:"host_socket"` // path of a Unix socket
	Port       uint32 `json:"port"`
	SocketType string `json:"socket_type,omitempty"` // stream (empty too) or dgram
}

// required are the keys without which a document is refused.
var required = []string{
	"db_path", "db_connect_timeout_secs", "log_dir", "runtime_dir", "sandboxes_dir",
	"cpu_lease_dir", "writeback_lease_dir", "cpu_placement", "agent_sock", "libkrunfw_path",
	"lifecycle", "metrics", "rootfs", "mounts", "disks", "exec_args", "bootstrap", "sandbox_slot",
}

// Decode parses a configuration document. Unknown keys are ignored; a key that is missing
// or out of range gives an error that wraps [ErrConfig].
func Decode(document []byte) (*Config, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(document, &keys); err != nil {
		return nil, configf("the document is not a JSON object: %v", err)
	}
	for _, key := range required {
		if _, ok := keys[key]; !ok {
			return nil, configf("key %q is missing", key)
		}
	}
	c := &Config{THP: "madvise", DeploymentProfile: "single_tenant"}
	if err := json.Unmarshal(document, c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// Encode writes the document that [Decode] reads, with every key of the release that has
// no default.
func (c *Config) Encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	d := *c
	d.Mounts, d.Disks, d.ExecArgs = orEmpty(d.Mounts), orEmpty(d.Disks), orEmpty(d.ExecArgs)
	d.FileMounts, d.Vsock = orEmpty(d.FileMounts), orEmpty(d.Vsock)
	if d.Startup != nil {
		s := *d.Startup
		s.Args, s.Env = orEmpty(s.Args), orEmpty(s.Env)
		d.Startup = &s
	}
	return json.Marshal(&d)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Validate reports the first contradiction in the configuration itself, wrapping
// [ErrConfig]. It does not look at files, nor at mount strings, whose errors belong to the
// boot and not to the invocation.
func (c *Config) Validate() error {
	for _, p := range []struct{ key, value string }{
		{"db_path", c.DBPath}, {"log_dir", c.LogDir}, {"runtime_dir", c.RuntimeDir},
		{"sandboxes_dir", c.SandboxesDir}, {"agent_sock", c.AgentSock},
	} {
		if !filepath.IsAbs(p.value) {
			return configf("%s %q is not an absolute path", p.key, p.value)
		}
	}
	switch {
	case !oneOf(c.CPUPlacement, "inherit", "auto", "spread", "compact"):
		return configf("cpu_placement %q: choose inherit, auto, spread or compact", c.CPUPlacement)
	case !oneOf(c.THP, "always", "madvise", "never"):
		return configf("thp %q: choose always, madvise or never", c.THP)
	case c.PlacementProfileName != nil && isNull(c.PlacementProfile):
		return configf("placement profile %q is named but not given", *c.PlacementProfileName)
	case c.Rootfs.Path != nil && c.Rootfs.Disk != nil:
		return configf("rootfs has both a path and a disk")
	case c.Startup != nil && c.Startup.Cmd == "":
		return configf("startup has no command")
	}
	for _, s := range c.Disks {
		if _, err := ParseDisk(s); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if err := c.Bootstrap.Validate(); err != nil {
		return fmt.Errorf("%w: bootstrap: %w", ErrConfig, err)
	}
	return checkText(c)
}

// Run is the run directory: RunDir, or what AgentSock implies when it is empty (an older
// document; AgentSock is then <run>/sandboxes/<id>/agent.sock or <run>/agent/<hash>.sock).
func (c *Config) Run() string {
	if c.RunDir != "" {
		return c.RunDir
	}
	dir := filepath.Dir(c.AgentSock)
	if filepath.Base(dir) == "agent" {
		return filepath.Dir(dir)
	}
	return filepath.Dir(filepath.Dir(dir))
}

// Handoff reports that another program takes over as PID 1, which makes the guest's
// shutdown slower.
func (c *Config) Handoff() bool { return c.InitPath != nil || c.Bootstrap.HandoffInit != nil }

func oneOf(s string, choices ...string) bool {
	for _, c := range choices {
		if s == c {
			return true
		}
	}
	return false
}

func isNull(m json.RawMessage) bool { return len(m) == 0 || string(m) == "null" }
