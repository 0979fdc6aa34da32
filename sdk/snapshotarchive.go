package microsandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/cache"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/snapshot"
	snapshotarchive "github.com/gomsb/gomsb/snapshot/archive"
)

// SnapshotSaveOptions are the options of Snapshot.Save.
type SnapshotSaveOptions struct {
	WithParents bool // the snapshots that this one is made from, too
	WithImage   bool // the image too, so that another machine needs no registry
	PlainTar    bool // do not compress
	DiskOnly    bool // without the memory of a full snapshot; microsandbox 0.6.18 loads no other archives
}

// Save writes a snapshot to an archive file, which appears when it is complete, in a
// directory that is made if missing. Holes of the disk, and of the memory of a full
// snapshot, take no space in it.
func (snapshotFactory) Save(ctx context.Context, name, out string, o SnapshotSaveOptions) error {
	h, err := openHome()
	if err != nil {
		return err
	}
	head, err := h.openSnapshot(ctx, name)
	if err != nil {
		return err
	}
	c := snapshotarchive.Config{Head: head, Name: filepath.Base(head.Path), WithParents: o.WithParents, Plain: o.PlainTar, DiskOnly: o.DiskOnly}
	if o.WithParents {
		if c.Parents, err = h.ancestors(ctx, head); err != nil {
			return err
		}
	}
	if o.WithImage {
		files, release, err := h.imageFiles(ctx, append([]*snapshot.Artefact{head}, c.Parents...))
		if err != nil {
			return err
		}
		defer release()
		if err := checkFiles(ctx, files, append([]*snapshot.Artefact{head}, c.Parents...)); err != nil {
			return err
		}
		c.Images = files
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return wrap(ErrIO, err)
	}
	return writeOutput(out, func(w io.Writer) error { return snapshotError(snapshotarchive.Write(ctx, w, c)) })
}

// checkFiles makes sure that an archive's layers are those that its snapshots were made on:
// the cache may have got them anew since, of another release's making.
func checkFiles(ctx context.Context, files []snapshotarchive.File, of []*snapshot.Artefact) error {
	if !slices.ContainsFunc(of, func(a *snapshot.Artefact) bool { return a.Descriptor.Extensions[layersExtension] != nil }) {
		return nil
	}
	sums := map[string]string{}
	for _, f := range files {
		if !isLayer(f.Name) {
			continue
		}
		sum, err := fileSum(ctx, f.Path)
		if err != nil {
			return wrap(ErrIO, err)
		}
		sums[f.Name] = sum
	}
	for _, a := range of {
		if err := checkLayers(a, sums); err != nil {
			return err
		}
	}
	return nil
}

// ancestors are the snapshots that one is made from, the nearest first.
func (h home) ancestors(ctx context.Context, a *snapshot.Artefact) (all []*snapshot.Artefact, err error) {
	for seen := map[string]bool{a.Digest: true}; a.Descriptor.Parent != ""; {
		if seen[a.Descriptor.Parent] {
			return nil, fail(ErrSnapshotIntegrity, "snapshot %s is its own ancestor", a.Descriptor.Parent)
		}
		seen[a.Descriptor.Parent] = true
		if a, err = h.openSnapshot(ctx, a.Descriptor.Parent); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// pinnedImage is the reference by which a snapshot's image can be asked for: its
// repository and manifest, never its tag.
func pinnedImage(a *snapshot.Artefact) (ref.Reference, error) {
	r, err := ref.Parse(a.Descriptor.ImageRef)
	if err != nil {
		return r, &Error{Kind: ErrInvalidConfig, Message: "snapshot " + a.Path, Cause: err}
	}
	return r.WithDigest(digest.Digest(a.Descriptor.ImageManifestDigest)), nil
}

// imageFiles returns the files of the images of snapshots, which stay until release.
func (h home) imageFiles(ctx context.Context, of []*snapshot.Artefact) (files []snapshotarchive.File, release func(), err error) {
	images, err := cache.Open(h.cache())
	if err != nil {
		return nil, nil, wrap(ErrIO, err)
	}
	taken := map[string]bool{} // names
	var releases []func()
	free := func() {
		for _, f := range releases {
			f()
		}
	}
	for _, a := range of {
		own, done, err := h.filesOf(ctx, images, a)
		if err != nil {
			free()
			return nil, nil, err
		}
		releases = append(releases, done)
		for _, f := range own {
			if !taken[f.Name] {
				taken[f.Name] = true
				files = append(files, snapshotarchive.File{Name: f.Name, Path: f.Path})
			}
		}
	}
	return files, free, nil
}

func (h home) filesOf(ctx context.Context, images *cache.Cache, a *snapshot.Artefact) ([]cache.File, func(), error) {
	r, err := pinnedImage(a)
	if err != nil {
		return nil, nil, err
	}
	// Whatever reference the image has in the cache, from here on it has this one.
	if _, _, err := h.pull(ctx, r.String(), PullOptions{Policy: PullPolicyNever}); err != nil {
		return nil, nil, imageMissing(a, err)
	}
	files, release, err := images.Files(ctx, r.String())
	if errors.Is(err, oci.ErrNotFound) {
		return nil, nil, imageMissing(a, err)
	}
	if err != nil {
		return nil, nil, wrap(ErrIO, err)
	}
	// 0.6.18 looks for the document under the name of the tag.
	if tagged, err := ref.Parse(a.Descriptor.ImageRef); err == nil {
		for i := range files {
			if files[i].Name == path.Join("manifests", r.Key()+".json") {
				files[i].Name = path.Join("manifests", tagged.Key()+".json")
			}
		}
	}
	return files, release, nil
}

// imageMissing is the error of a snapshot whose image could not be had.
func imageMissing(a *snapshot.Artefact, err error) error {
	if IsKind(err, ErrCancelled) {
		return err
	}
	return &Error{Kind: ErrSnapshotImageMissing, Cause: err,
		Message: "snapshot " + filepath.Base(a.Path) + " needs image " + a.Descriptor.ImageRef + " as it was (" + a.Descriptor.ImageManifestDigest + ")"}
}

// Load unpacks an archive file into a directory, the folder of snapshots if dest is empty.
// The snapshot gets the name that it had if that is free, else its identity. If the
// archive holds the image, that goes into the cache. Of a snapshot that was made with
// RecordIntegrity the layers are those that it was made on, so that its identity vouches
// for them to those who know it from its maker; one that the cache has already stays as it
// is. Of another the layers are taken as they are: load such archives only from those you
// trust with your sandboxes. If Load fails, the directory is as it was.
func (snapshotFactory) Load(ctx context.Context, file, dest string) (*SnapshotHandle, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	if dest == "" {
		dest = h.snapshots()
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	defer func() { _ = f.Close() }()
	images, err := cache.Open(h.cache())
	if err != nil {
		return nil, wrap(ErrIO, err)
	}
	c, err := openCatalog(ctx, h, true)
	if err != nil {
		return nil, err
	}
	defer c.close()
	l := &snapshotLoad{catalog: c, images: images.NewImport()}
	err = l.load(ctx, f, dest)
	if err = errors.Join(err, l.images.Close()); err != nil {
		return nil, loadError(err)
	}
	keep := context.WithoutCancel(ctx)
	for _, a := range append(l.ancestors, l.head) {
		c.index(keep, a)
	}
	return c.snapshotHandle(keep, l.head)
}

// loadError gives an error of Load its kind.
func loadError(err error) error {
	if kind := loadKind(err); kind != ErrIO {
		return wrap(kind, err)
	}
	return snapshotError(err)
}

// snapshotLoad is one Load.
type snapshotLoad struct {
	catalog   *catalog
	images    *cache.Import
	head      *snapshot.Artefact
	ancestors []*snapshot.Artefact
}

func (l *snapshotLoad) load(ctx context.Context, r io.Reader, dest string) (err error) {
	place, err := snapshot.NewStaging(ctx, dest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	images := &summedImages{l.images, map[string]string{}}
	found, err := snapshotarchive.Unpack(ctx, r, place.Path, images)
	if err != nil {
		return err
	}
	for _, a := range found.Snapshots {
		if err := checkLayers(a, images.sums); err != nil {
			return err
		}
	}
	for _, a := range found.Snapshots {
		if a.Checkpoint() == "" {
			continue
		}
		if err := l.catalog.home.verifyMemory(ctx, a, true); err != nil {
			return err
		}
	}
	others := slices.DeleteFunc(found.Snapshots, func(a *snapshot.Artefact) bool { return a == found.Head })
	l.head, err = place.Install(ctx, found.Head, found.Name, others, func() error { return l.commit(ctx, found, others) })
	if err != nil {
		return err
	}
	for _, a := range others {
		if there, err := snapshot.Open(filepath.Join(filepath.Dir(l.head.Path), filepath.Base(a.Path))); err == nil {
			l.ancestors = append(l.ancestors, there)
		}
	}
	return nil
}

// commit puts the images into the cache, and lists them.
func (l *snapshotLoad) commit(ctx context.Context, found *snapshotarchive.Contents, others []*snapshot.Artefact) error {
	wanted := map[digest.Digest]ref.Reference{}
	for _, a := range append([]*snapshot.Artefact{found.Head}, others...) {
		r, err := pinnedImage(a)
		if err != nil {
			return err
		}
		wanted[r.Digest()] = r
	}
	images, err := l.images.Commit(ctx, wanted)
	for _, i := range images { // also those before an error
		_, saveErr := l.catalog.saveImage(context.WithoutCancel(ctx), i)
		err = errors.Join(err, saveErr)
	}
	if err != nil {
		return err
	}
	head := digest.Digest(found.Head.Descriptor.ImageManifestDigest)
	if found.Images && !slices.ContainsFunc(images, func(i *oci.Image) bool { return i.ManifestDigest == head }) {
		return fail(ErrInvalidConfig, "the archive promises image %s and lacks it", found.Head.Descriptor.ImageRef)
	}
	return nil
}
