package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/stitch"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// disk is the root disk of an image: the fsmeta image and the layers that it refers to.
type disk struct {
	*Cache
	manifest digest.Digest
	layers   []*layerImage // bottom first
	report   func(oci.Event)
}

// compose makes sure that fsmeta image and descriptor are there and fit the layers, and
// returns the size of the disk. Nobody may remove the layers meanwhile.
func (d *disk) compose(ctx context.Context) (int64, error) {
	if meta, err := d.meta(); err == nil && d.vmdkCurrent(meta) {
		return d.size(meta), nil
	}
	held, err := acquire(ctx, d.fsmetaLock(d.manifest))
	if err != nil {
		return 0, err
	}
	defer held.release()
	return d.make(ctx)
}

// complete reports whether fsmeta image and descriptor are there and fit the layers.
func (d *disk) complete() bool {
	meta, err := d.meta()
	return err == nil && d.vmdkCurrent(meta)
}

// make makes what is not there or does not fit, and returns the size of the disk. The
// caller holds the lock of the fsmeta image.
func (d *disk) make(ctx context.Context) (int64, error) {
	meta, err := d.meta()
	if err != nil {
		if meta, err = d.writeMeta(ctx); err != nil {
			return 0, err
		}
	}
	if !d.vmdkCurrent(meta) {
		err = d.writeVMDK(meta)
	}
	return d.size(meta), err
}

func (d *disk) size(meta int64) int64 {
	for _, l := range d.layers {
		meta += l.size
	}
	return meta
}

// id tells for which images of the layers an fsmeta image was made. The same layer can
// be laid out in more than one way: microsandbox 0.6.18 does it in its own.
func (d *disk) id() [16]byte {
	h := sha256.New()
	for _, l := range d.layers {
		h.Write(l.super[:])
	}
	return [16]byte(h.Sum(nil))
}

var errStale = errors.New("fsmeta image does not fit the layers")

// meta returns the size of the fsmeta image if it is there and fits the layers.
func (d *disk) meta() (int64, error) {
	f, err := os.Open(d.fsmetaPath(d.manifest))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	r, err := erofs.NewReader(f, info.Size())
	if err != nil {
		return 0, err
	}
	if _, err := r.Root(); err != nil {
		return 0, err
	}
	counts := r.Devices()
	if int64(r.Blocks())*erofs.BlockSize != info.Size() || len(counts) != len(d.layers) {
		return 0, errStale
	}
	for i, l := range d.layers {
		// Another program's image says nothing of the layout that it was made for, so it
		// counts for that program's layers only.
		if counts[i] != l.blocks || l.own && !r.OwnMeta() {
			return 0, errStale
		}
	}
	if r.OwnMeta() && r.ID() != d.id() {
		return 0, errStale
	}
	return info.Size(), nil
}

// writeMeta merges the layers and publishes the fsmeta image; the caller holds its lock.
func (d *disk) writeMeta(ctx context.Context) (int64, error) {
	d.report(oci.Event{Kind: oci.EventMerging, Layers: len(d.layers)})
	root := tree.New()
	devices := make([]erofs.Device, 0, len(d.layers))
	for i, l := range d.layers {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		changes, content, done, err := l.take(d.Limits.ImageFiles)
		if err != nil {
			return 0, err
		}
		defer done()
		devices = append(devices, erofs.Device{Content: content, Blocks: l.blocks})
		if err := root.Merge(changes); err != nil {
			return 0, fmt.Errorf("layer %d of %d: %w", i+1, len(d.layers), classify(err))
		}
	}
	d.report(oci.Event{Kind: oci.EventWriting})
	var info erofs.Info
	err := d.publish(d.fsmetaPath(d.manifest), func(w io.Writer) error {
		var err error
		info, err = erofs.BuildMeta(ctxWriter{ctx, w}, root, devices, d.id())
		return classify(err)
	})
	return info.Size(), err
}

// descriptor is the text that describes the disk.
func (d *disk) descriptor(meta int64) ([]byte, error) {
	extents := []stitch.Extent{{Path: d.fsmetaPath(d.manifest), Size: meta}}
	for _, l := range d.layers {
		extents = append(extents, stitch.Extent{Path: l.path, Size: l.size})
	}
	return stitch.Descriptor(extents)
}

// vmdkCurrent reports whether the descriptor is there and describes the files where they
// are; it does not after the cache was moved.
func (d *disk) vmdkCurrent(meta int64) bool {
	want, err := d.descriptor(meta)
	if err != nil {
		return false
	}
	got, err := os.ReadFile(d.vmdkPath(d.manifest))
	return err == nil && bytes.Equal(got, want)
}

// writeVMDK publishes the descriptor; the caller holds the lock of the fsmeta image.
func (d *disk) writeVMDK(meta int64) error {
	text, err := d.descriptor(meta)
	if err != nil {
		return err
	}
	return d.publish(d.vmdkPath(d.manifest), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// maxVMDK bounds a descriptor: paths of 4 KiB for all the layers that an image may have.
const maxVMDK = 4 << 20

// diskLayers returns the names of the layer files of an image's disk, bottom first: from
// its descriptor, which outlives the references to the image, or from a document. An
// unknown image is oci.ErrNotFound.
func (c *Cache) diskLayers(manifest digest.Digest) ([]string, error) {
	if names, err := c.vmdkLayers(c.vmdkPath(manifest)); err == nil {
		return names, nil
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, stitch.ErrDescriptor) {
		return nil, err
	}
	var names []string
	err := c.documents(manifest, func(m metadata, _ time.Time) {
		if names == nil {
			names = m.layerNames()
		}
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%w: %s", oci.ErrNotFound, manifest)
	}
	return names, err
}

// vmdkLayers reads the names of the layer files from a descriptor; the folder does not
// count, for the cache may have been moved.
func (c *Cache) vmdkLayers(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxVMDK))
	if err != nil {
		return nil, err
	}
	extents, err := stitch.Parse(text)
	if err != nil {
		return nil, err
	}
	return layerFiles(extents)
}

// openDisk opens the layers of a disk by the names of their files.
func (c *Cache) openDisk(manifest digest.Digest, names []string) (*disk, error) {
	d := &disk{Cache: c, manifest: manifest, report: func(oci.Event) {}}
	for _, name := range names {
		if i := slices.IndexFunc(d.layers, func(l *layerImage) bool { return l.path == c.layerFile(name) }); i >= 0 {
			d.layers = append(d.layers, d.layers[i])
			continue
		}
		l, err := openLayer(c.layerFile(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%w: a layer of it is gone", oci.ErrNotFound)
		case errors.Is(err, erofs.ErrCorrupt), errors.Is(err, erofs.ErrUnsupported):
			return nil, fmt.Errorf("%w: a layer of it is damaged: %w", oci.ErrNotFound, err)
		case err != nil:
			return nil, err
		}
		d.layers = append(d.layers, l)
	}
	return d, nil
}

// layerFiles returns the names of the layer files in a descriptor.
func layerFiles(extents []stitch.Extent) ([]string, error) {
	var names []string
	for _, e := range extents[1:] { // the first is the fsmeta image
		dir, file := filepath.Split(e.Path)
		name, ok := strings.CutSuffix(file, imageSuffix)
		if filepath.Base(dir) != layersDir || !ok {
			return nil, fmt.Errorf("%w: %q is no layer", stitch.ErrDescriptor, e.Path)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: no layers", stitch.ErrDescriptor)
	}
	return names, nil
}

// disks calls visit for the disk of each image, with the names of its layer files.
func (c *Cache) disks(visit func(manifest digest.Digest, names []string) error) error {
	entries, err := os.ReadDir(filepath.Join(c.dir, vmdkDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), vmdkSuffix)
		manifest := digest.Digest(strings.Replace(name, "_", ":", 1))
		if !ok || manifest.Validate() != nil {
			continue
		}
		names, err := c.vmdkLayers(filepath.Join(c.dir, vmdkDir, e.Name()))
		if err != nil {
			continue // no descriptor of a root disk, or gone
		}
		if err := visit(manifest, names); err != nil {
			return err
		}
	}
	return nil
}
