package vmm

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/vmm/hv"
	"github.com/gomsb/gomsb/vmm/hv/kvm"
	"github.com/gomsb/gomsb/vmm/memory"
	"github.com/gomsb/gomsb/vmm/soft"
	"github.com/gomsb/gomsb/vmm/virtio/balloon"
	"github.com/gomsb/gomsb/vmm/virtio/blk"
	"github.com/gomsb/gomsb/vmm/virtio/mem"
	"github.com/gomsb/gomsb/vmm/virtio/net"
	"github.com/gomsb/gomsb/vmm/virtio/vsock"
)

// Machine is one virtual machine. Its life is New, Start, any number of Pause and
// Resume, an end by the guest or by Stop, Close. Methods are safe for concurrent use.
type Machine struct {
	log      *slog.Logger
	profile  Profile
	host     *kvm.KVM
	vm       hv.VM
	mem      *memory.Memory
	bus      *bus
	vcpus    []*vcpu
	emulator *soft.Emulator // nil but in ProfileSoft
	disks    []*blk.Device
	vsock    *vsock.Device // nil without Config.Vsock
	net      *net.Device   // nil without Config.Net
	balloon  *balloon.Device
	spare    *mem.Device // nil without Config.MaxMemoryMiB
	renewal  renewal
	boots    int // processors that run from the start

	want     atomic.Uint32 // wantRun, wantPark or wantEnd; written under mu
	panicked atomic.Bool   // the guest kernel said so
	done     chan struct{} // closed when the last processor has left
	suspect  chan struct{} // the guest may be about to halt, see watch
	watcher  sync.WaitGroup
	interval time.Duration // of watch

	turn sync.Mutex // held by those who park and release processors; before mu

	mu      sync.Mutex
	cond    *sync.Cond // on mu: parked, running, want or a task changed
	started bool       // protected by mu
	closed  bool       // protected by mu
	running int        // processors not yet left; protected by mu
	parked  int        // of them, in gate; protected by mu
	result  Result     // protected by mu
}

// New builds a machine that is ready to Start. It fails with an error that wraps
// ErrConfig (of which ErrMemory is one), ErrSavedState, kvm.ErrNoDevice, kvm.ErrPermission or what the host reported; nothing is
// left behind then.
func New(cfg Config) (m *Machine, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, (&backends{cfg.Disks, cfg.Shares}).close())
		}
	}()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m = &Machine{log: cfg.Logger, done: make(chan struct{}), suspect: make(chan struct{}, 1), interval: watchInterval}
	m.renewal.now = time.Now
	m.bus = newBus(m.suspectHalt)
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.cond = sync.NewCond(&m.mu)
	own := &backends{cfg.Disks, cfg.Shares}
	cfg.Disks, cfg.Shares = nil, nil // from here on the devices own the backends
	if err := m.build(&cfg, own); err != nil {
		return nil, errors.Join(err, m.free())
	}
	return m, nil
}

// backends are those that no device owns yet.
type backends struct {
	disks  []Disk
	shares []Share
}

func (b *backends) close() error {
	var errs []error
	for _, d := range b.disks {
		if d.Backend != nil {
			errs = append(errs, d.Backend.Close())
		}
	}
	for _, s := range b.shares {
		if s.Backend != nil {
			errs = append(errs, s.Backend.Close())
		}
	}
	return errors.Join(errs...)
}

// build fills m; on failure the caller frees what is there.
func (m *Machine) build(cfg *Config, own *backends) error {
	defer func() { _ = own.close() }()
	var err error
	if m.host, err = kvm.Open(cfg.KVM); err != nil {
		return err
	}
	if m.profile = cfg.Profile; m.profile == ProfileAuto {
		m.profile = ProfileDefault
		if !m.host.Hardware() {
			m.profile = ProfileSoft
		}
	}
	if m.vm, err = m.host.CreateVM(); err != nil {
		return err
	}
	supported, err := m.host.SupportedCPUID()
	if err != nil {
		return err
	}
	if err := m.mapMemory(cfg.MemoryMiB, cfg.pluggable(), supported); err != nil {
		return err
	}
	if m.profile == ProfileSoft {
		m.emulator = soft.New(m.mem)
	}
	if err := m.attachDevices(cfg, own); err != nil {
		return err
	}
	if s := cfg.Saved; s != nil {
		if err := s.load(m); err != nil {
			return err
		}
		if err := m.makeVCPUs(cfg, 0, supported); err != nil {
			return err
		}
		if err := m.restore(s.State); err != nil {
			return err
		}
		s.mapAhead(m)
		return nil
	}
	if err := m.boot(cfg); err != nil {
		return err
	}
	return m.makeVCPUs(cfg, cfg.Kernel.Entry, supported)
}

// Profile is the CPU profile in use, never ProfileAuto.
func (m *Machine) Profile() Profile { return m.profile }

// Memory is the guest's memory.
func (m *Machine) Memory() *memory.Memory { return m.mem }

// Vsock is the socket device, nil if the configuration has none.
func (m *Machine) Vsock() *vsock.Device { return m.vsock }

// Net is the network device, nil if the configuration has none.
func (m *Machine) Net() *net.Device { return m.net }

// Disks are the block devices, in the order of Config.Disks.
func (m *Machine) Disks() []*blk.Device { return m.disks }

// Devices are the names of the devices, in the order of the bus.
func (m *Machine) Devices() []string {
	names := make([]string, len(m.bus.slots))
	for i, s := range m.bus.slots {
		names[i] = s.name
	}
	return names
}

// Balloon is the memory balloon.
func (m *Machine) Balloon() *balloon.Device { return m.balloon }

// CPUTime is the processor time of all virtual processors together.
func (m *Machine) CPUTime() time.Duration {
	var sum time.Duration
	for _, c := range m.vcpus {
		sum += c.cpuTime()
	}
	return sum
}

// free closes whatever build got to, in the order that lets nobody use what is gone.
func (m *Machine) free() error {
	var errs []error
	for _, c := range m.vcpus {
		errs = append(errs, c.hv.Close())
	}
	// The VM before the events that are bound to it: unbinding them one by one waits for
	// a grace period of the kernel's each.
	if m.vm != nil {
		errs = append(errs, m.vm.Close())
	}
	errs = append(errs, m.bus.close())
	if m.host != nil {
		errs = append(errs, m.host.Close())
	}
	if m.mem != nil {
		errs = append(errs, m.mem.Close())
	}
	return errors.Join(errs...)
}
