package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gomsb/gomsb/guestagent/image"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/rootfs/passthrough"
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
	vm        *vmm.Machine
	memoryMiB int        // that it starts with
	disks     []vmm.Disk // the vm owns the backends; here for the last flush

	shares  []Share
	servers []*passthrough.Server // of shares; the vm owns them

	close sync.Once
	err   error
}

// newMachine is the Factory of the program.
func newMachine(cfg MachineConfig) (Machine, error) {
	img, err := openKernel(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = img.Close() }() // it has been copied or mapped by then
	disks, err := openDisks(cfg)
	if err != nil {
		return nil, err
	}
	servers, err := openShares(cfg.Shares, cfg.Logger)
	if err != nil {
		return nil, errors.Join(err, closeDisks(disks))
	}
	m := &microVM{memoryMiB: cfg.MemoryMiB, disks: disks, shares: cfg.Shares, servers: servers}
	var shares []vmm.Share
	for i, s := range cfg.Shares {
		shares = append(shares, vmm.Share{Tag: s.Tag, Backend: servers[i]})
	}
	var nic *vmm.NetConfig
	if cfg.Net != nil {
		nic = &vmm.NetConfig{MAC: cfg.Net.MAC, MTU: cfg.Net.MTU, Backend: cable{cfg.Net.Gateway}}
		if l := cfg.Net.Limits; l != nil {
			nic.Egress, nic.Ingress = limitOf(l.Egress), limitOf(l.Ingress)
		}
	}
	m.vm, err = vmm.New(vmm.Config{
		VCPUs: cfg.VCPUs, MaxVCPUs: cfg.MaxVCPUs, MemoryMiB: cfg.MemoryMiB, MaxMemoryMiB: cfg.MaxMemoryMiB, Kernel: img, Disks: disks, Shares: shares,
		CommandLine: func(p vmm.Profile) string {
			return img.CommandLine(string(p)) + " " + rootWords(len(disks)-1) + " " + cfg.Words
		},
		Net: nic, Console: cfg.Console, StatsInterval: cfg.StatsInterval, Logger: cfg.Logger,
		Vsock: &vmm.VsockConfig{GuestCID: guestCID, Listener: func(port uint32, c *vsock.Conn) bool { return cfg.Listen(port, c) }},
	})
	if err != nil {
		return nil, err
	}
	if cfg.Net != nil {
		cfg.Net.Gateway.Plug(card{m.vm.Net()})
	}
	return m, nil
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

func (m *microVM) Start() error          { return m.vm.Start() }
func (m *microVM) Done() <-chan struct{} { return m.vm.Done() }
func (m *microVM) Stop()                 { m.vm.Stop() }
func (m *microVM) Allow(n int) error     { return m.vm.Allow(n) }
func (m *microVM) Pause() error          { return m.vm.Pause() }
func (m *microVM) Resume() error         { return m.vm.Resume() }

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
		var errs []error
		for _, d := range m.disks {
			if !d.ReadOnly {
				errs = append(errs, d.Backend.Flush())
			}
		}
		m.err = errors.Join(append(errs, m.vm.Close())...)
	})
	return m.err
}

func (m *microVM) Memory() Memory {
	d := m.vm.PluggableMemory()
	if d == nil {
		return Memory{TargetMiB: m.memoryMiB, CurrentMiB: m.memoryMiB}
	}
	s := d.Sizes()
	return Memory{TargetMiB: m.memoryMiB + int(s.Target>>20), CurrentMiB: m.memoryMiB + int(s.Plugged>>20), Driven: d.Driven()}
}

func (m *microVM) SetMemory(mib int) error {
	d := m.vm.PluggableMemory()
	if d == nil {
		return fmt.Errorf("%w: the machine started with all the memory that it can have", launch.ErrUnsupported)
	}
	// The last MiB of an odd number does not make a block.
	return d.SetTarget(min(uint64(mib-m.memoryMiB)<<20, d.Sizes().Region))
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
