package runtime

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/image"
	"github.com/gomsb/gomsb/internal/template"
	"github.com/gomsb/gomsb/kernel"
	"github.com/gomsb/gomsb/snapshot/format"
	"github.com/gomsb/gomsb/vmm"
)

// found is what there is of a machine's boot template.
type found struct {
	cache template.Cache
	shape *template.Shape // nil: none is to be made
	open  *format.Checkpoint
	saved *vmm.Saved // nil: there is none
	first bool       // saved has no copy yet
	log   *slog.Logger
}

// findTemplate looks for the template of a machine. Whatever is wrong with it only makes
// the boot longer.
func findTemplate(cfg *MachineConfig) *found {
	t := &found{cache: template.Cache{Dir: cfg.Templates}, log: cfg.Logger}
	if cfg.Templates == "" {
		return t
	}
	shape, err := shapeOf(cfg)
	if err != nil {
		t.log.Warn("there will be no boot template", "err", err)
		return t
	}
	if t.open, err = t.cache.Open(context.Background(), shape); err == nil {
		t.saved, t.first, err = template.Copy(t.open)
	}
	switch {
	case err == nil:
		t.shape = shape
	case errors.Is(err, fs.ErrNotExist):
		if t.cache.Wanted(shape) {
			t.shape = shape
		}
	case errors.Is(err, template.ErrUnsafe):
		t.log.Warn("there will be no boot template", "err", err)
	default:
		t.shape = shape
		t.useless(err)
	}
	return t
}

// useless removes a template that cannot be used.
func (t *found) useless(err error) {
	t.log.Warn("the boot template is of no use and is removed", "err", err)
	if err := t.cache.Remove(t.shape); err != nil {
		t.log.Warn("cannot remove it", "err", err)
		t.shape = nil
	}
}

func (t *found) close() {
	if t.open != nil {
		_ = t.open.Close() // only read
	}
}

// shapeOf is the shape of a machine's template.
func shapeOf(cfg *MachineConfig) (*template.Shape, error) {
	build, err := template.Build()
	if err != nil {
		return nil, err
	}
	host, err := template.Host()
	if err != nil {
		return nil, err
	}
	s := &template.Shape{
		Build: build, Kernel: kernel.EmbeddedSHA256, Agent: image.SHA256, Host: host,
		VCPUs: cfg.VCPUs, MaxVCPUs: cfg.MaxVCPUs, MemoryMiB: cfg.MemoryMiB, MaxMemoryMiB: cfg.MaxMemoryMiB, Words: cfg.Words, Stats: cfg.StatsInterval > 0,
	}
	for _, d := range cfg.Disks {
		s.Disks = append(s.Disks, d.ReadOnly)
	}
	for _, share := range cfg.Shares {
		s.Tags = append(s.Tags, share.Tag)
	}
	if cfg.Net != nil {
		s.Net, s.MTU = true, cfg.Net.MTU
	}
	return s, nil
}

// buildNiceness keeps the making of a template out of the way of sandboxes.
const buildNiceness = 10

// buildTemplate makes a template; it is the whole process. Nobody waits for it.
func buildTemplate(args []string) int {
	if len(args) != 3 {
		return exitUsage
	}
	shape, err := template.Parse([]byte(args[2]))
	if err != nil {
		return complain(exitUsage, err)
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, buildNiceness) // a favour
	tuneMemory()
	tuneProcessors(max(shape.VCPUs, shape.MaxVCPUs))
	parts := template.Parts{
		CacheDir: args[0], GuestCID: guestCID, AgentPort: AgentPort, Serial: agentSerial, Stats: time.Second,
		Words: commandLine, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if err := (template.Cache{Dir: args[1]}).Build(context.Background(), shape, parts); err != nil {
		return complain(exitFailed, err)
	}
	return 0
}
