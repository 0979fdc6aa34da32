package vmm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/vmm/virtio/blk"
	"github.com/gomsb/gomsb/vmm/virtio/fs"
	"github.com/gomsb/gomsb/vmm/virtio/net"
	"github.com/gomsb/gomsb/vmm/virtio/vsock"
)

// ErrConfig is wrapped by every error that a change of the Config mends.
var ErrConfig = errors.New("invalid machine configuration")

const (
	// MaxVCPUs is the largest number of virtual processors.
	MaxVCPUs = 32
	// MinMemoryMiB is the least guest memory a kernel boots in.
	MinMemoryMiB = 64
	// MaxMemoryMiB bounds guest memory to what KVM maps in one piece, 8 TiB. Hosts have
	// limits of their own, see ErrMemory.
	MaxMemoryMiB = 8 << 20
)

// Profile chooses what the guest's CPUID instruction and the monitor's instruction
// emulation offer.
type Profile string

const (
	// ProfileAuto is ProfileSoft on a host whose KVM has no vmx or svm, else
	// ProfileDefault.
	ProfileAuto Profile = ""
	// ProfileDefault passes through what the host's KVM supports.
	ProfileDefault Profile = "default"
	// ProfileSoft is for hosts whose KVM runs guest supervisor code by emulation.
	ProfileSoft Profile = "soft"
)

// Config describes one microVM. It is a value: New copies what it needs, and owns the
// backends of Disks and Shares from then on, also when it fails.
type Config struct {
	// VCPUs is 1 to MaxVCPUs.
	VCPUs int
	// MaxVCPUs is how many processors the guest may get while it runs, at most MaxVCPUs; 0
	// is VCPUs. Those beyond VCPUs do not run before Allow lets them.
	MaxVCPUs int
	// Affinity are the host's processors, by number, on which the thread of each virtual one
	// may run, as far as the host has them; those without an entry, or with an empty one,
	// run anywhere.
	Affinity [][]int
	// MemoryMiB is guest RAM in MiB, MinMemoryMiB to MaxMemoryMiB.
	MemoryMiB int
	// MaxMemoryMiB is how much RAM the guest may get while it runs, in MiB, at most
	// MaxMemoryMiB; 0 is MemoryMiB. See Machine.PluggableMemory.
	MaxMemoryMiB int
	// Saved makes the machine go on where a saved one of the same configuration was, but
	// for the backends; Kernel and CommandLine are not used then. New returns an error that
	// wraps ErrSavedState if it does not fit.
	Saved *Saved
	// Kernel is loaded at its own addresses. The caller may close it after New.
	Kernel *kernel.Image
	// CommandLine returns the kernel's words for the profile that was chosen; the
	// machine appends those that announce its devices.
	CommandLine func(Profile) string
	// Profile is ProfileAuto unless a test needs another.
	Profile Profile
	// Disks become /dev/vda, /dev/vdb, ... in this order.
	Disks []Disk
	// Shares are file systems that the guest may mount by their tags.
	Shares []Share
	// Console receives what the guest writes to hvc0. It must not block for long.
	Console io.Writer
	// Vsock adds a socket device unless nil.
	Vsock *VsockConfig
	// Net adds a network device, the guest's eth0, unless nil.
	Net *NetConfig
	// StatsInterval is how often the balloon asks the guest for memory statistics;
	// 0 means never.
	StatsInterval time.Duration
	// KVM is the device file, /dev/kvm if empty.
	KVM string
	// Logger receives what went wrong inside a device; nil discards it.
	Logger *slog.Logger
}

// Disk is one virtio block device.
type Disk struct {
	Backend  blk.Backend
	ReadOnly bool
	// Serial is what the guest reads as the disk's serial number, at most 20 bytes.
	Serial string
	// Volatile reports that nobody wants the content after this run; nil is never.
	Volatile func() bool
}

// Share is one virtio file system device.
type Share struct {
	// Tag is the name by which the guest mounts it, 1 to 36 bytes.
	Tag     string
	Backend fs.Backend
}

// VsockConfig describes the socket device (virtio 1.2 §5.10).
type VsockConfig struct {
	// GuestCID is the guest's context ID, 3 or more.
	GuestCID uint64
	// Listener decides on a connection from the guest to port of the host (CID 2):
	// true takes the connection over, false refuses it.
	Listener func(port uint32, c *vsock.Conn) bool
}

// NetConfig describes the network device (virtio 1.2 §5.1).
type NetConfig struct {
	MAC     [6]byte // of the guest's interface
	MTU     uint16  // 0 leaves it to the guest
	Backend net.Backend
	// Egress bounds what the guest sends and Ingress what it receives; nil does not.
	Egress, Ingress *net.Limit
}

// Validate reports the first value out of range; the error wraps ErrConfig.
func (c *Config) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	switch {
	case c.VCPUs < 1 || c.VCPUs > MaxVCPUs:
		return bad("%d vCPUs: choose 1 to %d", c.VCPUs, MaxVCPUs)
	case c.MaxVCPUs != 0 && (c.MaxVCPUs < c.VCPUs || c.MaxVCPUs > MaxVCPUs):
		return bad("at most %d vCPUs: choose %d to %d", c.MaxVCPUs, c.VCPUs, MaxVCPUs)
	case c.MemoryMiB < MinMemoryMiB || c.MemoryMiB > MaxMemoryMiB:
		return bad("%d MiB of memory: choose %d to %d", c.MemoryMiB, MinMemoryMiB, MaxMemoryMiB)
	case c.MaxMemoryMiB != 0 && (c.MaxMemoryMiB < c.MemoryMiB || c.MaxMemoryMiB > MaxMemoryMiB):
		return bad("at most %d MiB of memory: choose %d to %d", c.MaxMemoryMiB, c.MemoryMiB, MaxMemoryMiB)
	case c.Saved == nil && c.Kernel == nil:
		return bad("no kernel")
	case c.Saved == nil && c.CommandLine == nil:
		return bad("no kernel command line")
	case c.Profile != ProfileAuto && c.Profile != ProfileDefault && c.Profile != ProfileSoft:
		return bad("CPU profile %q: choose %q or %q", c.Profile, ProfileDefault, ProfileSoft)
	case c.StatsInterval < 0 || c.StatsInterval > 0 && c.StatsInterval < time.Millisecond:
		return bad("memory statistics every %s: choose 1 ms or more, or 0 for never", c.StatsInterval)
	case len(c.Disks) > maxDisks:
		return bad("%d disks: at most %d", len(c.Disks), maxDisks)
	case c.Vsock != nil && (c.Vsock.GuestCID < 3 || c.Vsock.GuestCID >= 1<<32-1):
		return bad("guest CID %d: choose 3 to 4294967294", c.Vsock.GuestCID)
	}
	if c.Net != nil {
		if err := c.Net.device(nil).Validate(); err != nil {
			return bad("%v", err)
		}
	}
	for i, d := range c.Disks {
		if d.Backend == nil {
			return bad("disk %d has no backend", i)
		}
		if len(d.Serial) > 20 || strings.ContainsRune(d.Serial, 0) {
			return bad("disk %d: serial %q is not 0 to 20 bytes", i, d.Serial)
		}
	}
	seen := make(map[string]bool)
	for i, sh := range c.Shares {
		cfg := fs.Config{Tag: sh.Tag, Backend: sh.Backend}
		if err := cfg.Validate(); err != nil {
			return bad("share %d: %v", i, err)
		}
		if seen[sh.Tag] {
			return bad("two shares have the tag %q", sh.Tag)
		}
		seen[sh.Tag] = true
	}
	return nil
}

// device is the configuration of the network device.
func (c *NetConfig) device(log *slog.Logger) *net.Config {
	return &net.Config{MAC: c.MAC, MTU: c.MTU, Backend: c.Backend, Egress: c.Egress, Ingress: c.Ingress, Logger: log}
}
