package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
)

// Format is the form of an archive.
type Format string

// The forms.
const (
	Docker Format = "docker" // as docker save writes it
	OCI    Format = "oci"    // an OCI image layout
)

// Export is an image to write.
type Export struct {
	Name     string // short form, as Docker shows it
	FullName string // canonical form
	Platform manifest.Platform
	Config   []byte // its diff_ids are replaced by those of the layers as written
	Layers   []ExportLayer
}

// ExportLayer is one layer of an Export.
type ExportLayer struct {
	// Key is the same for layers of the same content, which are written once.
	Key digest.Digest
	// Write writes the plain tar stream; it is called twice and must write the same.
	Write func(ctx context.Context, w io.Writer) error
}

// Write writes images as an archive, which Read reads. The result depends on the images
// alone. Layers are written plain, so that their digests are those of what they now are.
func Write(ctx context.Context, w io.Writer, format Format, images []Export) error {
	x := &exporter{ctx: ctx, tar: tar.NewWriter(w), layers: map[digest.Digest]stream{}, written: map[string]bool{}}
	var err error
	switch format {
	case Docker:
		err = x.docker(images)
	case OCI:
		err = x.layout(images)
	default:
		err = fmt.Errorf("%w: format %q", oci.ErrArchive, format)
	}
	if err != nil {
		return err
	}
	return x.tar.Close()
}

// stream is what a layer is once written.
type stream struct {
	digest digest.Digest
	size   int64
}

type exporter struct {
	ctx     context.Context
	tar     *tar.Writer
	layers  map[digest.Digest]stream
	written map[string]bool // members
}

// measure finds out what the layers of an image are once written, and gives the image
// the configuration that says so.
func (x *exporter) measure(i Export) (config []byte, layers []stream, err error) {
	for _, l := range i.Layers {
		known, ok := x.layers[l.Key]
		if !ok {
			h := sha256.New()
			c := &counting{w: h}
			if err := l.Write(x.ctx, c); err != nil {
				return nil, nil, err
			}
			known = stream{digest.NewDigest(digest.SHA256, h), c.n}
			x.layers[l.Key] = known
		}
		layers = append(layers, known)
	}
	config, err = withDiffIDs(i.Config, i.Platform, layers)
	return config, layers, err
}

// withDiffIDs replaces the diff_ids of a configuration and keeps all else.
func withDiffIDs(config []byte, platform manifest.Platform, layers []stream) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if err := decode("image configuration", config, &fields); err != nil {
		return nil, err
	}
	ids := []digest.Digest{}
	for _, l := range layers {
		ids = append(ids, l.digest)
	}
	set := map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": ids}}
	for key, value := range map[string]string{"os": platform.OS, "architecture": platform.Architecture} {
		if _, stated := fields[key]; !stated {
			set[key] = value
		}
	}
	for key, value := range set {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[key] = text
	}
	return json.Marshal(fields)
}

// docker writes the form of docker save: manifest.json, the configurations, and a folder
// for each layer.
func (x *exporter) docker(images []Export) error {
	list := []dockerImage{}
	byConfig := map[string]int{}
	configs := map[string][]byte{}
	for _, i := range images {
		config, layers, err := x.measure(i)
		if err != nil {
			return fmt.Errorf("%s: %w", i.Name, err)
		}
		name := hexOf(config) + ".json"
		if at, twice := byConfig[name]; twice {
			list[at].RepoTags = append(list[at].RepoTags, i.Name)
			continue
		}
		doc := dockerImage{Config: name, RepoTags: []string{i.Name}, Layers: []string{}}
		for _, l := range layers {
			doc.Layers = append(doc.Layers, l.digest.Encoded()+"/layer.tar")
		}
		byConfig[name], configs[name] = len(list), config
		list = append(list, doc)
	}
	if err := x.json("manifest.json", list); err != nil {
		return err
	}
	for _, doc := range list {
		if err := x.member(doc.Config, configs[doc.Config]); err != nil {
			return err
		}
	}
	for _, i := range images {
		for _, l := range i.Layers {
			dir := x.layers[l.Key].digest.Encoded() + "/"
			if err := x.member(dir+"VERSION", []byte("1.0\n")); err != nil {
				return err
			}
			if err := x.member(dir+"json", []byte("{}")); err != nil {
				return err
			}
			if err := x.layer(dir+"layer.tar", l); err != nil {
				return fmt.Errorf("%s: %w", i.Name, err)
			}
		}
	}
	return nil
}

// layout writes an OCI image layout.
func (x *exporter) layout(images []Export) error {
	index := spec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageIndex, Manifests: []spec.Descriptor{}}
	blobs := map[string][]byte{}
	add := func(mediaType string, body []byte) spec.Descriptor {
		d := spec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
		blobs[spec.ImageBlobsDir+"/sha256/"+d.Digest.Encoded()] = body
		return d
	}
	for _, i := range images {
		config, layers, err := x.measure(i)
		if err != nil {
			return fmt.Errorf("%s: %w", i.Name, err)
		}
		doc := spec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: spec.MediaTypeImageManifest,
			Config: add(spec.MediaTypeImageConfig, config), Layers: []spec.Descriptor{}}
		for _, l := range layers {
			doc.Layers = append(doc.Layers, spec.Descriptor{MediaType: spec.MediaTypeImageLayer, Digest: l.digest, Size: l.size})
		}
		text, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		d := add(doc.MediaType, text)
		d.Platform = &spec.Platform{OS: i.Platform.OS, Architecture: i.Platform.Architecture, Variant: i.Platform.Variant}
		d.Annotations = map[string]string{spec.AnnotationRefName: i.Name, nameAnnotation: i.FullName}
		index.Manifests = append(index.Manifests, d)
	}
	if err := x.json(spec.ImageLayoutFile, spec.ImageLayout{Version: spec.ImageLayoutVersion}); err != nil {
		return err
	}
	if err := x.json(spec.ImageIndexFile, index); err != nil {
		return err
	}
	for _, name := range sortedKeys(blobs) {
		if err := x.member(name, blobs[name]); err != nil {
			return err
		}
	}
	for _, i := range images {
		for _, l := range i.Layers {
			if err := x.layer(spec.ImageBlobsDir+"/sha256/"+x.layers[l.Key].digest.Encoded(), l); err != nil {
				return fmt.Errorf("%s: %w", i.Name, err)
			}
		}
	}
	return nil
}

// layer writes the stream of a layer unless it is there already.
func (x *exporter) layer(name string, l ExportLayer) error {
	if x.written[name] {
		return nil
	}
	x.written[name] = true
	want := x.layers[l.Key]
	if err := x.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: want.size}); err != nil {
		return err
	}
	h := sha256.New()
	if err := l.Write(x.ctx, io.MultiWriter(x.tar, h)); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, h); got != want.digest {
		return fmt.Errorf("%w: layer %s changed while it was written", oci.ErrDigestMismatch, l.Key)
	}
	return nil
}

func (x *exporter) member(name string, body []byte) error {
	if x.written[name] {
		return nil
	}
	x.written[name] = true
	if err := x.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
		return err
	}
	_, err := x.tar.Write(body)
	return err
}

func (x *exporter) json(name string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	return x.member(name, bytes.TrimSpace(b.Bytes()))
}

func hexOf(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

func sortedKeys(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
