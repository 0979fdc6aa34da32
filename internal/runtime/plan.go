package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/template"
)

// fail is an error with the stage of the boot it belongs to.
func fail(stage launch.Stage, err error) error {
	return launch.NewBootError(stage, time.Now(), err)
}

func unsupported(stage launch.Stage, format string, args ...any) error {
	return fail(stage, fmt.Errorf("%w: %s", launch.ErrUnsupported, fmt.Sprintf(format, args...)))
}

// plan derives the machine from an invocation, or says what this runtime cannot do.
func plan(inv *launch.Invocation, getenv func(string) string) (MachineConfig, error) {
	c := inv.Config
	m := MachineConfig{
		VCPUs: int(inv.VCPUs), MaxVCPUs: int(max(inv.VCPUs, inv.MaxVCPUs)), MemoryMiB: int(inv.MemoryMiB), MaxMemoryMiB: int(max(inv.MemoryMiB, inv.MaxMemoryMiB)),
		Kernel:   kernelPath(inv, getenv),
		Restore:  inv.Restore,
		Bases:    filepath.Join(c.SandboxesDir, inv.Name, "bases"),
		Words:    strings.TrimSpace("transparent_hugepage=" + c.THP + " " + getenv(wordsEnv)),
		CacheDir: filepath.Join(filepath.Dir(filepath.Dir(c.DBPath)), "cache", "gomsb"),
	}
	if interval := c.Metrics.SampleIntervalMS; interval != nil && !c.Metrics.Disabled {
		m.StatsInterval = time.Duration(min(*interval, maxIntervalMS)) * time.Millisecond
	}
	if c.InitPath != nil {
		return m, unsupported(launch.StageConfig, "a first program of the guest's own (init_path %s): use an init hand-off", *c.InitPath)
	}
	root, err := rootDisks(&c.Rootfs)
	if err != nil {
		return m, err
	}
	m.Disks = root
	for _, s := range c.Disks {
		d, err := launch.ParseDisk(s)
		if err != nil {
			return m, fail(launch.StageMount, err)
		}
		if err := checkFormat(d.Format, d.ReadOnly); err != nil {
			return m, fail(launch.StageMount, fmt.Errorf("disk %s: %w", d.Host, err))
		}
		m.Disks = append(m.Disks, Disk{Path: d.Host, Format: d.Format, ReadOnly: d.ReadOnly, Serial: d.ID})
	}
	for i := range m.Disks {
		if m.Disks[i].Serial == "" {
			m.Disks[i].Serial = "vd" + string(rune('a'+i))
		}
		m.Disks[i].Own = filepath.Dir(m.Disks[i].Path) == filepath.Join(c.SandboxesDir, inv.Name)
		if err := checkReadable(m.Disks[i].Path); err != nil {
			stage := launch.StageMount
			if m.Disks[i].Root {
				stage = launch.StageImage
			}
			return m, fail(stage, fmt.Errorf("disk image: %w", err))
		}
	}
	if m.Shares, err = planShares(c); err != nil {
		return m, err
	}
	m.useTemplates(getenv)
	return m, checkNetwork(c)
}

// useTemplates makes a machine of our own kernel one that may have a boot template: what
// the guest finds at boot then does not tell whose it is.
func (m *MachineConfig) useTemplates(getenv func(string) string) {
	if m.Restore != "" || m.Kernel != "" || getenv(wordsEnv) != "" || getenv(templatesEnv) == "off" {
		return
	}
	m.Templates = filepath.Join(m.CacheDir, "templates")
	for i := range m.Shares {
		if s := &m.Shares[i]; s.Tag != rootTag && s.Tag != runtimeTag {
			s.Name, s.Tag = s.Tag, template.Tag(i)
		}
	}
}

const (
	// wordsEnv is the variable with words for the kernel's command line.
	wordsEnv = "MSB_KRUN_KERNEL_CMDLINE"
	// templatesEnv is the variable that switches boot templates off.
	templatesEnv = "MSB_GOMSB_TEMPLATES"
)

// maxIntervalMS bounds the sampling interval to an hour.
const maxIntervalMS = 3600_000

// rootDisks are the devices of the root file system.
func rootDisks(r *launch.Rootfs) ([]Disk, error) {
	if r.Path != nil {
		return nil, nil // a share
	}
	if r.Disk == nil {
		return nil, fail(launch.StageImage, errors.New("the configuration names no root disk"))
	}
	format := "raw"
	if r.DiskFormat != nil {
		format = *r.DiskFormat
	}
	// The format alone says that this is an image: its layers are never written.
	readOnly := r.DiskReadOnly || format == "vmdk"
	if err := checkFormat(format, readOnly); err != nil {
		return nil, fail(launch.StageImage, fmt.Errorf("root disk %s: %w", *r.Disk, err))
	}
	disks := []Disk{{Path: *r.Disk, Format: format, ReadOnly: readOnly, Root: true}}
	if r.Upper == nil {
		return disks, nil
	}
	upper := "raw"
	if r.UpperFormat != nil {
		upper = *r.UpperFormat
	}
	if upper != "raw" && upper != "qcow2" {
		return nil, unsupported(launch.StageImage, "a writable layer of format %s (%s): use raw or qcow2", upper, *r.Upper)
	}
	return append(disks, Disk{Path: *r.Upper, Format: upper, Root: true}), nil
}

func checkFormat(format string, readOnly bool) error {
	switch {
	case format == "raw", format == "qcow2", format == "vmdk" && readOnly:
		return nil
	case format == "vmdk":
		return fmt.Errorf("%w: a writable vmdk: make it read-only", launch.ErrUnsupported)
	}
	return fmt.Errorf("%w: disk format %q", launch.ErrUnsupported, format)
}

func checkReadable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// checkNetwork refuses what this network cannot do, and vsock routes that cannot be.
func checkNetwork(c *launch.Config) error {
	if multiTenant(c) && len(c.Vsock) > 0 {
		return fail(launch.StageNetwork, errors.New("vsock routes are not for the deployment profile multi_tenant"))
	}
	seen := make(map[uint32]bool)
	for _, r := range c.Vsock {
		switch {
		case r.SocketType != "" && r.SocketType != "stream":
			return unsupported(launch.StageNetwork, "vsock routes of type %s (%s)", r.SocketType, r.HostSocket)
		case r.Port == AgentPort || r.Port == HeartbeatPort:
			return fail(launch.StageNetwork, fmt.Errorf("vsock port %d belongs to the guest agent: choose another", r.Port))
		case seen[r.Port]:
			return fail(launch.StageNetwork, fmt.Errorf("vsock port %d is routed twice", r.Port))
		case !filepath.IsAbs(r.HostSocket):
			return fail(launch.StageNetwork, fmt.Errorf("vsock route to %q: want an absolute path", r.HostSocket))
		}
		seen[r.Port] = true
	}
	return nil
}

// kernelPath chooses the guest kernel; see the package comment.
func kernelPath(inv *launch.Invocation, getenv func(string) string) string {
	if inv.Kernel != "" {
		return inv.Kernel
	}
	if p := getenv("MSB_KERNEL"); p != "" {
		return p
	}
	bundle := inv.Config.LibkrunfwPath
	if bundle == "" {
		return ""
	}
	if getenv("MSB_GOMSB_KERNEL") == "bundle" || !strings.HasPrefix(filepath.Base(bundle), "libkrunfw.so.") {
		return bundle
	}
	return ""
}
