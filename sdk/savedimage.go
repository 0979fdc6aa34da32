package microsandbox

import (
	"context"
	"fmt"
	"os"
	"path"

	"github.com/gomsb/gomsb/snapshot"
)

// savedFile is a file of an image when a machine that uses it was saved.
type savedFile struct {
	SHA256 string `json:"sha256"`
	Seen   string `json:"seen"` // which file it was on the host, and its times
}

// imageSums are the files of the image of a snapshot that the guest sees, by their names in
// the cache.
func (h home) imageSums(ctx context.Context, cfg snapshot.Config) (map[string]savedFile, error) {
	sums := map[string]savedFile{}
	err := h.eachImageFile(ctx, artefactOf(cfg), func(name, file string) error {
		sum, err := fileSum(ctx, file)
		if err == nil {
			sums[name] = savedFile{sum, seenFile(file)}
		}
		return err
	})
	return sums, err
}

// checkImage makes sure that the guest finds in its image what it has read of it already.
func (h home) checkImage(ctx context.Context, a *snapshot.Artefact, files map[string]savedFile) error {
	found := 0
	err := h.eachImageFile(ctx, a, func(name, file string) error {
		want, known := files[name]
		if !known {
			return nil
		}
		if found++; want.Seen != "" && want.Seen == seenFile(file) {
			return nil
		}
		sum, err := fileSum(ctx, file)
		if err == nil && sum != want.SHA256 {
			err = fail(ErrUnsupportedOperation, "image %s was converted in another way than where snapshot %s was made, and its memory does not fit: bring the image along, with snapshot save --with-image, or start from its disk alone", a.Descriptor.ImageRef, a.Path)
		}
		return err
	})
	if err == nil && found != len(files) {
		err = fail(ErrSnapshotIntegrity, "snapshot %s was made on %d files of image %s, of which %d are there", a.Path, len(files), a.Descriptor.ImageRef, found)
	}
	return err
}

// eachImageFile calls f for the files of a snapshot's image that a guest sees, as long as
// nobody removes them.
func (h home) eachImageFile(ctx context.Context, a *snapshot.Artefact, f func(name, file string) error) error {
	files, release, err := h.imageFiles(ctx, []*snapshot.Artefact{a})
	if err != nil {
		return err
	}
	defer release()
	for _, file := range files {
		if dir := path.Dir(file.Name); dir != "layers" && dir != "fsmeta" {
			continue
		}
		if err := f(file.Name, file.Path); err != nil {
			return wrap(ErrIO, err)
		}
	}
	return nil
}

// seenFile tells a file from others and from what it was before; empty if that is unknown.
func seenFile(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	id, err := fileID(f)
	info, statErr := f.Stat()
	if err != nil || statErr != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", id, info.Size(), info.ModTime().UnixNano())
}
