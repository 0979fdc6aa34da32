package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Names by which a layer hides files of the layers below it (OCI image-spec,
// layer.md). Other names with the meta prefix belong to the aufs driver and are
// skipped.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// Sink keeps the content of files.
type Sink interface {
	// Append stores exactly n bytes from r and returns the offset that they begin at. If
	// r ends early, its error is io.ErrUnexpectedEOF.
	Append(r io.Reader, n int64) (off int64, err error)
	io.ReaderAt
}

// Layer is what Read made of a tar stream.
type Layer struct {
	Tree  *tree.Tree
	Files int   // names created, implicit directories included
	Bytes int64 // content of all files, also of those replaced later
}

// Read reads a tar stream (ustar, PAX, GNU; sparse files) into a tree of changes whose
// file content lies in sink, in the order of the archive. It stops behind the end mark
// of the archive and leaves what follows unread.
//
// Paths are taken relative to the root whatever they begin with; ".." is refused. A
// later entry replaces an earlier one, except that a directory over a directory only
// changes attributes. A parent that is no directory, symbolic links included, is
// replaced by an implicit one: links are never followed. Whiteouts and opaque marks
// are recorded apart from the files. Device 0:0 counts as a whiteout, as overlayfs
// takes it for one. A hard link whose target the layer itself lacks becomes one to a
// file of the layers below (tree.TypeLink), which a merge looks up.
//
// Errors wrap ErrLimit, ErrMalformed, ErrLink, ErrSink or those of r.
func Read(ctx context.Context, r io.Reader, sink Sink, limits Limits) (*Layer, error) {
	l := &reader{tree: tree.New(), sink: sink, limits: limits}
	source := &source{r: r}
	archive := tar.NewReader(source)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, source.classify(err)
		}
		if l.entries++; l.entries > l.limits.Entries {
			return nil, fmt.Errorf("%w: more than %d entries", ErrLimit, l.limits.Entries)
		}
		if err := l.entry(h, archive); err != nil {
			return nil, fmt.Errorf("layer entry %.200q: %w", h.Name, source.classify(err))
		}
	}
	return &Layer{Tree: l.tree, Files: l.created, Bytes: l.content}, nil
}

// source remembers an error of the stream itself, so that it can be told from what the
// tar reader makes of broken content: that package does not export all its errors.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// classify makes err ErrMalformed unless it has a class already or came from the stream.
func (s *source) classify(err error) error {
	for _, class := range []error{ErrLimit, ErrMalformed, ErrLink, ErrSink} {
		if errors.Is(err, class) {
			return err
		}
	}
	if s.err != nil {
		return s.err
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

type reader struct {
	tree   *tree.Tree
	sink   Sink
	limits Limits

	entries  int
	created  int
	metadata int
	content  int64
}

func (l *reader) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := l.split(h.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return l.root(h)
	}
	for _, part := range parts[:len(parts)-1] {
		if strings.HasPrefix(part, metaPrefix) {
			return nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) && part != whiteoutPrefix {
			return fmt.Errorf("%w: a file below a whiteout", ErrMalformed)
		}
	}
	name := parts[len(parts)-1]
	if strings.HasPrefix(name, whiteoutPrefix) && name != whiteoutPrefix {
		return l.hide(parts, name)
	}
	if h.Typeflag == tar.TypeLink {
		return l.link(parts, h.Linkname)
	}
	node, err := l.inode(h)
	if err != nil || node == nil {
		return err
	}
	if node.Type() == tree.TypeChar && node.Major == 0 && node.Minor == 0 {
		return l.whiteout(parts, name)
	}
	if node.Type() == tree.TypeRegular && h.Size > 0 {
		if err := l.store(node, h.Size, content); err != nil {
			return err
		}
	}
	return l.put(parts, node)
}

func (l *reader) split(name string) ([]string, error) {
	if len(name) > l.limits.PathBytes {
		return nil, fmt.Errorf("%w: a path of %d bytes; the limit is %d", ErrLimit, len(name), l.limits.PathBytes)
	}
	parts, err := tree.Split(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(parts) > l.limits.Depth {
		return nil, fmt.Errorf("%w: a path of %d components; the limit is %d", ErrLimit, len(parts), l.limits.Depth)
	}
	return parts, nil
}

// root takes the attributes of the root directory from the layer.
func (l *reader) root(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root is no directory", ErrMalformed)
	}
	node, err := l.inode(h)
	if err != nil {
		return err
	}
	if l.opaque(node) {
		l.tree.Root.SetOpaque()
	}
	l.tree.Root.Describe(node)
	return nil
}

// hide handles the whiteout entries.
func (l *reader) hide(parts []string, name string) error {
	if name == opaqueName {
		dir, err := l.parent(parts)
		if err != nil {
			return err
		}
		dir.SetOpaque()
		return nil
	}
	if strings.HasPrefix(name, metaPrefix) {
		return nil
	}
	hidden := strings.TrimPrefix(name, whiteoutPrefix)
	if err := tree.CheckName(hidden); err != nil {
		return fmt.Errorf("%w: whiteout of %q: %w", ErrMalformed, hidden, err)
	}
	return l.whiteout(parts, hidden)
}

func (l *reader) whiteout(parts []string, hidden string) error {
	dir, err := l.parent(parts)
	if err != nil {
		return err
	}
	dir.SetWhiteout(hidden)
	return l.account(len(hidden))
}

// parent returns the directory for the last of parts, counting what it creates.
func (l *reader) parent(parts []string) (*tree.Inode, error) {
	dir, created := l.tree.Parent(parts)
	if l.created += created; l.created > l.limits.Entries {
		return nil, fmt.Errorf("%w: more than %d files, implicit directories included", ErrLimit, l.limits.Entries)
	}
	if created > 0 {
		n := 0
		for _, part := range parts[len(parts)-1-created : len(parts)-1] {
			n += len(part)
		}
		return dir, l.account(n)
	}
	return dir, nil
}

func (l *reader) put(parts []string, node *tree.Inode) error {
	dir, err := l.parent(parts)
	if err != nil {
		return err
	}
	name := parts[len(parts)-1]
	opaque := l.opaque(node) && node.IsDir()
	if old := dir.Child(name); old != nil && old.IsDir() && node.IsDir() {
		old.Describe(node)
		node = old
	} else {
		if l.created++; l.created > l.limits.Entries {
			return fmt.Errorf("%w: more than %d files, implicit directories included", ErrLimit, l.limits.Entries)
		}
		dir.Set(name, node)
	}
	if opaque {
		node.SetOpaque()
	}
	return l.account(len(name))
}

// link makes a hard link: a second name for an inode.
func (l *reader) link(parts []string, target string) error {
	to, err := l.split(target)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLink, err)
	}
	node := l.tree.Find(to)
	switch {
	case slices.Equal(to, parts):
		return nil
	case len(to) == 0 || node != nil && node.IsDir():
		return fmt.Errorf("%w: %.200q is a directory", ErrLink, target)
	case node == nil:
		node = l.tree.NewLink(strings.Join(to, "/"))
		if err := l.account(len(node.Target)); err != nil {
			return err
		}
	}
	return l.put(parts, node)
}

func (l *reader) store(node *tree.Inode, size int64, content io.Reader) error {
	switch {
	case size > l.limits.FileBytes:
		return fmt.Errorf("%w: a file of %d bytes; the limit is %d", ErrLimit, size, l.limits.FileBytes)
	case size > l.limits.LayerBytes-l.content:
		return fmt.Errorf("%w: more than %d bytes of files", ErrLimit, l.limits.LayerBytes)
	}
	from := &source{r: content}
	off, err := l.sink.Append(from, size)
	if err != nil {
		if from.err == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: %w", ErrSink, err)
		}
		return err
	}
	l.content += size
	node.Size, node.Content, node.Offset = size, l.sink, off
	return nil
}

// account adds n bytes to what the tree keeps in memory.
func (l *reader) account(n int) error {
	if l.metadata += n; l.metadata > l.limits.MetadataBytes {
		return fmt.Errorf("%w: more than %d bytes of names, link targets and xattrs", ErrLimit, l.limits.MetadataBytes)
	}
	return nil
}
