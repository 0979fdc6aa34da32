package microsandbox

import (
	"context"

	"github.com/gomsb/gomsb/snapshot"
)

// Restore makes a sandbox that goes on where a full snapshot was made, with its processes,
// memory and disks. It is CreateSandbox with WithFromSnapshot, but ErrUnsupportedOperation
// for a snapshot without memory, unless WithDiskOnly is given: then the sandbox boots from
// the snapshot's disk.
//
// What the machine is like is in the snapshot: options that say something else are
// ErrInvalidConfig, those of SandboxHandle.Branch are good. On a host with another
// processor, or with another release of gomsb, the memory is refused with an error that
// says so.
func Restore(ctx context.Context, snapshot, name string, opts ...SandboxOption) (*Sandbox, error) {
	all := append([]SandboxOption{}, opts...)
	return CreateSandbox(ctx, name, append(all, WithFromSnapshot(snapshot), func(c *SandboxConfig) { c.mustGoOn = !c.DiskOnly })...)
}

// WithDiskOnly starts from the disk of a snapshot alone, as from one without memory: the
// sandbox boots.
func WithDiskOnly() SandboxOption { return func(c *SandboxConfig) { c.DiskOnly = true } }

// WithTrustedConfig gives a sandbox that goes on from a snapshot of another's making what
// its configuration wants of this host: directories, volumes, sockets, secrets, its own
// network. Snapshots that this data root made have that anyway.
func WithTrustedConfig() SandboxOption { return func(c *SandboxConfig) { c.TrustConfig = true } }

// goesOn reports whether a sandbox goes on from the memory of a snapshot.
func (c *SandboxConfig) goesOn(a *snapshot.Artefact) bool {
	return a != nil && !c.DiskOnly && (c.mustGoOn || a.Descriptor.Extensions[checkpointExtension] != nil && a.Checkpoint() != "")
}

// restore makes the sandbox that c asks for go on from a full snapshot.
func (c *catalog) restore(ctx context.Context, cfg *SandboxConfig, root rootImage) (*Sandbox, error) {
	a := root.snapshot
	saved, own, err := c.home.openSaved(ctx, a)
	if err != nil {
		return nil, err
	}
	k, err := saved.child(c.home, cfg)
	if err != nil {
		return nil, err
	}
	if err := c.home.checkTrust(cfg, a.Path, k.spec, own); err != nil {
		return nil, err
	}
	if err := k.goesOn(a.Checkpoint(), a.Payload()); err != nil {
		return nil, err
	}
	if err := c.home.checkImage(ctx, a, saved.Files); err != nil {
		return nil, err
	}
	if err := c.makeRoom(ctx, cfg); err != nil {
		return nil, err
	}
	b := &boot{catalog: c, spec: k.spec, child: k, snapshot: a, image: root.image, vmdk: root.image.VMDK, detached: cfg.Detached}
	return b.create(ctx)
}
