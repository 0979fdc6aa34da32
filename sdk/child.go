package microsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// child is a sandbox that goes on where another was saved.
type child struct {
	spec  *spec
	text  string      // its configuration, in the form of the row
	disks []savedDisk // to copy into its directory

	// Known when it is about to be made.
	dir      string // of the checkpoint
	payload  string // the disk of the root, if it is not in dir
	manifest *checkpoint.Manifest
}

// child derives the configuration of a copy: that of the sandbox that was saved, without
// its name, published ports and disks, with what c asks for. It fails with ErrInvalidConfig
// for what a machine that goes on cannot have.
func (s *savedSandbox) child(h home, c *SandboxConfig) (*child, error) {
	if err := checkName(c.Name); err != nil {
		return nil, err
	}
	old, err := parseSpec(string(s.Config))
	if err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	if err := c.checkChild(old); err != nil {
		return nil, err
	}
	d, err := parseDocument(string(s.Config))
	if err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	d.set(c.Name, "name")
	d.set(c.Ephemeral, "lifecycle", "ephemeral")
	if c.Hostname != "" {
		d.set(c.Hostname, "runtime", "hostname")
	}
	if t := wholeSeconds(c.MaxDuration); t != nil {
		d.set(*t, "lifecycle", "max_duration_secs")
	}
	if t := wholeSeconds(c.IdleTimeout); t != nil {
		d.set(*t, "lifecycle", "idle_timeout_secs")
	}
	if c.LogLevel != LogLevelDefault {
		d.set(string(c.LogLevel), "runtime", "log_level")
	}
	for _, k := range sortedKeys(c.Labels) {
		d.set(c.Labels[k], "labels", k)
	}
	if err := setPorts(d, c); err != nil {
		return nil, err
	}
	if err := s.moveDisks(d, h.sandbox(c.Name)); err != nil {
		return nil, err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	k := &child{text: string(text), disks: s.Disks}
	if k.spec, err = parseSpec(k.text); err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	k.spec.secretValues = c.secretValues()
	_, err = k.spec.networkConfig() // secrets have their values, or it is known before anything is done
	return k, err
}

// setPorts makes the ports that c publishes the only ones.
func setPorts(d document, c *SandboxConfig) error {
	network, _ := d["network"].(map[string]any)
	if network == nil {
		network = d.within("network")
	}
	ports := &SandboxConfig{Ports: c.Ports, PortsUDP: c.PortsUDP, PortBindings: c.PortBindings}
	if n := c.Network; n != nil {
		ports.Network = &NetworkConfig{Ports: n.Ports, PortBindings: n.PortBindings}
	}
	text, err := ports.networkSpec()
	if err != nil {
		return err
	}
	var n struct {
		Ports []launch.PublishedPort `json:"ports"`
	}
	if err := json.Unmarshal(text, &n); err != nil {
		return wrap(ErrInternal, err)
	}
	if len(n.Ports) > 0 && network["enabled"] == false {
		return fail(ErrInvalidConfig, "ports cannot be published: the sandbox that was saved has no network")
	}
	network["ports"] = n.Ports
	return nil
}

// moveDisks makes a configuration name the copies of disks in dir. A volume becomes a disk
// image at the same place.
func (s *savedSandbox) moveDisks(d document, dir string) error {
	mounts, _ := d["mounts"].([]any)
	for _, disk := range s.Disks {
		path := filepath.Join(dir, disk.File)
		if disk.Guest == "" {
			image, _ := d["image"].(map[string]any)
			switch {
			case image["DiskImage"] != nil:
				d.set(path, "image", "DiskImage", "path")
			case disk.File != upperName && disk.File != flatName:
				d.set(path, "image", "Oci", "root_disk", "path")
			}
			continue
		}
		i := slices.IndexFunc(mounts, func(m any) bool { return text(m, "guest") == disk.Guest })
		if i < 0 {
			return fail(ErrInvalidConfig, "the saved sandbox has a disk on %s that its configuration does not know", disk.Guest)
		}
		m := mounts[i].(map[string]any) // it has a text
		mounts[i] = map[string]any{
			"type": "DiskImage", "host": path, "guest": disk.Guest, "format": capitalised(disk.Format), "fstype": pointer(disk.Fstype), "options": m["options"],
		}
	}
	return nil
}

// capitalised is a disk's format as configurations have it: Raw or Qcow2.
func capitalised(format string) string { return strings.ToUpper(format[:1]) + format[1:] }

// childFields are the fields of a SandboxConfig that a machine that goes on can have anew.
var childFields = []string{
	"Name", "Snapshot", "DiskOnly", "TrustConfig", "Hostname", "Labels", "Secrets", "Ports", "PortsUDP", "PortBindings", "MaxDuration", "IdleTimeout", "LogLevel", "Detached", "Ephemeral",
	"Replace", "ReplaceWithTimeout", "PullPolicy", "RegistryAuth", "RegistryInsecure", "RegistryCACerts", "RegistryCACertPaths",
}

// checkChild refuses what contradicts a saved machine.
func (c *SandboxConfig) checkChild(old *spec) error {
	have := &SandboxConfig{CPUs: old.Resources.CPUs, MaxCPUs: old.Resources.MaxCPUs, MemoryMiB: old.Resources.MemoryMiB, MaxMemoryMiB: old.Resources.MaxMemoryMiB}
	v, w := reflect.ValueOf(c).Elem(), reflect.ValueOf(have).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || v.Field(i).IsZero() || slices.Contains(childFields, f.Name) {
			continue
		}
		if k := f.Type.Kind(); (k == reflect.Map || k == reflect.Slice) && v.Field(i).Len() == 0 || f.Type.Comparable() && v.Field(i).Equal(w.Field(i)) {
			continue
		}
		if f.Name == "Network" && c.Network.usual() {
			continue
		}
		return fail(ErrInvalidConfig, "%s cannot be given to a machine that goes on from its memory: leave it out, or start anew from a disk alone", f.Name)
	}
	if c.startup != nil {
		return fail(ErrInvalidConfig, "a machine that goes on from its memory runs what it ran: leave the startup command out, or start anew from a disk alone")
	}
	if len(c.Hostname) > maxHostnameBytes {
		return fail(ErrInvalidConfig, "hostname is too long: %d bytes (max %d)", len(c.Hostname), maxHostnameBytes)
	}
	for _, k := range sortedKeys(c.Labels) {
		if err := checkLabel(k); err != nil {
			return err
		}
	}
	return c.checkChildSecrets(old)
}

// usual reports a network that is, but for its ports, the one that a sandbox has which asks
// for none.
func (n *NetworkConfig) usual() bool {
	own := *n
	own.Ports, own.PortBindings = nil, nil
	asked, err := (&SandboxConfig{Network: &own}).networkSpec()
	plain, plainErr := (&SandboxConfig{}).networkSpec()
	return err == nil && plainErr == nil && string(asked) == string(plain)
}

// checkChildSecrets makes sure that c gives values to secrets that there are, and to all
// whose values are nowhere else.
func (c *SandboxConfig) checkChildSecrets(old *spec) error {
	n := launch.DefaultNetworkConfig()
	if len(old.Network) > 0 {
		if err := json.Unmarshal(old.Network, &n); err != nil {
			return &Error{Kind: ErrInvalidConfig, Message: "network configuration", Cause: err}
		}
	}
	known := n.Secrets.Secrets
	for _, e := range c.Secrets {
		i := slices.IndexFunc(known, func(s launch.Secret) bool { return s.EnvVar == e.EnvVar })
		if i < 0 {
			return fail(ErrInvalidConfig, "secret %s: the sandbox that was saved has none of that name", e.EnvVar)
		}
		if e.Value == "" || known[i].Source != nil {
			return fail(ErrInvalidConfig, "secret %s: a copy of a sandbox can be given the value of a secret alone, and only where none comes from an environment variable", e.EnvVar)
		}
	}
	values := c.secretValues()
	for _, s := range known {
		if s.Source == nil && s.Value == "" && values[s.EnvVar] == "" {
			return fail(ErrInvalidConfig, "the value of secret %s was given when the sandbox was created and is not kept: give it again, with WithSecrets(Secret.Env(%q, value, SecretEnvOptions{}))", s.EnvVar, s.EnvVar)
		}
	}
	return nil
}

// goesOn gives a child the checkpoint that it goes on from, whose manifest must be of the
// same sandbox.
func (k *child) goesOn(dir, payload string) (err error) {
	k.dir, k.payload = dir, payload
	if k.manifest, err = checkpoint.Open(dir); err != nil {
		return checkpointError(err)
	}
	same := slices.EqualFunc(k.disks, k.manifest.Disks, func(a savedDisk, b checkpoint.Disk) bool { return a.Index == b.Index && a.Format == b.Format })
	if !same {
		return fail(ErrSnapshotIntegrity, "the checkpoint %s has other disks than the sandbox it is said to be of", dir)
	}
	return nil
}

// unbornName is a file in the directory of a sandbox that goes on from a checkpoint and has
// not come up yet. The runtime removes it when the guest serves. A sandbox that has ended
// with it is nothing that can be started.
const unbornName = launch.UnbornName

// provision makes the disks of a new sandbox in dir copies of those that were saved.
func (k *child) provision(ctx context.Context, dir string) error {
	if err := os.WriteFile(filepath.Join(dir, unbornName), nil, 0o600); err != nil {
		return wrap(ErrIO, err)
	}
	for i, disk := range k.disks {
		// It becomes durable with the first flush of the guest, as what it would lose before.
		if err := cloneDisk(ctx, filepath.Join(dir, disk.File), k.diskPath(i), FlatCloneAuto); err != nil {
			return snapshotError(err)
		}
	}
	return nil
}

// diskPath is the saved disk i.
func (k *child) diskPath(i int) string {
	if k.disks[i].Guest == "" && k.payload != "" {
		return k.payload
	}
	return k.manifest.Disks[i].Path(k.dir)
}

// launch makes the options of a runtime those of the machine that was saved.
func (k *child) launch(o *launch.Options) {
	m := k.manifest
	o.VCPUs, o.MaxVCPUs, o.MemoryMiB, o.MaxMemoryMiB = uint8(m.VCPUs), uint8(m.MaxVCPUs), uint32(m.MemoryMiB), uint32(m.MaxMemoryMiB)
	o.Restore = k.dir
}

// unborn reports that a sandbox was to go on from a checkpoint and never did.
func (c *catalog) unborn(row store.Sandbox) bool {
	if checkName(row.Name) != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(c.home.sandbox(row.Name), unbornName))
	return err == nil
}

// checkpointError gives an error about a checkpoint its kind.
func checkpointError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, checkpoint.ErrVersion):
		return wrap(ErrUnsupportedOperation, err)
	case errors.Is(err, checkpoint.ErrDamaged), errors.Is(err, fs.ErrNotExist):
		return wrap(ErrSnapshotIntegrity, err)
	}
	return wrap(ErrIO, err)
}
