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
	"github.com/gomsb/gomsb/oci/archive"
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
	Config         oci.Config      `json:"config"`
	Layers         []metadataLayer `json:"layers"`
}

type metadataLayer struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type,omitempty"`
	SizeBytes int64         `json:"size_bytes,omitempty"`
	DiffID    digest.Digest `json:"diff_id"`
}

func newMetadata(r ref.Reference, image archive.Image) metadata {
	m := metadata{
		Reference:      r.String(),
		ManifestDigest: image.ManifestDigest, ConfigDigest: image.ConfigDigest, MediaType: image.MediaType,
		RawManifest: string(image.Manifest), RawConfig: string(image.Config),
		Config: image.Parsed.Run, Layers: make([]metadataLayer, 0, len(image.Layers)),
	}
	// Lists that are always there are written as [] and {} rather than null.
	if m.Config.Env == nil {
		m.Config.Env = []string{}
	}
	if m.Config.ExposedPorts == nil {
		m.Config.ExposedPorts = []string{}
	}
	if m.Config.Volumes == nil {
		m.Config.Volumes = []string{}
	}
	if m.Config.Labels == nil {
		m.Config.Labels = map[string]string{}
	}
	for _, l := range image.Layers {
		m.Layers = append(m.Layers, metadataLayer{Digest: l.BlobDigest, MediaType: l.MediaType, SizeBytes: l.Size, DiffID: l.DiffID})
	}
	return m
}

func (c *Cache) writeMetadata(r ref.Reference, image archive.Image) error {
	data, err := json.Marshal(newMetadata(r, image))
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
	if err := errors.Join(m.ManifestDigest.Validate(), m.ConfigDigest.Validate()); err != nil {
		return fmt.Errorf("%w: %w", oci.ErrManifest, err)
	}
	return nil
}

// image makes the value that describes the reference; files are not looked at.
func (c *Cache) image(m metadata, updated time.Time) (*oci.Image, error) {
	parsed, err := archive.ParseConfig([]byte(m.RawConfig))
	if err != nil {
		return nil, err
	}
	i := &oci.Image{
		Reference:      m.Reference,
		ManifestDigest: m.ManifestDigest, MediaType: m.MediaType, ConfigDigest: m.ConfigDigest,
		OS: parsed.Platform.OS, Architecture: parsed.Platform.Architecture, Variant: parsed.Platform.Variant,
		Created: parsed.Created, Updated: updated, Config: m.Config,
		RootImage: c.rootPath(m.ManifestDigest), VMDK: c.vmdkPath(m.ManifestDigest),
		RawManifest: []byte(m.RawManifest), RawConfig: []byte(m.RawConfig),
	}
	for _, l := range m.Layers {
		i.Layers = append(i.Layers, oci.Layer{DiffID: l.DiffID, BlobDigest: l.Digest, MediaType: l.MediaType, Size: l.SizeBytes})
	}
	return i, nil
}

// documents calls visit for each readable document of the cache.
func (c *Cache) documents(visit func(path string, m metadata, updated time.Time) error) error {
	dir := filepath.Join(c.dir, manifestsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		m, updated, err := readMetadata(path)
		if errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrManifest) {
			continue // removed meanwhile, or not ours
		}
		if err != nil {
			return err
		}
		if err := visit(path, m, updated); err != nil {
			return err
		}
	}
	return nil
}
