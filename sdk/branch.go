package microsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/snapshot/format"
)

// BranchFailure is a copy of a sandbox that did not come up. Nothing is left of it.
type BranchFailure struct {
	Name  string
	Cause error
}

// BranchError reports that not all copies of a sandbox came up. Those that did run on.
type BranchError struct {
	Source string
	Up     []string // copies that run, in the order they were asked for
	Failed []BranchFailure
}

// Error names the copies, and the reasons.
func (e *BranchError) Error() string {
	parts := make([]string, len(e.Failed))
	for i, f := range e.Failed {
		parts[i] = fmt.Sprintf("%s: %v", f.Name, f.Cause)
	}
	up := "none runs"
	if len(e.Up) > 0 {
		up = strings.Join(e.Up, ", ") + " run"
	}
	return fmt.Sprintf("%d of %d copies of sandbox %s did not come up (%s): %s", len(e.Failed), len(e.Failed)+len(e.Up), e.Source, up, strings.Join(parts, "; "))
}

// Unwrap returns the reasons.
func (e *BranchError) Unwrap() []error {
	var all []error
	for _, f := range e.Failed {
		all = append(all, f.Cause)
	}
	return all
}

// Branch makes copies of the running or paused sandbox, one of each name, that go on where
// it is at one moment: with its processes, memory and disks. The sandbox stands still for
// that moment and goes on; a paused one stays paused. The copies run, whether it is paused
// or not.
//
// A copy has its own name, addresses, random numbers and disks, also in place of disk
// volumes and disk images, whose content it keeps in its own directory; directories of the
// host and directory volumes are shared. It publishes no ports unless WithPorts and its
// like say so. Options that describe a machine that boots are ErrInvalidConfig: see
// WithFromSnapshot.
//
// If some copies do not come up, those that do are returned together with an error that
// wraps *BranchError; of the others nothing is left. When ctx ends before, all are removed.
func (h *SandboxHandle) Branch(ctx context.Context, names []string, opts ...SandboxOption) ([]*Sandbox, error) {
	configs, err := branchConfigs(h.row.Name, names, opts)
	if err != nil {
		return nil, err
	}
	var all []*Sandbox
	err = h.onCatalog(ctx, func(c *catalog, row store.Sandbox) error {
		b := &branching{catalog: c, source: row}
		var err error
		all, err = b.run(ctx, configs)
		return err
	})
	return all, err
}

// Branch makes copies of the sandbox; see [SandboxHandle.Branch].
func (s *Sandbox) Branch(ctx context.Context, names []string, opts ...SandboxOption) ([]*Sandbox, error) {
	h, err := s.handle(ctx)
	if err != nil {
		return nil, err
	}
	return h.Branch(ctx, names, opts...)
}

// branchConfigs are what the copies are asked to be.
func branchConfigs(source string, names []string, opts []SandboxOption) ([]*SandboxConfig, error) {
	if len(names) == 0 {
		return nil, fail(ErrInvalidConfig, "a branch of sandbox %s needs a name", source)
	}
	var all []*SandboxConfig
	for i, name := range names {
		if name == source || slices.Contains(names[:i], name) {
			return nil, fail(ErrInvalidConfig, "two sandboxes cannot both be called %s: give each copy a name of its own", name)
		}
		c := &SandboxConfig{}
		for _, o := range opts {
			o(c)
		}
		c.Name = name
		switch {
		case c.Replace || c.ReplaceWithTimeout != nil:
			return nil, fail(ErrInvalidConfig, "a copy replaces no other sandbox: choose a name that is free")
		case c.Snapshot != "" || c.DiskOnly:
			return nil, fail(ErrInvalidConfig, "a branch is of a running sandbox, not of a snapshot: use Restore")
		case len(names) > 1 && c.publishesFixed():
			return nil, fail(ErrInvalidConfig, "a port of the host can be published for one copy only: publish it for one, or leave the choice to the host with port 0")
		}
		all = append(all, c)
	}
	return all, nil
}

// publishesFixed reports a published port that the host does not choose.
func (c *SandboxConfig) publishesFixed() bool {
	all := slices.Concat(published(c.Ports, PortProtocolTCP), published(c.PortsUDP, PortProtocolUDP), c.PortBindings)
	if n := c.Network; n != nil {
		all = slices.Concat(all, published(n.Ports, PortProtocolTCP), n.PortBindings)
	}
	return slices.ContainsFunc(all, func(p PortBinding) bool { return p.HostPort != 0 })
}

// branching is one Branch.
type branching struct {
	*catalog
	source store.Sandbox
}

// maxBirths is how many copies come up at a time.
const maxBirths = 8

func (b *branching) run(ctx context.Context, configs []*SandboxConfig) ([]*Sandbox, error) {
	children, vmdk, err := b.conceive(ctx, configs)
	if err != nil {
		return nil, err
	}
	place, err := newNursery(ctx, b.home.checkpoints())
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	defer place.release()
	all, err := b.bear(ctx, configs, children, vmdk, filepath.Join(place.path, "saved"))
	return all, errors.Join(err, wrap(ErrIO, os.RemoveAll(place.path)))
}

// checkpoints is where checkpoints are as long as copies are made of them.
func (h home) checkpoints() string { return filepath.Join(h.cache(), "gomsb", "checkpoints") }

// conceive checks everything that can be checked before the sandbox is saved.
func (b *branching) conceive(ctx context.Context, configs []*SandboxConfig) (children []*child, vmdk string, err error) {
	if err := b.canBeSaved(ctx, b.source); err != nil {
		return nil, "", err
	}
	saved, err := b.saved(ctx, b.source)
	if err != nil {
		return nil, "", err
	}
	for _, c := range configs {
		k, err := saved.child(b.home, c)
		if err != nil {
			return nil, "", err
		}
		if _, err := b.byName(ctx, c.Name); !IsKind(err, ErrSandboxNotFound) {
			if err == nil {
				err = alreadyExists(c.Name)
			}
			return nil, "", err
		}
		children = append(children, k)
	}
	vmdk, err = children[0].spec.rootDisk(ctx, b.home)
	return children, vmdk, err
}

// bear saves the sandbox at dir and makes the copies.
func (b *branching) bear(ctx context.Context, configs []*SandboxConfig, children []*child, vmdk, dir string) ([]*Sandbox, error) {
	if err := b.save(ctx, b.source, dir, format.Passing); err != nil {
		return nil, err
	}
	boots := make([]*boot, len(children))
	for i, k := range children {
		if err := k.goesOn(dir, ""); err != nil {
			return nil, err
		}
		boots[i] = &boot{catalog: b.catalog, spec: k.spec, child: k, vmdk: vmdk, detached: configs[i].Detached}
	}
	up := make([]*Sandbox, len(boots))
	errs := make([]error, len(boots))
	var wg sync.WaitGroup
	room := make(chan struct{}, maxBirths)
	for i, k := range boots {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			up[i], errs[i] = k.create(ctx)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, errors.Join(cancelled(ctx), b.takeBack(boots, up))
	}
	return b.result(boots, up, errs)
}

// takeBack removes the copies that came up before it was known that none is wanted.
func (b *branching) takeBack(boots []*boot, up []*Sandbox) error {
	ctx := context.Background()
	var errs []error
	for i, sb := range up {
		if sb == nil {
			continue
		}
		err := b.kill(ctx, boots[i].row, killTimeout)
		if err == nil {
			err = gone(b.remove(ctx, boots[i].row))
		}
		errs = append(errs, err, sb.Detach(ctx))
	}
	return errors.Join(errs...)
}

// result is what came of the copies.
func (b *branching) result(boots []*boot, up []*Sandbox, errs []error) ([]*Sandbox, error) {
	e := &BranchError{Source: b.source.Name}
	kind := ErrInternal
	for i, err := range errs {
		name := boots[i].spec.Name
		if err == nil {
			e.Up = append(e.Up, name)
			continue
		}
		e.Failed = append(e.Failed, BranchFailure{name, err})
		var known *Error
		if errors.As(err, &known) {
			kind = known.Kind
		}
	}
	up = slices.DeleteFunc(up, func(sb *Sandbox) bool { return sb == nil })
	if e.Failed == nil {
		return up, nil
	}
	return up, &Error{Kind: kind, Cause: e}
}
