package tree

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Limits of a name on Linux, in bytes.
const (
	MaxName = 255
	// MaxDepth bounds how many directories may be nested: a path of PATH_MAX bytes has
	// no more components.
	MaxDepth = 2048
)

var (
	// ErrPath reports a name or path that no Linux file system can hold.
	ErrPath = errors.New("invalid path")
	// ErrShape reports a tree that is not one: a directory with two names, a child
	// below a file, too deep a nesting.
	ErrShape = errors.New("malformed tree")
	// ErrLink reports a hard link of a layer whose target the layers below lack.
	ErrLink = errors.New("hard link target not usable")
)

// Tree is a root file system, or the changes one layer makes to it. Methods are not
// safe for concurrent use.
type Tree struct {
	Root  *Inode
	links bool // some inode may be a TypeLink
}

// New returns a tree whose root is an implicit directory, mode 0755, root:root.
func New() *Tree {
	root := NewDir(0o755)
	root.Implicit = true
	return &Tree{Root: root}
}

// Split cuts path into its components: "." and empty components vanish, so leading,
// trailing and doubled slashes do not matter. A ".." component, a NUL byte or a name
// longer than MaxName is ErrPath. The root gives no components.
func Split(path string) ([]string, error) {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "" || part == ".":
			continue
		case part == "..":
			return nil, fmt.Errorf("%w: %.200q climbs with '..'", ErrPath, path)
		}
		if err := CheckName(part); err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// CheckName reports whether name can be one directory entry.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%w: %q is no file name", ErrPath, name)
	case len(name) > MaxName:
		return fmt.Errorf("%w: a name of %d bytes; the limit is %d", ErrPath, len(name), MaxName)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%w: %q holds a slash or NUL byte", ErrPath, name)
	}
	return nil
}

// Lookup returns the inode at path, nil if there is none. Symbolic links are not
// followed, not even in the middle of the path.
func (t *Tree) Lookup(path string) *Inode {
	parts, err := Split(path)
	if err != nil {
		return nil
	}
	return t.Find(parts)
}

// Find is Lookup for a path that is already split.
func (t *Tree) Find(parts []string) *Inode {
	node := t.Root
	for _, part := range parts {
		if node = node.Child(part); node == nil {
			return nil
		}
	}
	return node
}

// Parent returns the directory that holds the last of parts, creating implicit
// directories (mode 0755, root:root, time 0) on the way and replacing whatever else
// stands there. It also returns how many directories it created. parts must not be
// empty.
func (t *Tree) Parent(parts []string) (dir *Inode, created int) {
	node := t.Root
	for _, part := range parts[:len(parts)-1] {
		next := node.Child(part)
		if next == nil || !next.IsDir() {
			next = NewDir(0o755)
			next.Implicit = true
			node.Set(part, next)
			created++
		}
		node = next
	}
	return node, created
}

// Set puts child into directory n under name, replacing what was there. n must be a
// directory and name valid (CheckName).
func (n *Inode) Set(name string, child *Inode) {
	if n.dir == nil {
		n.dir = &directory{}
	}
	if n.dir.children == nil {
		n.dir.children = make(map[string]*Inode)
	}
	if child.IsDir() && child.dir == nil {
		child.dir = &directory{}
	}
	n.dir.children[name] = child
}

// Remove deletes name from directory n.
func (n *Inode) Remove(name string) {
	if n.dir != nil {
		delete(n.dir.children, name)
	}
}

// Describe gives directory n the attributes of from and makes it explicit; what n
// contains stays.
func (n *Inode) Describe(from *Inode) {
	kept := n.dir
	*n = *from
	n.dir, n.Implicit = kept, false
}

// SetWhiteout records that directory n hides name of the layers below.
func (n *Inode) SetWhiteout(name string) {
	if n.dir == nil {
		n.dir = &directory{}
	}
	if n.dir.whiteouts == nil {
		n.dir.whiteouts = make(map[string]struct{})
	}
	n.dir.whiteouts[name] = struct{}{}
}

// NewLink returns a hard link to a file that only the layers below t have; path names
// it there.
func (t *Tree) NewLink(path string) *Inode {
	t.links = true
	return &Inode{Mode: TypeLink, Target: path}
}

// SetOpaque records that directory n hides everything of the layers below.
func (n *Inode) SetOpaque() {
	if n.dir == nil {
		n.dir = &directory{}
	}
	n.dir.opaque = true
}

// Add puts node at path, creating parents; path must not be the root.
func (t *Tree) Add(path string, node *Inode) error {
	parts, err := Split(path)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return fmt.Errorf("%w: the root cannot be replaced", ErrPath)
	}
	if len(parts) > MaxDepth {
		return fmt.Errorf("%w: more than %d directories deep", ErrPath, MaxDepth)
	}
	dir, _ := t.Parent(parts)
	dir.Set(parts[len(parts)-1], node)
	return nil
}

// AddDir adds an empty directory owned by root.
func (t *Tree) AddDir(path string, perm uint32) error { return t.Add(path, NewDir(perm)) }

// AddFile adds a regular file owned by root whose content is data, which is retained.
func (t *Tree) AddFile(path string, perm uint32, data []byte) error {
	return t.Add(path, &Inode{
		Mode: TypeRegular | perm&PermMask, Size: int64(len(data)), Content: bytes.NewReader(data),
	})
}

// AddSymlink adds a symbolic link owned by root.
func (t *Tree) AddSymlink(path, target string) error {
	return t.Add(path, &Inode{Mode: TypeSymlink | 0o777, Target: target})
}

// Walk calls visit for every name, parents before children and siblings in byte
// order, first for the root with path "/". Hard links are visited under each name. It
// stops at the first error and returns it.
func (t *Tree) Walk(visit func(path string, node *Inode) error) error {
	if err := visit("/", t.Root); err != nil {
		return err
	}
	return walk("", t.Root, 0, visit)
}

func walk(prefix string, dir *Inode, depth int, visit func(string, *Inode) error) error {
	if depth > MaxDepth {
		return fmt.Errorf("%w: more than %d directories deep", ErrShape, MaxDepth)
	}
	for _, name := range dir.Names() {
		path, child := prefix+"/"+name, dir.Child(name)
		if err := visit(path, child); err != nil {
			return err
		}
		if child.IsDir() {
			if err := walk(path, child, depth+1, visit); err != nil {
				return err
			}
		}
	}
	return nil
}
