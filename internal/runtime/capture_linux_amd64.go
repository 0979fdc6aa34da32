package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gomsb/gomsb/guestagent/image"
	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/template"
	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/rootfs/passthrough"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/virtio/fs"
)

// Prepare begins to save the machine into d.
func (m *microVM) Prepare(ctx context.Context, d *checkpoint.Draft) (*format.Draft, error) {
	m.saving.Lock()
	defer m.saving.Unlock()
	if ctx.Err() != nil { // it may be closed
		return nil, context.Cause(ctx)
	}
	base := m.base
	if m.wantsBase(d.Lifetime()) {
		err := m.prepareBase(ctx)
		switch {
		case err == nil:
			base = nil // Capture will know it
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		default:
			m.cfg.Logger.Warn(noBase, "err", err)
		}
	}
	machine, err := format.Begin(ctx, d.MachineDir(), base, d.Lifetime())
	if err != nil {
		err = errors.Join(err, m.dropNext())
	}
	return machine, err
}

// Manifest describes the machine.
func (m *microVM) Manifest() checkpoint.Manifest { return m.cfg.Manifest() }

// Capture saves the machine, which stands still, into d.
func (m *microVM) Capture(ctx context.Context, d *checkpoint.Draft, machine *format.Draft) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	if ctx.Err() != nil { // it may be closed
		return context.Cause(ctx)
	}
	state, err := m.vm.SaveState()
	if errors.Is(err, fs.ErrBusy) || errors.Is(err, passthrough.ErrLocks) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return err
	}
	header, err := m.header()
	if err != nil {
		return err
	}
	memory, err := m.contents(&header)
	if err != nil {
		return err
	}
	for i, disk := range m.cfg.Disks {
		if !disk.ReadOnly && disk.Format != "raw" { // that keeps tables in memory
			if err := m.disks[i].Backend.Flush(); err != nil {
				return err
			}
		}
	}
	if err := m.cfg.CopyDisks(ctx, d); err != nil {
		return err
	}
	if m.next != nil {
		if err := m.rebase(ctx, header, state, memory); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			m.cfg.Logger.Warn(noBase, "err", err)
		}
		machine.On(m.base)
		if memory, err = m.contents(&header); err != nil {
			return err
		}
	}
	if err := machine.Capture(ctx, header, state, memory); err != nil || d.Lifetime() != format.Passing {
		return err
	}
	m.last, err = machine.Size()
	return err
}

// header describes the machine.
func (m *microVM) header() (format.Header, error) {
	h, err := headerOf(&m.cfg, m.kernel)
	if err != nil {
		return h, err
	}
	h.Profile, h.Devices = string(m.vm.Profile()), m.vm.Devices()
	for _, r := range m.vm.Contents() {
		h.Regions = append(h.Regions, format.Region{Address: r.Base, Size: r.Size})
	}
	return h, nil
}

// headerOf describes a machine of this host with a kernel of the given digest, as far as that
// is known before it is built.
func headerOf(cfg *MachineConfig, kernel string) (format.Header, error) {
	host, err := template.Host()
	return format.Header{
		Kind: format.Full, Host: host, Kernel: kernel, Agent: image.SHA256, VCPUs: cfg.VCPUs, MaxVCPUs: cfg.MaxVCPUs,
	}, err
}

// contents are the regions of memory that the header names.
func (m *microVM) contents(h *format.Header) (format.Memory, error) {
	var all format.Slices
	for _, r := range h.Regions {
		b, err := m.vm.Memory().Slice(r.Address, r.Size)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	if m.base != nil && slices.Equal(m.base.Header().Regions, h.Regions) {
		return format.Based{Memory: all, Base: m.base}, nil
	}
	return all, nil
}

// restore builds a machine that goes on where another one was saved.
func restore(cfg MachineConfig) (_ Machine, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("go on from %s: %w", cfg.Restore, err)
		}
	}()
	manifest, err := checkpoint.Open(cfg.Restore)
	if err != nil {
		return nil, err
	}
	if err := cfg.fit(manifest); err != nil {
		return nil, err
	}
	c, err := format.Open(context.Background(), checkpoint.MachineDir(cfg.Restore))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := fits(&cfg, c.Header()); err != nil {
		return nil, err
	}
	saved, err := template.Saved(c)
	if err != nil {
		return nil, err
	}
	m, err := build(cfg, saved)
	if errors.Is(err, vmm.ErrSavedState) {
		err = fmt.Errorf("%w: %w: %s", checkpoint.ErrMismatch, err, adviceSettings)
	}
	if err != nil {
		return nil, err
	}
	m.base, m.kernel = c, c.Header().Kernel
	cfg.Logger.Info("the guest goes on from a checkpoint", "source", manifest.Source, "saved", manifest.Created)
	return m, nil
}

// fits reports whether a checkpoint is of this host, and of the kernel and the agent that
// would be used here. Whether its memory and its devices are the machine's is seen when that
// is built.
func fits(cfg *MachineConfig, saved format.Header) error {
	if saved.Kind != format.Full {
		return fmt.Errorf("%w: it is a %s, not of a sandbox", checkpoint.ErrMismatch, saved.Kind)
	}
	digest, err := kernelDigest(cfg)
	if err != nil {
		return err
	}
	here, err := headerOf(cfg, digest)
	if err != nil {
		return err
	}
	here.Profile, here.Regions, here.Devices = saved.Profile, saved.Regions, saved.Devices
	return saved.Fits(here)
}

// kernelDigest is the digest of the kernel that a machine would boot.
func kernelDigest(cfg *MachineConfig) (string, error) {
	if cfg.Kernel == "" {
		return kernel.EmbeddedSHA256, nil
	}
	img, err := kernel.Open(cfg.Kernel)
	if err != nil {
		return "", err
	}
	digest := img.SHA256()
	return digest, img.Close()
}
