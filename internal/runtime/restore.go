package runtime

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/snapshot/format"
)

// defaultStats is how often a guest is asked about its memory that was when it was saved,
// though nobody here asks for it: the device must be the same.
const defaultStats = time.Second

// adviceSettings is what to do about a configuration that is not the saved machine's.
const adviceSettings = "restore it with the settings it was made with, or start from its disks alone"

// fit makes the configuration that of a machine which can go on where the one with the
// manifest was saved: what only the monitor decides is taken from there, what people decide
// must be alike. The error is a [format.MismatchError].
func (m *MachineConfig) fit(saved *checkpoint.Manifest) error {
	var all []format.Difference
	for _, d := range []format.Difference{
		{What: "number of processors", Have: upTo(saved.VCPUs, saved.MaxVCPUs), Want: upTo(m.VCPUs, m.MaxVCPUs)},
		{What: "memory in MiB", Have: upTo(saved.MemoryMiB, saved.MaxMemoryMiB), Want: upTo(m.MemoryMiB, m.MaxMemoryMiB)},
		{What: "list of disks", Have: diskList(saved.ReadOnly), Want: diskList(m.readOnly())},
		{What: "list of shares", Have: shareList(saved.Shares), Want: shareList(m.savedShares())},
		{What: "network", Have: presence(saved.Net != nil), Want: presence(m.Net != nil)},
	} {
		if d.Have != d.Want {
			d.Advice = adviceSettings
			all = append(all, d)
		}
	}
	if all != nil {
		return &format.MismatchError{Differences: all}
	}
	for i, s := range saved.Shares {
		m.Shares[i].Name, m.Shares[i].Tag = m.Shares[i].name(), s.Tag
	}
	m.Card = saved.Net
	if saved.Stats {
		m.StatsInterval = cmp.Or(m.StatsInterval, defaultStats)
	} else {
		m.StatsInterval = 0
	}
	return nil
}

func upTo(n, most int) string { return fmt.Sprintf("%d of at most %d", n, most) }

func presence(there bool) string {
	if there {
		return "there"
	}
	return "none"
}

func diskList(readOnly []bool) string {
	list := make([]string, len(readOnly))
	for i, ro := range readOnly {
		list[i] = "writable"
		if ro {
			list[i] = "read-only"
		}
	}
	return fmt.Sprintf("%d (%s)", len(list), strings.Join(list, ", "))
}

func shareList(shares []checkpoint.Share) string {
	list := make([]string, len(shares))
	for i, s := range shares {
		list[i] = s.Name
	}
	return fmt.Sprintf("%d (%s)", len(list), strings.Join(list, ", "))
}

// readOnly tells of each disk whether it is read-only.
func (m *MachineConfig) readOnly() []bool {
	list := make([]bool, len(m.Disks))
	for i, d := range m.Disks {
		list[i] = d.ReadOnly
	}
	return list
}

// savedShares are the shares as a manifest has them.
func (m *MachineConfig) savedShares() []checkpoint.Share {
	list := make([]checkpoint.Share, len(m.Shares))
	for i := range m.Shares {
		list[i] = checkpoint.Share{Tag: m.Shares[i].Tag, Name: m.Shares[i].name()}
	}
	return list
}

// name is what the configuration calls the share.
func (s *Share) name() string { return cmp.Or(s.Name, s.Tag) }

// Manifest describes the machine that was built by the configuration.
func (m *MachineConfig) Manifest() checkpoint.Manifest {
	return checkpoint.Manifest{
		Created: time.Now(), VCPUs: m.VCPUs, MaxVCPUs: m.MaxVCPUs, MemoryMiB: m.MemoryMiB, MaxMemoryMiB: m.MaxMemoryMiB,
		Stats: m.StatsInterval > 0, Net: m.card(), Shares: m.savedShares(), ReadOnly: m.readOnly(),
	}
}

// CopyDisks copies the disks that the guest can write to into a checkpoint. Nothing may write
// to them meanwhile.
func (m *MachineConfig) CopyDisks(ctx context.Context, d *checkpoint.Draft) error {
	for i, disk := range m.Disks {
		if disk.ReadOnly {
			continue
		}
		if err := d.CopyDisk(ctx, checkpoint.Disk{Index: i, Format: disk.Format, Own: disk.Own}, disk.Path); err != nil {
			return err
		}
	}
	return nil
}
