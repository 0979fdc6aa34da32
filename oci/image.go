package oci

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Image describes one reference in the cache and the image it stands for. It is a
// value to keep or to store; nothing in it changes with the cache.
type Image struct {
	Reference      string // canonical form, see oci/ref
	Name           string // the reference as it was given, by the caller or by the archive
	ManifestDigest digest.Digest
	MediaType      string // of the manifest
	ConfigDigest   digest.Digest
	OS             string
	Architecture   string
	Variant        string
	Created        time.Time // from the image configuration; zero if it does not say
	Updated        time.Time // when the reference was last stored
	Config         Config
	Layers         []Layer // bottom first

	VMDK     string // absolute path of the VMDK descriptor of the root disk
	DiskSize int64  // bytes of that disk; 0 if its files are not all there

	RawManifest []byte // exactly the bytes ManifestDigest is the digest of
	RawConfig   []byte // exactly the bytes ConfigDigest is the digest of
}

// TotalSize returns the sum of the layer blobs' sizes in bytes.
func (i *Image) TotalSize() int64 {
	var total int64
	for _, l := range i.Layers {
		total += l.Size
	}
	return total
}

// Config is the part of an image configuration that says how to run it. Absent and
// empty lists are the same.
type Config struct {
	Env          []string          `json:"env"`
	Cmd          []string          `json:"cmd,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	WorkingDir   string            `json:"working_dir,omitempty"`
	User         string            `json:"user,omitempty"`
	ExposedPorts []string          `json:"exposed_ports"`
	Volumes      []string          `json:"volumes"`
	Labels       map[string]string `json:"labels"`
	StopSignal   string            `json:"stop_signal,omitempty"`
}

// Layer is one layer of an image.
type Layer struct {
	DiffID     digest.Digest // of the uncompressed tar stream
	BlobDigest digest.Digest // of the blob, compressed or not
	MediaType  string
	Size       int64  // of the blob in bytes
	Image      string // absolute path of the layer's EROFS image
	ImageSize  int64  // bytes; 0 if it is not there
}
