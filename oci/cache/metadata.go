package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
)

// maxMetadata bounds a metadata document: manifest and configuration as JSON strings.
const maxMetadata = 128 << 20

// metadata is the document of one reference. Beyond the fields of microsandbox 0.6.18
// it holds the reference itself, which the file name does not reveal.
type metadata struct {
	Reference      string          `json:"reference,omitempty"`
	ManifestDigest digest.Digest   `json:"manifest_digest"`
	ConfigDigest   digest.Digest   `json:"config_digest"`
	MediaType      string          `json:"media_type,omitempty"`
	RawManifest    string          `json:"raw_manifest_json"`
	RawConfig      string          `json:"raw_config_json"`
	Config         config          `json:"config"`
	Layers         []metadataLayer `json:"layers"`
}

// config is oci.Config in the form that microsandbox 0.6.18 gives it: what is absent is
// null, but for the lists that are always there.
type config struct {
	Env          []string          `json:"env"`
	Cmd          []string          `json:"cmd"`
	Entrypoint   []string          `json:"entrypoint"`
	WorkingDir   *string           `json:"working_dir"`
	User         *string           `json:"user"`
	ExposedPorts []string          `json:"exposed_ports"`
	Volumes      []string          `json:"volumes"`
	Labels       map[string]string `json:"labels"`
	StopSignal   *string           `json:"stop_signal"`
}

func newConfig(c oci.Config) config {
	list := func(l []string) []string { return append([]string{}, l...) }
	absent := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	labels := c.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return config{Env: list(c.Env), Cmd: c.Cmd, Entrypoint: c.Entrypoint, WorkingDir: absent(c.WorkingDir), User: absent(c.User),
		ExposedPorts: list(c.ExposedPorts), Volumes: list(c.Volumes), Labels: labels, StopSignal: absent(c.StopSignal)}
}

func (c config) run() oci.Config {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return oci.Config{Env: c.Env, Cmd: c.Cmd, Entrypoint: c.Entrypoint, WorkingDir: text(c.WorkingDir), User: text(c.User),
		ExposedPorts: c.ExposedPorts, Volumes: c.Volumes, Labels: c.Labels, StopSignal: text(c.StopSignal)}
}

type metadataLayer struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type,omitempty"`
	SizeBytes int64         `json:"size_bytes,omitempty"`
	DiffID    digest.Digest `json:"diff_id"`
}

func newMetadata(r ref.Reference, image *manifest.Image) metadata {
	m := metadata{
		Reference:      r.String(),
		ManifestDigest: image.ManifestDigest, ConfigDigest: image.ConfigDigest, MediaType: image.MediaType,
		RawManifest: string(image.Manifest), RawConfig: string(image.Config),
		Config: newConfig(image.Parsed.Run), Layers: make([]metadataLayer, 0, len(image.Layers)),
	}
	for _, l := range image.Layers {
		m.Layers = append(m.Layers, metadataLayer{Digest: l.BlobDigest, MediaType: l.MediaType, SizeBytes: l.Size, DiffID: l.DiffID})
	}
	return m
}

// writeDocument publishes the document of a reference.
func (c *Cache) writeDocument(r ref.Reference, m metadata) error {
	m.Reference = r.String()
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.publish(c.metadataPath(r), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// readMetadata reads and checks a document; a missing one is oci.ErrNotFound.
func readMetadata(path string) (metadata, time.Time, error) {
	var m metadata
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, time.Time{}, oci.ErrNotFound
	}
	if err != nil {
		return m, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return m, time.Time{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err != nil {
		return m, time.Time{}, err
	}
	if len(data) > maxMetadata {
		return m, time.Time{}, fmt.Errorf("%w: %s has more than %d bytes", oci.ErrLimit, path, maxMetadata)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, time.Time{}, fmt.Errorf("%w: %s: %w", oci.ErrManifest, path, err)
	}
	if err := m.check(); err != nil {
		return m, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, info.ModTime(), nil
}

// check validates the digests, which become file names.
func (m *metadata) check() error {
	errs := []error{m.ManifestDigest.Validate(), m.ConfigDigest.Validate()}
	for _, l := range m.Layers {
		errs = append(errs, l.DiffID.Validate())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", oci.ErrManifest, err)
	}
	return nil
}

// layerNames returns the names of the layer files, bottom first.
func (m *metadata) layerNames() []string {
	names := make([]string, 0, len(m.Layers))
	for _, l := range m.Layers {
		names = append(names, safe(l.DiffID))
	}
	return names
}

// image makes the value that describes the reference; of the files only the layers are
// looked for.
func (c *Cache) image(m metadata, updated time.Time) (*oci.Image, error) {
	parsed, err := manifest.ParseConfig([]byte(m.RawConfig))
	if err != nil {
		return nil, err
	}
	i := &oci.Image{
		Reference: m.Reference, Name: m.Reference,
		ManifestDigest: m.ManifestDigest, MediaType: m.MediaType, ConfigDigest: m.ConfigDigest,
		OS: parsed.Platform.OS, Architecture: parsed.Platform.Architecture, Variant: parsed.Platform.Variant,
		Created: parsed.Created, Updated: updated, Config: m.Config.run(), VMDK: c.vmdkPath(m.ManifestDigest),
		RawManifest: []byte(m.RawManifest), RawConfig: []byte(m.RawConfig),
	}
	for _, l := range m.Layers {
		own := oci.Layer{DiffID: l.DiffID, BlobDigest: l.Digest, MediaType: l.MediaType, Size: l.SizeBytes, Image: c.layerPath(l.DiffID)}
		if info, err := os.Stat(own.Image); err == nil {
			own.ImageSize = info.Size()
		}
		i.Layers = append(i.Layers, own)
	}
	return i, nil
}

// documents calls visit for each readable document of the cache; unless manifest is
// empty, for those of that image only.
func (c *Cache) documents(manifest digest.Digest, visit func(m metadata, updated time.Time)) error {
	dir := filepath.Join(c.dir, manifestsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		m, updated, err := readMetadata(filepath.Join(dir, e.Name()))
		if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrManifest) {
			continue // removed meanwhile, or not ours
		}
		if err != nil {
			return err
		}
		if manifest == "" || m.ManifestDigest == manifest {
			visit(m, updated)
		}
	}
	return nil
}
