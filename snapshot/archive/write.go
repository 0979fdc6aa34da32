package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/descriptor"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

// Config says what goes into an archive.
type Config struct {
	Head        *snapshot.Artefact
	Parents     []*snapshot.Artefact // its ancestors
	WithParents bool                 // Parents are all of them
	Name        string               // what to call the head elsewhere; may be empty
	Images      []File               // of the images that the snapshots need; nil: none
	Plain       bool                 // no compression
	DiskOnly    bool                 // no checkpoints of machines, which other releases do not read
}

// File is a file of an image cache.
type File struct {
	Name string // in the cache, such as "layers/sha256_<64 hex>.erofs"
	Path string
}

// Write writes an archive. The payloads must not change meanwhile; if one does, Write
// fails with [sparse.ErrChanged].
func Write(ctx context.Context, w io.Writer, c Config) error {
	if c.Plain {
		return c.write(ctx, w)
	}
	z, err := zstd.NewWriter(w)
	if err != nil {
		return err
	}
	err = c.write(ctx, z)
	if closed := z.Close(); err == nil { // else it says the same again
		err = closed
	}
	return err
}

// writer writes members and remembers them for the inventory.
type writer struct {
	ctx     context.Context
	w       io.Writer
	entries []entry

	checkpoints bool // there are some
}

func (c Config) write(ctx context.Context, out io.Writer) error {
	w := &writer{ctx: ctx, w: out}
	i := &inventory{
		Schema: 1, Artifact: inventoryArtifact, Head: c.Head.Digest, Completeness: bootComplete, WithParents: c.WithParents, WithImage: c.Images != nil,
		Entries: []entry{}, ProtectionRequirements: []json.RawMessage{}, Extensions: map[string]json.RawMessage{}, Requires: []string{transportAlgorithm},
	}
	if utf8.ValidString(c.Name) && !strings.Contains(c.Name, `\`) {
		i.SuggestedName = c.Name
	}
	for _, a := range append([]*snapshot.Artefact{c.Head}, c.Parents...) {
		if err := w.snapshot(a); err != nil {
			return err
		}
		i.Snapshots = append(i.Snapshots, listed{SnapshotID: a.Digest, Descriptor: descriptorMember(a.Digest)})
		if c.DiskOnly {
			continue
		}
		if err := w.checkpoint(a); err != nil {
			return err
		}
	}
	if w.checkpoints {
		i.Requires = []string{checkpointFeature, transportAlgorithm}
	}
	for _, f := range c.Images {
		if err := w.image(f); err != nil {
			return err
		}
	}
	i.Entries = w.entries
	text, err := i.encode()
	if err != nil {
		return err
	}
	if err := w.content(member{name: inventoryName, kind: typeRegular, stored: int64(len(text)), size: int64(len(text))}, bytes.NewReader(text)); err != nil {
		return err
	}
	_, err = out.Write(make([]byte, 2*blockSize))
	return err
}

func identityHex(id string) string { return strings.TrimPrefix(id, "sha256:") }

func descriptorMember(id string) string {
	return path.Join("snapshots", identityHex(id), descriptor.FileName)
}

func payloadMember(id, file string) string { return path.Join("files", identityHex(id), file) }

// snapshot writes descriptor and payload.
func (w *writer) snapshot(a *snapshot.Artefact) error {
	text, err := a.Descriptor.Encode()
	if err != nil {
		return err
	}
	m := member{name: descriptorMember(a.Digest), kind: typeRegular, stored: int64(len(text)), size: int64(len(text))}
	if err := w.add(m, entry{Kind: kindDescriptor, OwnerSnapshot: &a.Digest, Integrity: ownIntegrity(a.Digest)}, bytes.NewReader(text)); err != nil {
		return err
	}
	f, err := sparse.Open(a.Payload())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	m = member{name: payloadMember(a.Digest, a.Descriptor.Upper.File), size: a.Descriptor.Upper.SizeBytes}
	if len(m.name) > nameLen {
		return fmt.Errorf("%w: the payload's name %q is too long for an archive", ErrLimit, a.Descriptor.Upper.File)
	}
	data, err := w.layOut(&m, f)
	if err != nil {
		return err
	}
	if err := w.add(m, entry{Kind: kindPayload, OwnerSnapshot: &a.Digest, Integrity: a.Descriptor.Upper.EncodeIntegrity()}, data); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return err
	}
	// Another snapshot may have its place by now, and the payload may be that one's.
	now, err := snapshot.Open(a.Path)
	if err != nil || now.Digest != a.Digest || after.Size() != m.size || !after.ModTime().Equal(before.ModTime()) {
		return fmt.Errorf("%s: %w", a.Payload(), sparse.ErrChanged)
	}
	return nil
}

// layOut finds out what of a payload is stored, and returns a reader of that.
func (w *writer) layOut(m *member, f *os.File) (io.Reader, error) {
	extents, err := allExtents(w.ctx, f, m.size, maxExtents-1)
	if err != nil {
		return nil, err
	}
	if len(extents) == 1 && extents[0].Offset == 0 && extents[0].Length == m.size || m.size == 0 {
		m.kind, m.stored = typeRegular, m.size
		return io.NewSectionReader(f, 0, m.size), nil
	}
	m.kind = typeSparse
	readers := make([]io.Reader, 0, len(extents))
	end := int64(0)
	for _, e := range extents {
		readers = append(readers, io.NewSectionReader(f, e.Offset, e.Length))
		m.stored += e.Length
		end = e.End()
	}
	if end < m.size { // a hole at the end
		extents = append(extents, sparse.Extent{Offset: m.size})
	}
	m.extents = extents
	return io.MultiReader(readers...), nil
}

// allExtents returns the data of a file in whole blocks, at most most extents: if there
// are more, holes count as data, the smallest first.
func allExtents(ctx context.Context, f *os.File, size int64, most int) ([]sparse.Extent, error) {
	for gap := int64(0); ; gap = max(2*gap, blockSize) {
		all, err := extentsApart(ctx, f, size, gap, most)
		if err != nil || len(all) <= most {
			return all, err
		}
	}
}

// extentsApart joins extents that are not more than gap apart. It stops after most of
// them.
func extentsApart(ctx context.Context, f *os.File, size, gap int64, most int) (all []sparse.Extent, err error) {
	for at := int64(0); len(all) <= most; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, err := sparse.Next(f, at, size)
		if err != nil || e.Length == 0 {
			return all, err
		}
		at = e.End()
		start, end := e.Offset&^(blockSize-1), min((e.End()+blockSize-1)&^(blockSize-1), size)
		if n := len(all); n > 0 && start <= all[n-1].End()+gap {
			all[n-1].Length = end - all[n-1].Offset
		} else {
			all = append(all, sparse.Extent{Offset: start, Length: end - start})
		}
	}
	return all, nil
}

// image writes a file of the image cache.
func (w *writer) image(file File) error {
	f, err := sparse.Open(file.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m := member{name: path.Join("images", file.Name), kind: typeRegular, stored: info.Size(), size: info.Size()}
	if len(m.name) > nameLen {
		return fmt.Errorf("%w: the name %q is too long for an archive", ErrLimit, file.Name)
	}
	kind := kindObject
	if strings.HasPrefix(file.Name, "manifests/") {
		kind = kindMetadata
	}
	return w.add(m, entry{Kind: kind}, f)
}

// add writes a member and its entry; unless the entry has an integrity, it gets the
// SHA-256 of the content.
func (w *writer) add(m member, e entry, r io.Reader) error {
	transport, sum := newTransport(e.Kind, &m), sha256.New()
	hashes := io.Writer(transport)
	if e.Integrity == nil {
		hashes = io.MultiWriter(transport, sum)
	}
	if err := w.content(m, io.TeeReader(r, hashes)); err != nil {
		return err
	}
	if e.Integrity == nil {
		e.Integrity = ownIntegrity(sha256Digest(sum))
	}
	e.Path, e.Included, e.EncodedSize, e.ApparentSize, e.TransportIntegrity = m.name, true, m.stored, m.size, transportDigest(transport)
	w.entries = append(w.entries, e)
	return nil
}

// content writes a member.
func (w *writer) content(m member, r io.Reader) error {
	if err := writeHeader(w.w, m); err != nil {
		return err
	}
	n, err := io.CopyBuffer(w.w, io.LimitReader(ctxReader{w.ctx, r}, m.stored), make([]byte, 1<<20))
	if err == nil && n < m.stored {
		err = fmt.Errorf("%s: %w", m.name, sparse.ErrChanged)
	}
	if err != nil {
		return err
	}
	_, err = w.w.Write(make([]byte, padding(m.stored)))
	return err
}

// ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
