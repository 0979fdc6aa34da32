package microsandbox

import (
	"context"
	"errors"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/cache"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/snapshot"
)

// CreateSandbox creates a sandbox, boots it and waits for its agent. Unless WithDetached
// is given, the handle owns the sandbox: it ends with Close or with this process. A
// sandbox whose creation was cancelled leaves nothing behind. A guest that does not come
// up is an error that wraps *StartError.
func CreateSandbox(ctx context.Context, name string, opts ...SandboxOption) (*Sandbox, error) {
	c := &SandboxConfig{}
	for _, o := range opts {
		o(c)
	}
	c.Name = name
	asked := *c
	c.sizeUpper()
	c.bindDirectory()
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	h.settings.setDefaults(c)
	if err := c.validate(); err != nil {
		return nil, err
	}
	root := make(chan rootImage, 1)
	go func() { root <- resolveImage(ctx, h, c) }() // while the database opens
	cat, err := openCatalog(ctx, h, true)
	img := <-root
	if err != nil {
		return nil, err
	}
	defer cat.close()
	if img.err != nil {
		return nil, img.err
	}
	if img.image != nil && img.snapshot == nil {
		if err := h.setDefaultRootDisk(c); err != nil {
			return nil, err
		}
	}
	if img.pulled {
		if _, err := cat.saveImage(ctx, img.image); err != nil {
			return nil, err
		}
	}
	if c.goesOn(img.snapshot) {
		return cat.restore(ctx, &asked, img)
	}
	if img.snapshot != nil {
		c.Image = img.snapshot.Descriptor.ImageRef
	}
	s, err := newSpec(c, img.image)
	if err != nil {
		return nil, err
	}
	h.settings.SandboxDefaults.setMetrics(s)
	if err := cat.makeRoom(ctx, c); err != nil {
		return nil, err
	}
	b := &boot{catalog: cat, spec: s, config: c, image: img.image, snapshot: img.snapshot, detached: c.Detached}
	if img.image != nil {
		b.vmdk = img.image.VMDK
	}
	if c.startup != nil {
		if b.startup, err = s.startup(c.startup); err != nil {
			return nil, err
		}
	}
	return b.create(ctx)
}

// bindDirectory tells an image that is a directory of the host from others.
func (c *SandboxConfig) bindDirectory() {
	if !ref.IsLocalPath(c.Image) || c.ImageBind != "" {
		return
	}
	if info, err := os.Stat(c.Image); err == nil && info.IsDir() {
		c.Image, c.ImageBind = "", c.Image
	}
}

// rootImage is what a sandbox starts from: image is nil for a disk image file and for a
// directory.
type rootImage struct {
	image  *oci.Image
	pulled bool // from a registry, just now
	// snapshot is what the root's changes start from, nil for nothing.
	snapshot *snapshot.Artefact
	err      error
}

func resolveImage(ctx context.Context, h home, c *SandboxConfig) rootImage {
	if c.Snapshot != "" {
		return resolveSnapshot(ctx, h, c)
	}
	if c.ImageBind != "" {
		return rootImage{err: checkDirectory(c.ImageBind)}
	}
	if isDiskImage(c.Image) || ref.IsLocalPath(c.Image) {
		return rootImage{err: checkDiskImage(c.Image)}
	}
	img, pulled, err := h.pull(ctx, c.Image, c.pullOptions(c.PullPolicy))
	return rootImage{image: img, pulled: pulled, err: err}
}

func (c *SandboxConfig) pullOptions(policy PullPolicy) PullOptions {
	return PullOptions{
		Policy: policy, Auth: c.RegistryAuth, Insecure: c.RegistryInsecure, CACerts: c.RegistryCACerts, CACertsFiles: c.RegistryCACertPaths, Progress: c.pullProgress,
	}
}

func checkDiskImage(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return wrap(ErrInvalidConfig, err)
	case !st.Mode().IsRegular():
		return fail(ErrInvalidConfig, "%s is not a disk image file", path)
	}
	return nil
}

func checkDirectory(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return wrap(ErrInvalidConfig, err)
	case !st.IsDir():
		return fail(ErrInvalidConfig, "%s is not a directory", path)
	}
	return nil
}

// makeRoom deals with a sandbox that has the name already.
func (c *catalog) makeRoom(ctx context.Context, cfg *SandboxConfig) error {
	row, err := c.byName(ctx, cfg.Name)
	if err != nil {
		return gone(err)
	}
	if !cfg.Replace {
		return alreadyExists(cfg.Name)
	}
	grace := stopTimeout
	if cfg.ReplaceWithTimeout != nil {
		grace = *cfg.ReplaceWithTimeout
	}
	if grace > 0 {
		err = c.stop(ctx, row, nil, grace)
	} else {
		err = c.kill(ctx, row, killTimeout)
	}
	if err != nil {
		return gone(err)
	}
	return gone(c.remove(ctx, row))
}

func alreadyExists(name string) error {
	return fail(ErrSandboxAlreadyExists, "sandbox already exists: %s", name)
}

// StartSandbox boots a stopped sandbox; the handle owns it.
func StartSandbox(ctx context.Context, name string) (*Sandbox, error) {
	return startNamed(ctx, name, startConfig{})
}

// StartSandboxDetached boots a stopped sandbox that survives this process.
func StartSandboxDetached(ctx context.Context, name string) (*Sandbox, error) {
	return startNamed(ctx, name, startConfig{detached: true})
}

// Start boots the stopped sandbox; the new handle owns it.
func (h *SandboxHandle) Start(ctx context.Context) (*Sandbox, error) {
	return startSandbox(ctx, h.home, h.row.Name, startConfig{})
}

// StartDetached boots the stopped sandbox so that it survives this process.
func (h *SandboxHandle) StartDetached(ctx context.Context) (*Sandbox, error) {
	return startSandbox(ctx, h.home, h.row.Name, startConfig{detached: true})
}

// StartCommand boots the stopped sandbox detached, and lets it run a command in the
// background and stop when that ends.
func (h *SandboxHandle) StartCommand(ctx context.Context, cmd string, args ...string) (*Sandbox, error) {
	return startSandbox(ctx, h.home, h.row.Name, startConfig{detached: true, startup: &startupCommand{cmd, args}})
}

type startConfig struct {
	detached bool
	startup  *startupCommand
}

func startNamed(ctx context.Context, name string, cfg startConfig) (*Sandbox, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	return startSandbox(ctx, h, name, cfg)
}

func startSandbox(ctx context.Context, h home, name string, cfg startConfig) (*Sandbox, error) {
	cat, row, err := find(ctx, h, name)
	if err != nil {
		return nil, err
	}
	defer cat.close()
	if live(row.Status) {
		return nil, fail(ErrSandboxStillRunning, "sandbox still running: %s", name)
	}
	s, err := parseSpec(row.Config)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	b := &boot{catalog: cat, spec: s, detached: cfg.detached}
	if b.vmdk, err = s.rootDisk(ctx, h); err != nil {
		return nil, err
	}
	if cfg.startup != nil {
		if b.startup, err = s.startup(cfg.startup); err != nil {
			return nil, err
		}
	}
	return b.start(ctx, row)
}

// rootDisk is the descriptor of the image that the sandbox was created from, whatever
// its reference stands for by now; empty for a disk image and a flat disk.
func (s *spec) rootDisk(ctx context.Context, h home) (string, error) {
	if s.Image.OCI == nil || s.Image.OCI.RootDisk.Kind == rootDiskFlat {
		return "", nil
	}
	pinned := value(s.ManifestDigest)
	if pinned == "" {
		img, _, err := h.pull(ctx, s.Image.OCI.Reference, PullOptions{Policy: PullPolicyNever})
		if err != nil {
			return "", err
		}
		return img.VMDK, nil
	}
	images, err := cache.Open(h.cache())
	if err != nil {
		return "", wrap(ErrIO, err)
	}
	vmdk, _, err := images.Disk(ctx, digest.Digest(pinned))
	if errors.Is(err, oci.ErrNotFound) {
		return "", &Error{Kind: ErrImageNotFound, Message: "image not found: " + s.Image.OCI.Reference + " as of the sandbox's creation", Cause: err}
	}
	return vmdk, wrap(ErrIO, err)
}
