package manifest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
)

// Config is what an image configuration says.
type Config struct {
	Platform Platform
	Created  time.Time // zero if absent or not a time
	DiffIDs  []digest.Digest
	Run      oci.Config
}

// ParseConfig reads an image configuration, OCI or Docker (they agree on all that is
// read here). Errors wrap oci.ErrManifest.
func ParseConfig(data []byte) (Config, error) {
	var doc struct {
		Created      string
		OS           string
		Architecture string
		Variant      string
		RootFS       struct {
			Type    string
			DiffIDs []digest.Digest `json:"diff_ids"`
		}
		Config struct {
			User         string
			Env          []string
			Cmd          []string
			Entrypoint   []string
			WorkingDir   string
			ExposedPorts map[string]struct{}
			Volumes      map[string]struct{}
			Labels       map[string]string
			StopSignal   string
		}
	}
	if err := decode("image configuration", data, &doc); err != nil {
		return Config{}, err
	}
	if doc.RootFS.Type != "" && doc.RootFS.Type != "layers" {
		return Config{}, fmt.Errorf("%w: rootfs of type %.40q", oci.ErrManifest, doc.RootFS.Type)
	}
	for _, d := range doc.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return Config{}, fmt.Errorf("%w: diff_id %.100q: %w", oci.ErrManifest, d, err)
		}
	}
	c := Config{
		Platform: Platform{doc.OS, doc.Architecture, doc.Variant},
		DiffIDs:  doc.RootFS.DiffIDs,
		Run: oci.Config{
			Env: doc.Config.Env, Cmd: doc.Config.Cmd, Entrypoint: doc.Config.Entrypoint,
			WorkingDir: doc.Config.WorkingDir, User: doc.Config.User, Labels: doc.Config.Labels,
			StopSignal:   doc.Config.StopSignal,
			ExposedPorts: slices.Sorted(maps.Keys(doc.Config.ExposedPorts)),
			Volumes:      slices.Sorted(maps.Keys(doc.Config.Volumes)),
		},
	}
	if created, err := time.Parse(time.RFC3339Nano, doc.Created); err == nil {
		c.Created = created
	}
	return c, nil
}

// CheckConfig parses the configuration of an image with the given number of layers that
// must run on platform. Errors wrap oci.ErrManifest or oci.ErrPlatform; with the latter
// the result is valid.
func CheckConfig(data []byte, layers int, platform Platform) (Config, error) {
	c, err := ParseConfig(data)
	if err != nil {
		return c, err
	}
	if len(c.DiffIDs) != layers {
		return c, fmt.Errorf("%w: %d layers but %d diff_ids", oci.ErrManifest, layers, len(c.DiffIDs))
	}
	if !platform.runsOn(c.Platform) {
		return c, fmt.Errorf("%w: the image is for %s, this host runs %s", oci.ErrPlatform, c.Platform, platform)
	}
	return c, nil
}
