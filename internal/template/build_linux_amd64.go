package template

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/gomsb/gomsb/guestagent/image"
	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/vmm"
	"github.com/gomsb/gomsb/vmm/virtio/blk"
	"github.com/gomsb/gomsb/vmm/virtio/fs"
	vnet "github.com/gomsb/gomsb/vmm/virtio/net"
	"github.com/gomsb/gomsb/vmm/virtio/vsock"
)

// Parts are what a template has of this program.
type Parts struct {
	CacheDir  string // of kernel and agent
	GuestCID  uint64
	AgentPort uint32 // that the guest connects to when it waits for its host
	// Words are the whole command line of the kernel, but for the devices.
	Words func(p vmm.Profile, img *kernel.Image, disks int, words string) string
	// Serial is that of the agent's disk.
	Serial string
	Stats  time.Duration // of a machine whose shape has Stats
	Logger *slog.Logger
}

var (
	errNoAgent = errors.New("the guest did not connect in time")
	errEnded   = errors.New("the guest ended before it connected")
)

// Build makes the template of a shape, unless there is one already, another process makes
// one, or an attempt has failed a short while ago; the error is nil then.
func (c Cache) Build(ctx context.Context, s *Shape, p Parts) error {
	return c.build(ctx, s, func(dir string, shape []byte) error { return p.create(ctx, s, dir, shape) })
}

func (p *Parts) create(ctx context.Context, s *Shape, dir string, shape []byte) (err error) {
	waiting := make(chan net.Conn, 1)
	m, err := p.machine(s, waiting)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.Start(); err != nil {
		return err
	}
	if err := park(ctx, m, waiting); err != nil {
		return err
	}
	if err := m.Pause(); err != nil {
		return err
	}
	state, err := m.SaveState()
	if err != nil {
		return err
	}
	var memory format.Slices
	for _, r := range m.Contents() {
		b, err := m.Memory().Slice(r.Base, r.Size)
		if err != nil {
			return err
		}
		memory = append(memory, b)
	}
	return format.Write(ctx, dir, s.header(m, shape), state, memory)
}

// machine builds one of the shape.
func (p *Parts) machine(s *Shape, waiting chan<- net.Conn) (*vmm.Machine, error) {
	img, err := kernel.OpenEmbedded(p.CacheDir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = img.Close() }()
	path, err := image.Open(p.CacheDir)
	if err != nil {
		return nil, err
	}
	agent, err := blk.OpenRaw(path, true)
	if err != nil {
		return nil, fmt.Errorf("guest agent: %w", err)
	}
	disks := append(s.disks(), vmm.Disk{Backend: agent, ReadOnly: true, Serial: p.Serial})
	cfg := vmm.Config{
		VCPUs: s.VCPUs, MaxVCPUs: s.MaxVCPUs, MemoryMiB: s.MemoryMiB, MaxMemoryMiB: s.MaxMemoryMiB, Kernel: img, Disks: disks,
		CommandLine: func(profile vmm.Profile) string { return p.Words(profile, img, len(disks), s.Words) },
		Vsock: &vmm.VsockConfig{GuestCID: p.GuestCID, Listener: func(port uint32, c *vsock.Conn) bool {
			if port != p.AgentPort {
				return false
			}
			select {
			case waiting <- c:
				return true
			default:
				return false
			}
		}},
		Logger: p.Logger,
	}
	for _, tag := range s.Tags {
		cfg.Shares = append(cfg.Shares, vmm.Share{Tag: tag, Backend: fs.Parked()})
	}
	if s.Net {
		cfg.Net = &vmm.NetConfig{MAC: MAC, MTU: s.MTU, Backend: nowhere{}}
	}
	if s.Stats {
		cfg.StatsInterval = p.Stats
	}
	return vmm.New(cfg)
}

// nowhere is a network without anybody in it.
type nowhere struct{}

func (nowhere) Transmit(vnet.Offload, [][]byte) {}
func (nowhere) Ready()                          {}

const (
	// patience is how long a guest may take to connect, and calm how long it may take to
	// come to rest then.
	patience = 3 * time.Minute
	calm     = 10 * time.Second
	// A guest rests that uses less than restTime of rest.
	rest     = 100 * time.Millisecond
	restTime = rest / 50
)

// park returns when the guest waits for its host and has nothing else to do.
func park(ctx context.Context, m *vmm.Machine, waiting <-chan net.Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNoAgent)
	defer cancel()
	select {
	case <-waiting: // the connection ends with the machine
	case <-m.Done():
		return errEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for end := time.Now().Add(calm); time.Now().Before(end); {
		before := m.CPUTime()
		select {
		case <-time.After(rest):
		case <-m.Done():
			return errEnded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if m.CPUTime()-before < restTime {
			break
		}
	}
	return nil
}
