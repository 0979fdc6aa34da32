package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) inspectCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "inspect <NAME>", Short: "Show everything known about a sandbox",
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := msb.GetSandbox(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			pending, err := pendingChanges(h)
			if err != nil {
				return err
			}
			if asJSON {
				return a.inspectJSON(h, pending)
			}
			return a.describeSandbox(h, pending)
		},
	}
	formatFlag(cmd, &asJSON)
	return cmd
}

func (a *app) inspectJSON(h *msb.SandboxHandle, pending []pendingChange) error {
	active := json.RawMessage("null")
	if text := h.ActiveConfigJSON(); text != "" {
		active = json.RawMessage(text)
	}
	return printJSON(a.Out, map[string]any{
		"name": h.Name(), "status": capitalised(h.Status()), "config": json.RawMessage(h.ConfigJSON()), "active_config": active,
		"pending_changes": pending, "created_at": timeJSON(h.CreatedAt()), "updated_at": timeJSON(h.UpdatedAt()),
	})
}

// pendingChange is a resource of a running sandbox that its next start changes.
type pendingChange struct {
	Field   string `json:"field"`
	Active  string `json:"active"`
	Desired string `json:"desired"`
	Effect  string `json:"effect"`
}

// pendingChanges are what the configuration has, and the machine that runs has not.
func pendingChanges(h *msb.SandboxHandle) ([]pendingChange, error) {
	pending := []pendingChange{}
	if h.ActiveConfigJSON() == "" {
		return pending, nil
	}
	desired, err := h.Config()
	if err != nil {
		return nil, err
	}
	active, err := h.EffectiveConfig()
	if err != nil {
		return nil, err
	}
	processors := func(n uint8) string { return strconv.Itoa(int(n)) }
	for _, f := range [...]struct{ field, active, desired string }{
		{"cpus", processors(active.CPUs), processors(desired.CPUs)},
		{"max_cpus", processors(active.MaxCPUs), processors(desired.MaxCPUs)},
		{"memory", memory(active.MemoryMiB), memory(desired.MemoryMiB)},
		{"max_memory", memory(active.MaxMemoryMiB), memory(desired.MaxMemoryMiB)},
	} {
		if f.active != f.desired {
			pending = append(pending, pendingChange{f.field, f.active, f.desired, "requires restart"})
		}
	}
	return pending, nil
}

// describeSandbox prints what inspect says to people.
func (a *app) describeSandbox(h *msb.SandboxHandle, pending []pendingChange) error {
	c, err := h.Config()
	if err != nil {
		return err
	}
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintln(a.Out, ui.Key(a.Out, fmt.Sprintf("%-16s", key+":"))+ui.Plain(value))
		}
	}
	line("Name", h.Name())
	fmt.Fprintln(a.Out, ui.Key(a.Out, "Status:         ")+ui.Status(a.Out, string(h.Status())))
	line("Created", ui.Time(h.CreatedAt()))
	line("Updated", ui.Time(h.UpdatedAt()))
	line("Image", h.Image())
	line("Root Disk", rootDiskText(c))
	fmt.Fprintln(a.Out, "\n"+ui.Title(a.Out, "Resources"))
	resource := func(key, field, value string) {
		for _, p := range pending {
			if p.Field == field {
				value = p.Active + " → " + p.Desired + " next start"
			}
		}
		fmt.Fprintln(a.Out, "  "+ui.Key(a.Out, fmt.Sprintf("%-14s", key+":"))+value)
	}
	resource("CPUs", "cpus", strconv.Itoa(int(c.CPUs)))
	resource("Max CPUs", "max_cpus", strconv.Itoa(int(c.MaxCPUs)))
	resource("CPU Placement", "", cmp.Or(string(c.CPUPlacement), "inherit"))
	resource("Memory", "memory", fmt.Sprintf("%d MiB", c.MemoryMiB))
	resource("Max Memory", "max_memory", fmt.Sprintf("%d MiB", c.MaxMemoryMiB))
	resource("THP", "", string(thp(c)))
	line("Security", cmp.Or(string(c.SecurityProfile), "default"))
	line("Deployment Profile", strings.ReplaceAll(cmp.Or(string(c.DeploymentProfile), "single-tenant"), "_", "-"))
	line("Workdir", c.Workdir)
	line("Shell", cmp.Or(c.Shell, "/bin/sh"))
	var listed struct { // in the order of the configuration, which a map has not
		Env []struct{ Key, Value string }
	}
	if err := json.Unmarshal([]byte(h.ConfigJSON()), &listed); err != nil {
		return err
	}
	var env []string
	for _, v := range listed.Env {
		env = append(env, v.Key+"="+v.Value)
	}
	a.section("Environment", env)
	a.section("Labels", assignments(sorted(c.Labels), c.Labels))
	var mounts []string
	for _, guest := range sorted(c.Volumes) {
		mounts = append(mounts, fmt.Sprintf("%-15s → %s", guest, mountText(c.Volumes[guest])))
	}
	a.section("Mounts", mounts)
	running, err := h.EffectiveConfig() // which has the port that the host chose for port 0
	if err != nil {
		return err
	}
	a.section("Ports", publishedPorts(running))
	return nil
}

// section prints a title and lines below it, nothing without lines.
func (a *app) section(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(a.Out, "\n"+ui.Title(a.Out, title))
	for _, l := range lines {
		fmt.Fprintln(a.Out, "  "+ui.Plain(l))
	}
}

// rootDiskText describes where the changes of an image's root are kept; empty for roots
// that are a directory or a disk image themselves.
func rootDiskText(c *msb.SandboxConfig) string {
	d := c.RootDisk
	if d == nil {
		return ""
	}
	kind := "tmpfs"
	switch d.Kind() {
	case msb.RootDiskKindManaged:
		return fmt.Sprintf("%d MiB (managed, ext4)", cmp.Or(d.SizeMiB, 4096))
	case msb.RootDiskKindDiskImage:
		return fmt.Sprintf("%s (image, %s)", d.Path, cmp.Or(d.Format, strings.TrimPrefix(filepath.Ext(d.Path), "."), "raw"))
	case msb.RootDiskKindFlat:
		kind = "flat, " + cmp.Or(d.Fstype, "ext4")
	}
	if d.SizeMiB == 0 {
		return kind
	}
	return fmt.Sprintf("%d MiB (%s)", d.SizeMiB, kind)
}

// mountText is a mount's source and options.
func mountText(m msb.MountConfig) string {
	source := m.Bind
	switch m.Kind() {
	case msb.MountKindNamed:
		source = "volume:" + m.Named
	case msb.MountKindTmpfs:
		if source = "tmpfs"; m.SizeMiB > 0 {
			source += fmt.Sprintf(" (%d MiB)", m.SizeMiB)
		}
	case msb.MountKindDisk:
		source = "disk:" + m.Disk + " (" + cmp.Or(m.Format, strings.TrimPrefix(filepath.Ext(m.Disk), ".")) + ")"
		if m.Fstype != "" {
			source += " [" + m.Fstype + "]"
		}
	}
	options := "rw"
	for _, o := range [...]struct {
		name string
		on   bool
	}{{"ro", m.Readonly}, {"noexec", m.Noexec}, {"nosuid", m.Nosuid}, {"nodev", m.Nodev}} {
		switch {
		case o.on && o.name == "ro":
			options = "ro"
		case o.on:
			options += "," + o.name
		}
	}
	return source + " (" + options + ")"
}
