package microsandbox

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gomsb/gomsb/oci/registry"
)

// settings are what this package wants to know of config.json. Paths are absolute, or
// empty for the usual place; a relative one counts from the working directory, as for
// microsandbox 0.6.18.
type settings struct {
	Home              string             `json:"home"`
	LogLevel          LogLevel           `json:"log_level"`
	DeploymentProfile DeploymentProfile  `json:"deployment_profile"` // written with _ for -
	SandboxDefaults   sandboxDefaults    `json:"sandbox_defaults"`
	ActiveProfile     string             `json:"active_profile"`
	Profiles          map[string]profile `json:"profiles"`
	Metrics           struct {
		Capacity uint32 `json:"capacity"` // slots of a registry that we make; 0: the usual number
	} `json:"metrics"`
	Database struct {
		BusySeconds    *uint32 `json:"busy_timeout_secs"`    // that a statement waits for other processes
		ConnectSeconds *uint64 `json:"connect_timeout_secs"` // that a runtime waits for the database
	} `json:"database"`
	SSH struct {
		InactivitySeconds *uint32 `json:"inactivity_timeout_secs"` // 0: never
	} `json:"ssh"`
	Registries struct {
		CACerts string                   `json:"ca_certs"`
		Hosts   map[string]registry.Host `json:"hosts"`
	} `json:"registries"`
	Paths struct {
		MSB       string `json:"msb"`
		Libkrunfw string `json:"libkrunfw"`
		Cache     string `json:"cache"`
		Sandboxes string `json:"sandboxes"`
		Volumes   string `json:"volumes"`
		Snapshots string `json:"snapshots"`
		Secrets   string `json:"secrets"`
	} `json:"paths"`
}

// sandboxDefaults are what a sandbox gets whose creator does not say.
type sandboxDefaults struct {
	CPUs            uint8        `json:"cpus"`
	MemoryMiB       uint32       `json:"memory_mib"`
	CPUPlacement    CPUPlacement `json:"cpu_placement"`
	THP             THPPolicy    `json:"thp"`
	Shell           string       `json:"shell"`
	Workdir         string       `json:"workdir"`
	MetricsInterval *uint64      `json:"metrics_sample_interval_ms"` // 0: no samples
	DisableMetrics  bool         `json:"disable_metrics_sample"`
	OCI             rootDefaults `json:"oci"`
}

// setDefaults makes config.json's choices where the caller made none, and its deployment
// profile in any case: whoever runs the host decides that.
func (s *settings) setDefaults(c *SandboxConfig) {
	d := &s.SandboxDefaults
	c.CPUs, c.MemoryMiB, c.THP = orDefault(c.CPUs, d.CPUs), orDefault(c.MemoryMiB, d.MemoryMiB), orDefault(c.THP, d.THP)
	c.CPUPlacement = orDefault(c.CPUPlacement, d.CPUPlacement)
	c.Shell, c.Workdir = orDefault(c.Shell, d.Shell), orDefault(c.Workdir, d.Workdir)
	if !c.QuietLogs {
		c.LogLevel = orDefault(c.LogLevel, s.LogLevel)
	}
	c.DeploymentProfile = orDefault(s.DeploymentProfile, c.DeploymentProfile)
}

// setMetrics makes config.json's choice of how samples are taken.
func (d *sandboxDefaults) setMetrics(s *spec) {
	s.Runtime.DisableMetrics = d.DisableMetrics
	if d.MetricsInterval != nil {
		s.Runtime.MetricsSampleInterval = *d.MetricsInterval
	}
}

// readSettings reads config.json; one that is missing says nothing.
func readSettings(file string) (settings, error) {
	var s settings
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, wrap(ErrIO, err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, &Error{Kind: ErrInvalidConfig, Message: file, Cause: err}
	}
	s.DeploymentProfile = deploymentProfile(string(s.DeploymentProfile))
	if err := s.DeploymentProfile.validate(); err != nil {
		return s, &Error{Kind: ErrInvalidConfig, Message: file, Cause: err}
	}
	p := &s.Paths
	for _, path := range []*string{&s.Home, &p.MSB, &p.Libkrunfw, &p.Cache, &p.Sandboxes, &p.Volumes, &p.Snapshots, &p.Secrets} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return s, wrap(ErrIO, err)
		}
	}
	return s, nil
}

// How long the database is waited for unless config.json says otherwise.
const (
	defaultBusySeconds    = 30
	defaultConnectSeconds = 30
)

// busyTimeout is how long one statement waits for other processes.
func (s *settings) busyTimeout() time.Duration {
	seconds := uint32(defaultBusySeconds)
	if d := s.Database.BusySeconds; d != nil {
		seconds = *d
	}
	return max(time.Duration(seconds)*time.Second, time.Millisecond) // 0 is the store's choice
}

// connectSeconds is how long a runtime waits for the database.
func (s *settings) connectSeconds() uint64 {
	if d := s.Database.ConnectSeconds; d != nil {
		return *d
	}
	return defaultConnectSeconds
}
