package microsandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/cache"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/oci/registry"
)

// RegistryAuth are credentials for an image's registry. They are never stored.
type RegistryAuth struct{ Username, Password string }

// registryOptions say how to talk to a registry, beyond what config.json says.
type registryOptions struct {
	auth     *RegistryAuth
	insecure bool
	caCerts  [][]byte // PEM
	caFiles  []string
}

// PullOptions are the options of Image.Pull.
type PullOptions struct {
	Policy       PullPolicy      // default PullPolicyIfMissing
	Force        bool            // fetch and convert everything anew
	Materialize  Materialize     // what to prepare besides the image itself
	Auth         *RegistryAuth   // nil: the keyring's, config.json's, Docker's, none
	Insecure     bool            // plain HTTP
	CACerts      [][]byte        // PEM bundles of certificate authorities to trust besides the system's
	CACertsFiles []string        // files of such bundles
	Progress     func(PullEvent) // called one at a time; must not block
}

// Materialize says for what root disks a pull prepares an image. What is not prepared is
// made when the first sandbox needs it.
type Materialize string

// The choices. The layers are always there: flat is All.
const (
	MaterializeDefault Materialize = "" // flat if config.json's default root disk is
	MaterializeLayered Materialize = "layered"
	MaterializeFlat    Materialize = "flat"
	MaterializeAll     Materialize = "all"
)

// flat reports whether the flat file system of an image is wanted.
func (m Materialize) flat(h home) (bool, error) {
	switch m {
	case MaterializeDefault:
		d, err := h.settings.SandboxDefaults.OCI.config()
		return d != nil && d.kind == RootDiskKindFlat, err
	case MaterializeLayered:
		return false, nil
	case MaterializeFlat, MaterializeAll:
		return true, nil
	}
	return false, fail(ErrInvalidConfig, "unknown kind of root file system %q: use layered, flat or all", m)
}

// PullEventKind names a step of a pull.
type PullEventKind string

// The steps of a pull. Those about a layer come for several layers at a time.
const (
	PullResolving           = PullEventKind(oci.EventResolving)
	PullResolved            = PullEventKind(oci.EventResolved)
	PullDownloadProgress    = PullEventKind(oci.EventDownloadProgress)
	PullDownloadComplete    = PullEventKind(oci.EventDownloadComplete)
	PullMaterializeStarted  = PullEventKind(oci.EventMaterializeStarted)
	PullMaterializeProgress = PullEventKind(oci.EventMaterializeProgress)
	PullMaterializeComplete = PullEventKind(oci.EventMaterializeComplete)
	PullMerging             = PullEventKind(oci.EventMerging)
	PullWriting             = PullEventKind(oci.EventWriting)
	PullComplete            = PullEventKind(oci.EventComplete)
)

// PullEvent reports the progress of a pull. What does not apply to Kind is zero.
type PullEvent struct {
	Kind           PullEventKind
	Reference      string
	ManifestDigest string
	LayerIndex     int // bottom is 0
	LayerCount     int
	DiffID         string
	BlobDigest     string
	Bytes, Total   int64 // of a layer's blob; Total of PullResolved: of all
}

func pullEvent(e oci.Event) PullEvent {
	return PullEvent{Kind: PullEventKind(e.Kind), Reference: e.Reference, ManifestDigest: e.ManifestDigest.String(), LayerIndex: e.Layer, LayerCount: e.Layers,
		DiffID: e.DiffID.String(), BlobDigest: e.BlobDigest.String(), Bytes: e.Bytes, Total: e.Total}
}

// Pull makes sure that an image is in the cache, and returns its reference's handle and
// whether the registry was asked for it.
func (imageFactory) Pull(ctx context.Context, reference string, o PullOptions) (handle *ImageHandle, pulled bool, err error) {
	h, err := openHome()
	if err != nil {
		return nil, false, err
	}
	flat, err := o.Materialize.flat(h)
	if err != nil {
		return nil, false, err
	}
	img, pulled, err := h.pull(ctx, reference, o)
	if err != nil {
		return nil, false, err
	}
	keep := context.WithoutCancel(ctx) // what is in the cache belongs into the catalogue
	c, err := openCatalog(keep, h, true)
	if err != nil {
		return nil, false, err
	}
	defer c.close()
	row, err := c.saveImage(keep, img)
	if err != nil {
		return nil, false, err
	}
	if flat {
		if o.Progress != nil {
			o.Progress(PullEvent{Kind: PullWriting, Reference: row.Reference})
		}
		if _, err := h.flatRoot(ctx, img); err != nil {
			return nil, false, err
		}
	}
	return &ImageHandle{row}, pulled, nil
}

var pullPolicies = map[PullPolicy]cache.Policy{
	PullPolicyDefault: cache.IfMissing, PullPolicyIfMissing: cache.IfMissing, PullPolicyAlways: cache.Always, PullPolicyNever: cache.Never,
}

// pull is Pull for the cache alone.
func (h home) pull(ctx context.Context, reference string, o PullOptions) (img *oci.Image, pulled bool, err error) {
	policy, ok := pullPolicies[o.Policy]
	if !ok {
		return nil, false, fail(ErrInvalidConfig, "unknown pull policy %q: use always, if-missing or never", o.Policy)
	}
	r, err := ref.Parse(reference)
	if err != nil {
		return nil, false, wrap(ErrInvalidConfig, err)
	}
	images, err := cache.Open(h.cache())
	if err != nil {
		return nil, false, wrap(ErrIO, err)
	}
	remote := &lazyRemote{open: func() (*registry.Client, error) {
		return h.registry(registryOptions{auth: o.Auth, insecure: o.Insecure, caCerts: o.CACerts, caFiles: o.CACertsFiles}, r.Registry())
	}}
	defer remote.close()
	opts := cache.PullOptions{Policy: policy, Force: o.Force}
	if o.Progress != nil {
		opts.Progress = func(e oci.Event) { o.Progress(pullEvent(e)) }
	}
	img, err = images.Pull(ctx, reference, remote, opts)
	if errors.Is(err, oci.ErrUnauthorized) {
		err = fmt.Errorf("%w: credentials for %s are missing or wrong: store some with msb registry login, or name them in %s", err, r.Registry(), h.configFile)
	}
	return img, remote.client != nil, pullError(err)
}

// pullError gives an error of a pull its kind.
func pullError(err error) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	kind := ErrIO
	is := func(classes ...error) bool {
		for _, class := range classes {
			if errors.Is(err, class) {
				return true
			}
		}
		return false
	}
	switch {
	case is(context.Canceled, context.DeadlineExceeded):
		return &Error{Kind: ErrCancelled, Cause: err}
	case is(oci.ErrNotCached, oci.ErrNotFound):
		kind = ErrImageNotFound
	case is(registry.ErrConfig, oci.ErrReference):
		kind = ErrInvalidConfig
	case is(oci.ErrRegistry, oci.ErrUnauthorized, oci.ErrPlatform, oci.ErrManifest, oci.ErrMediaType, oci.ErrDigestMismatch, oci.ErrSizeMismatch, oci.ErrCompression, oci.ErrLimit, oci.ErrLayer):
		kind = ErrImagePullFailed
	}
	return &Error{Kind: kind, Message: "image error", Cause: err}
}

// registry makes a client for the registry host of one pull.
func (h home) registry(o registryOptions, host string) (*registry.Client, error) {
	known := h.settings.Registries
	settings := registry.Config{Insecure: o.insecure, Keyring: registryKeyring, SecretsDir: h.secrets(), UserAgent: "gomsb/" + SDKVersion()}
	if o.auth != nil {
		settings.Explicit = &registry.Credentials{Username: o.auth.Username, Password: o.auth.Password}
	}
	// Settings of other registries, however wrong, do not matter now.
	settings.Hosts = map[string]registry.Host{host: known.Hosts[host]}
	files := o.caFiles
	if known.CACerts != "" {
		files = append([]string{known.CACerts}, files...)
	}
	settings.CACerts = append(settings.CACerts, o.caCerts...)
	for _, path := range files {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, &Error{Kind: ErrInvalidConfig, Message: fmt.Sprintf("reading registry CA certs %q", path), Cause: err}
		}
		settings.CACerts = append(settings.CACerts, pem)
	}
	client, err := registry.New(settings)
	return client, wrap(ErrInvalidConfig, err)
}

// lazyRemote makes the client for a registry when it is first needed: most images are in
// the cache.
type lazyRemote struct {
	open   func() (*registry.Client, error)
	once   sync.Once
	client *registry.Client
	err    error
}

// Resolve implements cache.Remote; it comes before any Blob.
func (l *lazyRemote) Resolve(ctx context.Context, r ref.Reference, p manifest.Platform) (*manifest.Image, error) {
	if l.once.Do(func() { l.client, l.err = l.open() }); l.err != nil {
		return nil, l.err
	}
	return l.client.Resolve(ctx, r, p)
}

// Blob implements cache.Remote.
func (l *lazyRemote) Blob(ctx context.Context, r ref.Reference, layer oci.Layer, offset int64) io.ReadCloser {
	return l.client.Blob(ctx, r, layer, offset)
}

func (l *lazyRemote) close() {
	if l.client != nil {
		l.client.Close()
	}
}
