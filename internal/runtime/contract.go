package runtime

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/checkpoint"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/template"
	"github.com/gomsb/gomsb/netstack"
	"github.com/gomsb/gomsb/netstack/dns"
	"github.com/gomsb/gomsb/snapshot/format"
)

// Ports of the host (CID 2) that the guest agent connects to, each once per boot.
const (
	AgentPort     = 1024 // frames of the agent protocol
	HeartbeatPort = 1025 // one JSON object a second
)

// MachineConfig is the machine that a launch configuration asks for.
type MachineConfig struct {
	VCPUs        int
	MaxVCPUs     int     // that it may have while it runs
	Affinity     [][]int // of the host's processors each may run on; nil: any
	MemoryMiB    int
	MaxMemoryMiB int    // that it may have while it runs
	Disks        []Disk // /dev/vda, /dev/vdb, ...; the agent's own disk follows them
	Shares       []Share
	Kernel       string // file to boot; empty: the embedded kernel
	Words        string // to add to the kernel's command line
	CacheDir     string // where the embedded kernel may be unpacked
	Templates    string // folder of boot templates; empty: the guest boots
	Restore      string // folder of a checkpoint to go on from; empty: none
	Bases        string // folder, missing at first, for what many copies of the guest are based on; empty: none
	// Ephemeral reports that the sandbox is removed when it ends; nil is never.
	Ephemeral func() bool
	Console   io.Writer
	// Listen is called for each connection from the guest to a port of the host. True
	// takes the connection over, false refuses it. It must not block.
	Listen        func(port uint32, c net.Conn) bool
	Net           *Net            // nil: no network card
	Card          *checkpoint.Net // how the card is built; nil: as Net and Templates say
	StatsInterval time.Duration   // how often to ask the guest about memory; 0: never
	Logger        *slog.Logger
}

// Disk is one block device.
type Disk struct {
	Path     string
	Format   string // raw or vmdk
	ReadOnly bool
	Serial   string
	Root     bool // a part of the root file system
	Own      bool // in the sandbox's directory, and removed with it
}

// card is how the network card is built, nil if there is none. A template does not know the
// sandbox's address, which the guest agent gives the card in any case.
func (m *MachineConfig) card() *checkpoint.Net {
	switch {
	case m.Net == nil:
		return nil
	case m.Card != nil:
		return m.Card
	case m.Templates != "":
		return &checkpoint.Net{MAC: template.MAC, MTU: m.Net.MTU}
	}
	return &checkpoint.Net{MAC: m.Net.MAC, MTU: m.Net.MTU}
}

// Net is the guest's network card, eth0, and what it is plugged into.
type Net struct {
	MAC     [6]byte
	MTU     uint16
	Gateway *netstack.Gateway   // outlives the machine
	Limits  *launch.RateLimiter // valid; nil: none
}

// Share is a directory of the host, or one file of it, that the guest may mount.
type Share struct {
	Tag            string // by which the guest finds it
	Name           string // the tag that the configuration gives it, empty if it is the same
	Path           string
	Only           string // the one file of Path that is shared; empty: all of it
	FollowSymlinks bool   // in Path
	ReadOnly       bool
	// Stat and Perms are the modes stat-virt and host-perms. Without Stat it is strict as
	// far as the file system can be.
	Stat, Perms string
	// MapOwner shows what belongs to the host user of this process as the guest's default
	// user's, or as UID's and GID's as far as they are set, and all else as nobody's.
	MapOwner bool
	UID, GID *uint32
	Quota    int64 // bytes that the guest may add; 0: no bound, negative: none
	Root     bool  // it is the root file system
}

// Machine is a virtual machine as far as the runtime cares. Its life is Start, an end by
// the guest or by Stop, Close.
type Machine interface {
	Start() error
	// Copied reports that the guest is a copy of a saved one, which must hear so first.
	Copied() bool
	// Wanted is the shape of the boot template that would have spared this machine its
	// boot, nil if it had one or none can be made.
	Wanted() *template.Shape
	// Ready says that the guest serves, and Settled, later, that it has had time for what its
	// user does first, or has ended. Discredit says that it never served and that nothing of
	// its sandbox explains that: then what it is a copy of is not used again.
	Ready()
	Settled()
	Discredit()
	// Flush makes durable what the guest has written to its disks, Prepare begins to save the
	// machine into d, and Capture, for which it stands still, does the rest; after the others
	// that takes less time. Capture's error wraps ErrBusy if it might work a little later. GiveUp
	// ends what Prepare began, for who will not capture.
	Flush() error
	Prepare(ctx context.Context, d *checkpoint.Draft) (*format.Draft, error)
	Capture(ctx context.Context, d *checkpoint.Draft, machine *format.Draft) error
	GiveUp() error
	// Manifest describes what Capture saves, but for Source and Disks.
	Manifest() checkpoint.Manifest
	// Resolved tells it the guest's default user, before the guest mounts shares.
	Resolved(uid, gid uint32)
	// Allow lets the first n processors run, 1 to MaxVCPUs, and no others. Allowed is how
	// many it lets run.
	Allow(n int) error
	Allowed() int
	// Memory is how much memory the guest has.
	Memory() Memory
	// SetMemory asks the guest to have so much memory, MemoryMiB to MaxMemoryMiB.
	SetMemory(mib int) error
	// Done is closed when the machine has ended.
	Done() <-chan struct{}
	// Outcome is how it ended; valid once Done is closed.
	Outcome() Outcome
	// Stop ends it at once, without asking the guest.
	Stop()
	// Pause returns when it stands still, and Resume lets it run on. Repeating either is
	// no error.
	Pause() error
	Resume() error
	// Close frees it, after its disks are flushed. It is idempotent.
	Close() error
	// Stats is what is known of it now.
	Stats() Stats
}

// ErrBusy reports that the guest is in the middle of something that a copy of it could not
// go on with.
var ErrBusy = errors.New("the guest is busy")

// Memory is how much memory a guest has.
type Memory struct {
	TargetMiB  int  // what it should have
	CurrentMiB int  // what it has
	Driven     bool // it can change that
}

// Outcome is how a machine ended.
type Outcome struct {
	// Orderly: the guest switched itself off. A reset counts as orderly only when the
	// guest said goodbye before, which the runtime knows.
	Orderly bool
	// Reset: the guest asked for a reset.
	Reset bool
	// Stopped: Stop was called.
	Stopped bool
	// Text describes the end in a few words.
	Text string
}

// Stats are a machine's counters since its start.
type Stats struct {
	CPUTime               time.Duration // of all virtual processors together
	MemoryKnown           bool          // the guest has reported the next two
	MemoryUsed            uint64        // bytes, as all below
	MemoryAvailable       uint64
	MemoryTotal           uint64 // what it has, or may take at any time
	DiskRead, DiskWritten uint64
	NetReceived, NetSent  uint64 // by the guest
}

// Factory builds a machine, ready to start.
type Factory func(MachineConfig) (Machine, error)

// bootstrapFor completes the guest's configuration with what only the runtime knows.
// Secrets have their placeholders where there is no network to use them in, too: programs
// look for the variables.
func bootstrapFor(c *launch.Config, m *MachineConfig, n *network) *proto.Bootstrap {
	b := c.Bootstrap
	b.DirMounts, b.FileMounts = slices.Clone(b.DirMounts), slices.Clone(b.FileMounts)
	for i := range b.DirMounts {
		b.DirMounts[i].Tag = m.tagOf(b.DirMounts[i].Tag)
	}
	for i := range b.FileMounts {
		b.FileMounts[i].Tag = m.tagOf(b.FileMounts[i].Tag)
	}
	if n != nil {
		b.Network, b.HostAlias = n.bootstrap(), dns.HostAlias
	}
	if c.Network != nil {
		b.DefaultEnv = append(slices.Clone(b.DefaultEnv), c.Network.Config.Secrets.Environment()...)
	}
	if b.BlockRoot == nil && len(m.Disks) > 0 {
		b.BlockRoot = &proto.BlockRoot{Kind: proto.RootDiskImage, Device: "/dev/vda"}
	}
	return &b
}

// tagOf is the tag by which the guest finds the share that the configuration calls name.
func (m *MachineConfig) tagOf(name string) string {
	for _, s := range m.Shares {
		if s.Name == name && name != "" {
			return s.Tag
		}
	}
	return name
}
