package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Write writes a tree of changes as the tar stream of a layer, which Read turns into an
// equal tree: directories that are not implicit, whiteouts and opaque marks as the OCI
// image-spec has them, hard links, xattrs and sub-second times as PAX records. The stream
// depends on the tree alone. Errors are those of w, of the content or of ctx, or say what
// the tar format cannot hold.
func Write(ctx context.Context, w io.Writer, t *tree.Tree) error {
	l := &writer{ctx: ctx, tar: tar.NewWriter(w), first: map[*tree.Inode]string{}}
	if err := l.dir("", t.Root, 0); err != nil {
		return err
	}
	return l.tar.Close()
}

type writer struct {
	ctx   context.Context
	tar   *tar.Writer
	first map[*tree.Inode]string // name under which an inode was written
}

// dir writes a directory and everything below it. What it hides comes before what it
// holds, for readers that apply entries one by one.
func (l *writer) dir(path string, dir *tree.Inode, depth int) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if depth > tree.MaxDepth {
		return fmt.Errorf("%w: more than %d directories deep", tree.ErrShape, tree.MaxDepth)
	}
	if !dir.Implicit {
		name := path
		if name == "" {
			name = "./"
		}
		if err := l.entry(name, dir); err != nil {
			return err
		}
	}
	hidden := dir.Whiteouts()
	for i, name := range hidden {
		hidden[i] = whiteoutPrefix + name
	}
	if dir.Opaque() {
		hidden = append([]string{opaqueName}, hidden...)
	}
	for _, name := range hidden {
		if err := l.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path + name}); err != nil {
			return fmt.Errorf("%.200q: %w", path+name, err)
		}
	}
	for _, name := range dir.Names() {
		child := dir.Child(name)
		var err error
		if child.IsDir() {
			err = l.dir(path+name+"/", child, depth+1)
		} else {
			err = l.entry(path+name, child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry writes one file under one of its names.
func (l *writer) entry(name string, node *tree.Inode) error {
	h, err := l.header(name, node)
	if err == nil {
		err = l.tar.WriteHeader(h)
	}
	if err == nil && h.Size > 0 {
		_, err = io.Copy(l.tar, node.Reader())
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	return nil
}

func (l *writer) header(name string, node *tree.Inode) (*tar.Header, error) {
	if node.Type() == tree.TypeLink {
		return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: node.Target}, nil
	}
	if first, written := l.first[node]; written {
		return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first}, nil
	}
	if !node.IsDir() {
		l.first[node] = name
	}
	flag, ok := typeflags[node.Type()]
	if !ok {
		return nil, fmt.Errorf("%w: file type %#o", tree.ErrShape, node.Type())
	}
	h := &tar.Header{
		Typeflag: flag, Name: name, Mode: int64(node.Mode & tree.PermMask), Uid: int(node.UID), Gid: int(node.GID),
		ModTime: time.Unix(node.MTime.Sec, int64(node.MTime.Nsec)),
	}
	switch node.Type() {
	case tree.TypeRegular:
		h.Size = node.Size
	case tree.TypeSymlink:
		h.Linkname = node.Target
	case tree.TypeChar, tree.TypeBlock:
		h.Devmajor, h.Devminor = int64(node.Major), int64(node.Minor)
	}
	if node.MTime.Nsec != 0 || len(node.Xattrs) > 0 {
		h.Format = tar.FormatPAX
	}
	for _, x := range node.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string, len(node.Xattrs))
		}
		h.PAXRecords[paxXattr+x.Name] = string(x.Value)
	}
	return h, nil
}

// typeflags is the inverse of kinds where that is not unique.
var typeflags = map[uint32]byte{
	tree.TypeRegular: tar.TypeReg, tree.TypeDir: tar.TypeDir, tree.TypeSymlink: tar.TypeSymlink,
	tree.TypeChar: tar.TypeChar, tree.TypeBlock: tar.TypeBlock, tree.TypeFIFO: tar.TypeFifo, tree.TypeSocket: typeSocket,
}
