package microsandbox

import (
	"encoding/json"
	"fmt"
)

// spec is a sandbox's configuration as the catalogue keeps it: the JSON of the sandbox
// row of microsandbox 0.6.18. It is written once, when the sandbox is created; a row that
// another release wrote is read, and never written back.
type spec struct {
	Name              string            `json:"name"`
	Image             imageSource       `json:"image"`
	Resources         resources         `json:"resources"`
	Runtime           runtimeSpec       `json:"runtime"`
	Env               []keyValue        `json:"env"`
	Labels            map[string]string `json:"labels"`
	Rlimits           []rlimit          `json:"rlimits"`
	Mounts            []mountSpec       `json:"mounts"`
	Patches           []json.RawMessage `json:"patches"`
	Network           json.RawMessage   `json:"network"`
	Vsock             json.RawMessage   `json:"vsock,omitempty"`
	Init              *initSpec         `json:"init"`
	PullPolicy        string            `json:"pull_policy"`
	SecurityProfile   string            `json:"security_profile"`
	DeploymentProfile string            `json:"deployment_profile"`
	Lifecycle         lifecycleSpec     `json:"lifecycle"`
	ManifestDigest    *string           `json:"manifest_digest"`

	volumes      map[string]foundVolume // of Named mounts, known when a launch is near
	secretValues map[string]string      // of secrets, by name; never written down
}

type keyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type resources struct {
	CPUs         uint8  `json:"cpus"`
	MemoryMiB    uint32 `json:"memory_mib"`
	MaxCPUs      uint8  `json:"max_cpus"`
	MaxMemoryMiB uint32 `json:"max_memory_mib"`
	CPUPlacement string `json:"cpu_placement,omitempty"`
	THP          string `json:"thp,omitempty"`
}

type runtimeSpec struct {
	Workdir               *string           `json:"workdir"`
	Shell                 string            `json:"shell"`
	Scripts               map[string]string `json:"scripts"`
	Entrypoint            []string          `json:"entrypoint"`
	Cmd                   []string          `json:"cmd"`
	Hostname              *string           `json:"hostname"`
	User                  *string           `json:"user"`
	LogLevel              *string           `json:"log_level"`
	MetricsSampleInterval uint64            `json:"metrics_sample_interval_ms"`
	DisableMetrics        bool              `json:"disable_metrics_sample"`
}

type rlimit struct {
	Resource string `json:"resource"` // capitalised: Nofile
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}

type mountFlags struct {
	Readonly bool `json:"readonly"`
	Noexec   bool `json:"noexec"`
	Nosuid   bool `json:"nosuid"`
	Nodev    bool `json:"nodev"`

	OverrideUID *uint32 `json:"override_uid,omitempty"` // this and the next of a share
	OverrideGID *uint32 `json:"override_gid,omitempty"`
}

// mountSpec is one mount; Type says which of the fields belong to it.
type mountSpec struct {
	Type    string     `json:"type"` // Tmpfs, DiskImage, Bind or Named
	Host    string     `json:"host"`
	Name    string     `json:"name"`
	Guest   string     `json:"guest"`
	SizeMiB *uint32    `json:"size_mib"`
	Format  string     `json:"format"` // Raw, Qcow2 or Vmdk
	Fstype  *string    `json:"fstype"`
	Options mountFlags `json:"options"`

	StatVirtualization string  `json:"stat_virtualization"`
	HostPermissions    string  `json:"host_permissions"`
	FollowRootSymlinks bool    `json:"follow_root_symlinks"`
	QuotaMiB           *uint32 `json:"quota_mib"`
}

// MarshalJSON writes the fields of the mount's type, empty ones too.
func (m mountSpec) MarshalJSON() ([]byte, error) {
	type share struct {
		Guest              string     `json:"guest"`
		Options            mountFlags `json:"options"`
		StatVirtualization string     `json:"stat_virtualization"`
		HostPermissions    string     `json:"host_permissions"`
		FollowRootSymlinks bool       `json:"follow_root_symlinks"`
	}
	shared := share{m.Guest, m.Options, m.StatVirtualization, m.HostPermissions, m.FollowRootSymlinks}
	switch m.Type {
	case "Bind":
		return json.Marshal(struct {
			Type string `json:"type"`
			Host string `json:"host"`
			share
			QuotaMiB *uint32 `json:"quota_mib"`
		}{m.Type, m.Host, shared, m.QuotaMiB})
	case "Named":
		return json.Marshal(struct {
			Type string `json:"type"`
			Name string `json:"name"`
			share
		}{m.Type, m.Name, shared})
	case "Tmpfs":
		return json.Marshal(struct {
			Type    string     `json:"type"`
			Guest   string     `json:"guest"`
			SizeMiB *uint32    `json:"size_mib"`
			Options mountFlags `json:"options"`
		}{m.Type, m.Guest, m.SizeMiB, m.Options})
	}
	return json.Marshal(struct {
		Type    string     `json:"type"`
		Host    string     `json:"host"`
		Guest   string     `json:"guest"`
		Format  string     `json:"format"`
		Fstype  *string    `json:"fstype"`
		Options mountFlags `json:"options"`
	}{m.Type, m.Host, m.Guest, m.Format, m.Fstype, m.Options})
}

type lifecycleSpec struct {
	Ephemeral       bool    `json:"ephemeral"`
	MaxDurationSecs *uint64 `json:"max_duration_secs"`
	IdleTimeoutSecs *uint64 `json:"idle_timeout_secs"`
}

func parseSpec(text string) (*spec, error) {
	s := new(spec)
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, fmt.Errorf("sandbox configuration: %w", err)
	}
	return s, nil
}
