package microsandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path"
	"strings"

	"github.com/gomsb/gomsb/oci/cache"
	"github.com/gomsb/gomsb/snapshot"
	snapshotarchive "github.com/gomsb/gomsb/snapshot/archive"
	"github.com/gomsb/gomsb/snapshot/descriptor"
)

// layersExtension is the extension of a snapshot's descriptor with the layers that its disk
// lies on: the SHA-256 of each layer's EROFS image by the layer's diff ID. Nothing in an
// image says what its layers become, so this is what ties the layers in an archive to the
// snapshot's identity. Other releases pass over it.
const layersExtension = "gomsb.layers"

// isLayer reports whether a file of the cache is a layer.
func isLayer(name string) bool { return path.Dir(name) == "layers" }

// layerName is the file of a layer in the cache.
func layerName(diffID string) string {
	return "layers/" + strings.Replace(diffID, ":", "_", 1) + ".erofs"
}

// layerSums returns the extension for an image, nil if the image is not in the cache.
func (h home) layerSums(ctx context.Context, cfg snapshot.Config) (map[string]any, error) {
	images, err := cache.Open(h.cache())
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	files, release, err := h.filesOf(ctx, images, artefactOf(cfg))
	if IsKind(err, ErrSnapshotImageMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer release()
	sums := map[string]any{}
	for _, f := range files {
		if !isLayer(f.Name) {
			continue
		}
		sum, err := fileSum(ctx, f.Path)
		if err != nil {
			return nil, wrap(ErrIO, err)
		}
		sums[strings.Replace(strings.TrimSuffix(path.Base(f.Name), ".erofs"), "_", ":", 1)] = sum
	}
	return map[string]any{layersExtension: sums}, nil
}

// artefactOf is what is known of the image of a snapshot that is to be made.
func artefactOf(cfg snapshot.Config) *snapshot.Artefact {
	return &snapshot.Artefact{Path: cfg.Name, Descriptor: &descriptor.Descriptor{ImageRef: cfg.ImageRef, ImageManifestDigest: cfg.ImageManifestDigest}}
}

func fileSum(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(ctxReaderAt{ctx, f}, 0, info.Size())); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// checkLayers compares layers, their sums by name, with what a snapshot recorded of them.
func checkLayers(a *snapshot.Artefact, sums map[string]string) error {
	recorded, _ := a.Descriptor.Extensions[layersExtension].(map[string]any)
	for diffID, want := range recorded {
		if got, there := sums[layerName(diffID)]; there && got != want {
			return fail(ErrSnapshotIntegrity, "layer %s is not the one that snapshot %s was made on", diffID, a.Digest)
		}
	}
	return nil
}

// summedImages sums the layers of an archive on their way.
type summedImages struct {
	to   snapshotarchive.Images
	sums map[string]string
}

// Add implements snapshotarchive.Images.
func (s *summedImages) Add(ctx context.Context, name string, size int64, r io.Reader) error {
	if !isLayer(name) {
		return s.to.Add(ctx, name, size, r)
	}
	sum := sha256.New()
	r = io.TeeReader(r, sum)
	if err := s.to.Add(ctx, name, size, r); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what is in the cache already may not have been read
		return err
	}
	s.sums[name] = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return nil
}
