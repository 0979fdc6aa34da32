package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/gomsb/gomsb/oci"
)

// maxLinks bounds a chain of links between members.
const maxLinks = 16

// member is where a file of the archive lies, or the member it links to.
type member struct {
	offset, size int64
	link         string
}

// index finds members by name. As when a tar file is extracted, the last member of a
// name counts.
type index struct {
	at      io.ReaderAt
	members map[string]member
	limits  Limits
	read    int64 // bytes of metadata read so far
}

func newIndex(ctx context.Context, f *File, limits Limits) (*index, error) {
	x := &index{at: f, members: make(map[string]member), limits: limits}
	section := io.NewSectionReader(f, 0, f.Size)
	archive := tar.NewReader(section)
	names := 0
	for count := 0; ; count++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := archive.Next()
		if err == io.EOF {
			return x, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, fmt.Errorf("%w: %w", oci.ErrArchive, err)
		}
		if names += len(h.Name) + len(h.Linkname); count >= limits.Entries || names > limits.NameBytes {
			return nil, fmt.Errorf("%w: more than %d members or %d bytes of names in the archive", oci.ErrLimit, limits.Entries, limits.NameBytes)
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if err := x.add(h, offset, f.Size); err != nil {
			return nil, err
		}
	}
}

func (x *index) add(h *tar.Header, offset, end int64) error {
	if !utf8.ValidString(h.Name) {
		return fmt.Errorf("%w: member name %q is not UTF-8", oci.ErrArchive, h.Name)
	}
	name := path.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont:
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return fmt.Errorf("%w: member %q is sparse", oci.ErrArchive, h.Name)
			}
		}
		if h.Size > end-offset {
			return fmt.Errorf("%w: member %q is cut off", oci.ErrArchive, h.Name)
		}
		x.members[name] = member{offset: offset, size: h.Size}
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) {
			return nil // never found then
		}
		x.members[name] = member{link: path.Join(path.Dir(name), h.Linkname)}
	case tar.TypeLink:
		x.members[name] = member{link: path.Clean(h.Linkname)}
	}
	return nil
}

// has reports whether there is a member of that name.
func (x *index) has(name string) bool {
	_, ok := x.members[path.Clean(name)]
	return ok
}

// open returns the content of the member called name, following links between members.
func (x *index) open(name string) (*io.SectionReader, error) {
	at := path.Clean(name)
	for range maxLinks {
		if path.IsAbs(at) || at == ".." || strings.HasPrefix(at, "../") {
			return nil, fmt.Errorf("%w: %q points outside of it", oci.ErrArchive, name)
		}
		m, ok := x.members[at]
		if !ok {
			return nil, fmt.Errorf("%w: it lacks %q", oci.ErrArchive, name)
		}
		if m.link == "" {
			return io.NewSectionReader(x.at, m.offset, m.size), nil
		}
		at = m.link
	}
	return nil, fmt.Errorf("%w: %q goes through more than %d links", oci.ErrArchive, name, maxLinks)
}

// metadata returns the content of a small member.
func (x *index) metadata(name string) ([]byte, error) {
	r, err := x.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > x.limits.MetadataBytes {
		return nil, fmt.Errorf("%w: %q has %d bytes; the limit for metadata is %d", oci.ErrLimit, name, r.Size(), x.limits.MetadataBytes)
	}
	if x.read += r.Size(); x.read > x.limits.TotalMetadata {
		return nil, fmt.Errorf("%w: more than %d bytes of metadata", oci.ErrLimit, x.limits.TotalMetadata)
	}
	data := make([]byte, r.Size())
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%w: %q: %w", oci.ErrArchive, name, err)
	}
	return data, nil
}

func decode(name string, data []byte, into any) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%w: %s: %w", oci.ErrManifest, name, err)
	}
	return nil
}
