package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/launch"
)

// processors changes how many virtual processors the guest uses. Linux starts and stops
// them itself, by files that the agent can write; the machine sees to it that no others
// run. That is so with any kernel, and needs nothing of the agent's own.
type processors struct {
	possible int
	allow    func(n int) error
	guest    func(context.Context) (guestFiles, error)

	mu        sync.Mutex
	requested int // protected by mu, as allowed
	allowed   int // how many the machine lets run
}

// guestFiles is the guest's files. It is closed after each use.
type guestFiles interface {
	ReadFile(ctx context.Context, path string) ([]byte, error)
	WriteFile(ctx context.Context, path string, data []byte, mode *uint32) error
	Close() error
}

// cpuFiles is where Linux has its processors.
const cpuFiles = "/sys/devices/system/cpu/"

// setOnline brings n processors online and takes the others offline.
func (p *processors) setOnline(ctx context.Context, n int) (*launch.CPUState, error) {
	if n < 1 || n > p.possible {
		return nil, fmt.Errorf("%d processors are not possible: choose 1 to %d", n, p.possible)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g, err := p.guest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = g.Close() }()
	online, err := onlineProcessors(ctx, g)
	if err != nil {
		return nil, err
	}
	p.requested = n
	if n > p.allowed {
		if err := p.allow(n); err != nil {
			return nil, err
		}
		p.allowed = n
	}
	for id := 1; id < n; id++ {
		if !online[id] {
			err = errors.Join(err, p.write(ctx, g, id, "1"))
		}
	}
	for id := p.possible - 1; id >= n; id-- {
		if online[id] {
			err = errors.Join(err, p.write(ctx, g, id, "0"))
		}
	}
	if err != nil {
		return nil, err
	}
	return p.look(ctx, g)
}

func (p *processors) write(ctx context.Context, g guestFiles, id int, state string) error {
	if err := g.WriteFile(ctx, fmt.Sprintf("%scpu%d/online", cpuFiles, id), []byte(state), nil); err != nil {
		return fmt.Errorf("the guest does not switch processor %d: %w", id, err)
	}
	return nil
}

// state tells how many processors are online.
func (p *processors) state(ctx context.Context) (*launch.CPUState, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, err := p.guest(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = g.Close() }()
	return p.look(ctx, g)
}

// look asks the guest, and stops what is no longer in use. The caller holds mu.
func (p *processors) look(ctx context.Context, g guestFiles) (*launch.CPUState, error) {
	online, err := onlineProcessors(ctx, g)
	if err != nil {
		return nil, err
	}
	unused := true
	for id := p.requested; id < p.possible; id++ {
		unused = unused && !online[id]
	}
	if unused && p.allowed > p.requested {
		if err := p.allow(p.requested); err != nil {
			return nil, err
		}
		p.allowed = p.requested
	}
	return &launch.CPUState{
		Possible: uint8(p.possible), RequestedOnline: uint8(p.requested), ActualOnline: uint8(min(len(online), p.possible)), Enforced: uint8(p.allowed),
	}, nil
}

// onlineProcessors are those that the guest uses.
func onlineProcessors(ctx context.Context, g guestFiles) (map[int]bool, error) {
	text, err := g.ReadFile(ctx, cpuFiles+"online")
	if err != nil {
		return nil, fmt.Errorf("the guest does not tell its processors: %w", err)
	}
	return parseProcessors(string(text))
}

// Bounds on what a guest may say: a Linux kernel has at most 8192 processors, and shows
// what fits into a page.
const (
	maxProcessor     = 8192
	maxProcessorList = 4096
)

// parseProcessors reads a list such as 0-2,5.
func parseProcessors(list string) (map[int]bool, error) {
	if len(list) > maxProcessorList {
		return nil, fmt.Errorf("the guest's list of processors is damaged: %d bytes", len(list))
	}
	all := make(map[int]bool)
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || to >= maxProcessor || from > to {
			return nil, fmt.Errorf("the guest's list of processors is damaged: %.40q", list)
		}
		for id := from; id <= to; id++ {
			all[int(id)] = true
		}
	}
	return all, nil
}

// files connects to the guest as one more client of its agent.
func (c *control) files(ctx context.Context) (guestFiles, error) {
	ours, theirs := net.Pipe()
	c.relay.Attach(theirs)
	return client.New(ctx, ours, client.Options{Logger: c.log, MaxCollect: maxProcessorList})
}
