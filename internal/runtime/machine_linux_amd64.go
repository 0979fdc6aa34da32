package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gomsb/gomsb/guestagent/image"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/template"
	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/rootfs/passthrough"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/virtio/blk"
	"github.com/gomsb/gomsb/vmm/virtio/blk/qcow2"
	"github.com/gomsb/gomsb/vmm/virtio/vsock"
)

// guestCID is the guest's vsock address. The device ends in this process, so that all
// sandboxes of a host can have the same one.
const guestCID = 3

// microVM is a Machine by package vmm.
type microVM struct {
	vm    *vmm.Machine
	disks []vmm.Disk // the vm owns the backends; here for the last flush

	servers []*passthrough.Server // of cfg.Shares; the vm owns them

	cfg    MachineConfig
	kernel string             // digest of what it runs
	base   *format.Checkpoint // that its memory is mapped from; nil: none
	saving sync.Mutex         // held while it is saved, and when it is closed
	next   *format.Draft      // what will be base; nil: no other
	bases  int                // how many it had of its own
	last   int64              // how many bytes of memory were saved the last time copies were made; 0: never

	copied    *found              // the template that it is a copy of, nil: it boots
	recording *template.Recording // between Ready and Settled of its first copy
	watched   atomic.Bool         // it is that, and Settled is not over: its mappings must stay
	wanted    *template.Shape     // nil: no template is to be made

	close sync.Once
	err   error
}

// newMachine is the Factory of the program.
func newMachine(cfg MachineConfig) (Machine, error) {
	if cfg.Restore != "" {
		return restore(cfg)
	}
	t := findTemplate(&cfg)
	defer t.close()
	if t.saved != nil {
		m, err := build(cfg, t.saved)
		if err == nil {
			cfg.Logger.Info("the guest is a copy of a boot template")
			m.copied, m.base, t.open = t, t.open, nil
			m.watched.Store(t.first)
			return m, nil
		}
		if !errors.Is(err, vmm.ErrSavedState) {
			return nil, err
		}
		t.useless(err)
	}
	m, err := build(cfg, nil)
	if err != nil {
		return nil, err
	}
	m.wanted = t.shape
	return m, nil
}

// build builds the machine; of saved, if that is not nil.
func build(cfg MachineConfig, saved *vmm.Saved) (*microVM, error) {
	c := vmm.Config{
		VCPUs: cfg.VCPUs, MaxVCPUs: cfg.MaxVCPUs, Affinity: cfg.Affinity, MemoryMiB: cfg.MemoryMiB, MaxMemoryMiB: cfg.MaxMemoryMiB, Saved: saved,
		Console: cfg.Console, StatsInterval: cfg.StatsInterval, Logger: cfg.Logger,
		Vsock: &vmm.VsockConfig{GuestCID: guestCID, Listener: func(port uint32, c *vsock.Conn) bool { return cfg.Listen(port, c) }},
	}
	digest := kernel.EmbeddedSHA256
	if saved == nil {
		img, err := openKernel(cfg)
		if err != nil {
			return nil, err
		}
		defer func() { _ = img.Close() }() // it has been copied or mapped by then
		c.Kernel, digest = img, img.SHA256()
		c.CommandLine = func(p vmm.Profile) string { return commandLine(p, img, len(c.Disks), cfg.Words) }
	}
	var err error
	if c.Disks, err = openDisks(cfg); err != nil {
		return nil, err
	}
	servers, err := openShares(cfg.Shares, cfg.Logger)
	if err != nil {
		return nil, errors.Join(err, closeDisks(c.Disks))
	}
	m := &microVM{cfg: cfg, kernel: digest, disks: c.Disks, servers: servers}
	for i, s := range cfg.Shares {
		c.Shares = append(c.Shares, vmm.Share{Tag: s.Tag, Backend: servers[i]})
	}
	c.Net = nic(&cfg)
	if m.vm, err = vmm.New(c); err != nil {
		return nil, err
	}
	if cfg.Net != nil {
		cfg.Net.Gateway.Plug(card{m.vm.Net()})
	}
	return m, nil
}

// nic is the network card.
func nic(cfg *MachineConfig) *vmm.NetConfig {
	card := cfg.card()
	if card == nil {
		return nil
	}
	c := &vmm.NetConfig{MAC: card.MAC, MTU: card.MTU, Backend: cable{cfg.Net.Gateway}}
	if l := cfg.Net.Limits; l != nil {
		c.Egress, c.Ingress = limitOf(l.Egress), limitOf(l.Ingress)
	}
	return c
}

// commandLine are all words of the kernel's command line but the devices'; the last disk
// is the agent's.
func commandLine(p vmm.Profile, img *kernel.Image, disks int, words string) string {
	return img.CommandLine(string(p)) + " " + rootWords(disks-1) + " " + words
}

// rootWords make disk n, the agent's, the kernel's root.
func rootWords(n int) string {
	return "root=" + launch.DiskPath(n) + " rootfstype=erofs ro init=/init"
}

func openKernel(cfg MachineConfig) (*kernel.Image, error) {
	if cfg.Kernel != "" {
		return kernel.Open(cfg.Kernel)
	}
	return kernel.OpenEmbedded(cfg.CacheDir)
}

// openDisks opens the sandbox's disks and, last, the agent's. Nothing is left open after
// an error.
func openDisks(cfg MachineConfig) (disks []vmm.Disk, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeDisks(disks))
			disks = nil
		}
	}()
	for _, d := range cfg.Disks {
		backend, err := openDisk(d)
		if err != nil {
			stage := launch.StageMount
			if d.Root {
				stage = launch.StageImage
			}
			return disks, fail(stage, fmt.Errorf("disk %s: %w", d.Path, err))
		}
		disk := vmm.Disk{Backend: backend, ReadOnly: d.ReadOnly, Serial: d.Serial}
		if d.Own {
			disk.Volatile = cfg.Ephemeral
		}
		disks = append(disks, disk)
	}
	path, err := image.Open(cfg.CacheDir)
	if err != nil {
		return disks, err
	}
	backend, err := blk.OpenRaw(path, true)
	if err != nil {
		return disks, fmt.Errorf("guest agent: %w", err)
	}
	return append(disks, vmm.Disk{Backend: backend, ReadOnly: true, Serial: agentSerial}), nil
}

func closeDisks(disks []vmm.Disk) error {
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.Backend.Close())
	}
	return errors.Join(errs...)
}

// agentSerial is the serial number of the agent's own disk.
const agentSerial = "msb-agent"

func openDisk(d Disk) (blk.Backend, error) {
	switch d.Format {
	case "vmdk":
		return blk.OpenVMDK(d.Path)
	case "qcow2":
		return qcow2.Open(d.Path, d.ReadOnly)
	}
	return blk.OpenRaw(d.Path, d.ReadOnly)
}

func (m *microVM) Pause() error            { return m.vm.Pause() }
func (m *microVM) Resume() error           { return m.vm.Resume() }
func (m *microVM) Start() error            { return m.vm.Start() }
func (m *microVM) Done() <-chan struct{}   { return m.vm.Done() }
func (m *microVM) Stop()                   { m.vm.Stop() }
func (m *microVM) Allow(n int) error       { return m.vm.Allow(n) }
func (m *microVM) Allowed() int            { return m.vm.Allowed() }
func (m *microVM) Copied() bool            { return m.copied != nil }
func (m *microVM) Wanted() *template.Shape { return m.wanted }

func (m *microVM) Ready() {
	if m.copied == nil || !m.copied.first {
		return
	}
	var err error
	if m.recording, err = template.Record(m.vm); err != nil {
		m.copied.log.Warn(noRecording, "err", err)
	}
}

func (m *microVM) Settled() {
	defer m.watched.Store(false)
	if m.recording == nil {
		return
	}
	if err := m.copied.cache.Keep(m.copied.shape, m.recording); err != nil {
		m.copied.log.Warn(noRecording, "err", err)
	}
}

const noRecording = "cannot note what the next copy needs first"

func (m *microVM) Discredit() {
	if m.copied != nil {
		m.copied.useless(errNotReady)
	}
}

func (m *microVM) Outcome() Outcome {
	r, err := m.vm.Wait(context.Background())
	if err != nil {
		return Outcome{Text: err.Error()}
	}
	return outcomeOf(r)
}

func outcomeOf(r vmm.Result) Outcome {
	return Outcome{
		Orderly: r.Kind == vmm.PowerOff || r.Kind == vmm.Halt, Reset: r.Kind == vmm.Reset, Stopped: r.Kind == vmm.Stopped, Text: r.String(),
	}
}

// Close also makes durable what a guest that was cut off did not: a disk whose writes
// were flushed by the guest costs next to nothing here.
func (m *microVM) Close() error {
	m.close.Do(func() {
		m.vm.Stop()
		<-m.vm.Done()
		m.saving.Lock() // whoever does that has heard of the end
		defer m.saving.Unlock()
		m.err = errors.Join(m.Flush(), m.vm.Close(), m.dropNext())
		if m.base != nil {
			m.err = errors.Join(m.err, m.base.Close())
		}
		if m.bases > 0 {
			m.err = errors.Join(m.err, os.RemoveAll(m.cfg.Bases))
		}
	})
	return m.err
}

// Flush makes durable what was written to the disks.
func (m *microVM) Flush() error {
	var errs []error
	for _, d := range m.disks {
		if !d.ReadOnly {
			errs = append(errs, d.Backend.Flush())
		}
	}
	return errors.Join(errs...)
}

func (m *microVM) Memory() Memory {
	d := m.vm.PluggableMemory()
	if d == nil {
		return Memory{TargetMiB: m.cfg.MemoryMiB, CurrentMiB: m.cfg.MemoryMiB}
	}
	s := d.Sizes()
	return Memory{TargetMiB: m.cfg.MemoryMiB + int(s.Target>>20), CurrentMiB: m.cfg.MemoryMiB + int(s.Plugged>>20), Driven: d.Driven()}
}

func (m *microVM) SetMemory(mib int) error {
	d := m.vm.PluggableMemory()
	if d == nil {
		return fmt.Errorf("%w: the machine started with all the memory that it can have", launch.ErrUnsupported)
	}
	// The last MiB of an odd number does not make a block.
	return d.SetTarget(min(uint64(mib-m.cfg.MemoryMiB)<<20, d.Sizes().Region))
}

func (m *microVM) Stats() Stats {
	memory := m.Memory()
	s := Stats{CPUTime: m.vm.CPUTime(), MemoryTotal: uint64(max(memory.TargetMiB, memory.CurrentMiB)) << 20}
	if guest, ok := m.vm.Balloon().Stats(); ok {
		if used, ok := guest.Used(); ok {
			s.MemoryKnown, s.MemoryUsed, s.MemoryAvailable = true, used, guest.Available
		}
	}
	for _, d := range m.vm.Disks() {
		n := d.Stats()
		s.DiskRead += n.Read
		s.DiskWritten += n.Written
	}
	if nic := m.vm.Net(); nic != nil {
		n := nic.Stats()
		s.NetReceived, s.NetSent = n.ReceivedBytes, n.SentBytes
	}
	return s
}
