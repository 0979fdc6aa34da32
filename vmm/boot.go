package vmm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/vmm/arch/amd64"
	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/virtio"
	"github.com/gomsb/gomsb/vmm/virtio/balloon"
	"github.com/gomsb/gomsb/vmm/virtio/blk"
	"github.com/gomsb/gomsb/vmm/virtio/console"
	"github.com/gomsb/gomsb/vmm/virtio/fs"
	"github.com/gomsb/gomsb/vmm/virtio/net"
	"github.com/gomsb/gomsb/vmm/virtio/rng"
	"github.com/gomsb/gomsb/vmm/virtio/vsock"
)

// attachDevices puts the devices on the bus, in the order of the official monitor as far
// as they exist there. It takes the backends that have got an owner out of own.
func (m *Machine) attachDevices(cfg *Config, own *backends) error {
	var err error
	if m.balloon, err = balloon.New(balloon.Config{StatsInterval: cfg.StatsInterval, Logger: m.log}); err != nil {
		return err
	}
	if err := m.attach("balloon", m.balloon); err != nil {
		return err
	}
	if err := m.attachPluggable(); err != nil {
		return err
	}
	entropy, err := rng.New(rng.Config{Logger: m.log})
	if err != nil {
		return err
	}
	if err := m.attach("rng", entropy); err != nil {
		return err
	}
	screen, err := console.New(console.Config{Ports: []console.Port{{Console: true, Output: cfg.Console}}, Logger: m.log})
	if err != nil {
		return err
	}
	if err := m.attach("console", screen); err != nil {
		return err
	}
	if err := m.attachShares(own); err != nil {
		return err
	}
	if err := m.attachDisks(own); err != nil {
		return err
	}
	if cfg.Vsock != nil {
		if m.vsock, err = vsock.New(vsock.Config{GuestCID: cfg.Vsock.GuestCID, Listener: cfg.Vsock.Listener, Logger: m.log}); err != nil {
			return err
		}
		if err := m.attach("vsock", m.vsock); err != nil {
			return err
		}
	}
	if cfg.Net == nil {
		return nil
	}
	if m.net, err = net.New(*cfg.Net.device(m.log)); err != nil {
		return err
	}
	return m.attach("net", m.net)
}

func (m *Machine) attachShares(own *backends) error {
	for len(own.shares) > 0 {
		s := own.shares[0]
		dev, err := fs.New(fs.Config{Tag: s.Tag, Backend: s.Backend, Logger: m.log})
		if err != nil {
			return fmt.Errorf("share %s: %w", s.Tag, err)
		}
		own.shares = own.shares[1:]
		if err := m.attach("share "+s.Tag, dev); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) attachDisks(own *backends) error {
	for len(own.disks) > 0 {
		d, n := own.disks[0], len(m.disks)
		dev, err := blk.New(blk.Config{Backend: d.Backend, ReadOnly: d.ReadOnly, Serial: d.Serial, Volatile: d.Volatile, Logger: m.log})
		if err != nil {
			return fmt.Errorf("disk %d: %w", n, err)
		}
		own.disks = own.disks[1:]
		m.disks = append(m.disks, dev)
		if err := m.attach(fmt.Sprintf("disk %d", n), dev); err != nil {
			return err
		}
	}
	return nil
}

// attach gives dev, which it owns from then on, a place on the bus.
func (m *Machine) attach(name string, dev virtio.Device) error {
	return m.bus.attach(name, m.vm, m.mem, dev)
}

// boot loads the kernel, with a table of the processors that may run.
func (m *Machine) boot(cfg *Config) error {
	words, possible := cfg.CommandLine(m.profile)+m.bus.words(), cfg.possible()
	if possible > cfg.VCPUs {
		words += fmt.Sprintf(" maxcpus=%d", cfg.VCPUs) // to start with
	}
	if m.spare != nil {
		words += " " + pluggableWords
	}
	if limit := commandLineLimit(cfg.Kernel); len(words) > limit {
		return fmt.Errorf("%w: kernel command line of %d bytes: this kernel takes %d", ErrConfig, len(words), limit)
	}
	b := amd64.BootConfig{Entry: cfg.Kernel.Entry, CommandLine: words, SetupHeader: cfg.Kernel.SetupHeader, VCPUs: possible}
	for _, s := range cfg.Kernel.Segments {
		part := amd64.Segment{Addr: s.Addr, Size: s.MemSize, Data: s.Data}
		if s.Offset >= 0 {
			part.File, part.Offset = cfg.Kernel.File(), s.Offset
		}
		b.Segments = append(b.Segments, part)
	}
	return amd64.Load(m.mem, b)
}

// makeVCPUs makes the processors, the first of which is about to run what is at entry.
func (m *Machine) makeVCPUs(cfg *Config, entry uint64, supported []hv.CPUIDEntry) error {
	template := amd64.Default()
	if m.profile == ProfileSoft {
		template = amd64.Soft()
	}
	m.boots = cfg.VCPUs
	possible := cfg.possible()
	for id := range possible {
		v, err := m.vm.CreateVCPU(id)
		if err != nil {
			return err
		}
		c := &vcpu{id: id, hv: v}
		if id < len(cfg.Affinity) {
			c.affinity = slices.Clone(cfg.Affinity[id])
		}
		c.held.Store(id >= cfg.VCPUs)
		m.vcpus = append(m.vcpus, c)
		if err := amd64.SetupVCPU(v, id, entry, template.CPUID(supported, id, possible)); err != nil {
			return errors.Join(fmt.Errorf("set up vCPU %d", id), err)
		}
	}
	return nil
}

// possible is how many processors there are, whether they may run or not.
func (c *Config) possible() int { return max(c.VCPUs, c.MaxVCPUs) }

// commandLineLimit is how many bytes of command line k takes.
func commandLineLimit(k *kernel.Image) int {
	if k.Embedded {
		return kernel.MaxCommandLine
	}
	return kernel.StockMaxCommandLine
}
