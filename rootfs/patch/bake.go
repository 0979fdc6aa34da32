package patch

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// Bake returns the tree of the changes that patches make to a file system, one after the
// other: what is removed is a whiteout, what is changed in part is copied up with the
// attributes and extended attributes that it has. Its root has those of the file
// system's. Content is read from the host's files and from lower when the tree is read,
// as long as ctx lasts.
//
// Errors wrap one of this package's, or are those of lower, of the host and of ctx.
func Bake(ctx context.Context, patches []Patch, lower Lower) (*tree.Tree, error) {
	b, err := newPlan(ctx, lower)
	if err == nil {
		err = b.run(patches)
	}
	if err != nil {
		return nil, err
	}
	return b.upper, nil
}

// plan is what patches make of a file system.
type plan struct {
	ctx   context.Context // of reading the host's files
	lower Lower
	upper *tree.Tree // the changes
	// follow makes symbolic links in front of the last name lead where they point to, as
	// for a program whose root this is. An overlay's upper cannot hold files behind a link
	// of the lower, so there they are in the way.
	follow bool
	// kept are the directories of the changes that lower has as well, over the files that
	// take the place of one in lower, and tails what is appended to a file of lower that
	// is the same in all else.
	kept, over map[*tree.Inode]bool
	tails      map[*tree.Inode][]byte
}

func newPlan(ctx context.Context, lower Lower) (*plan, error) {
	b := &plan{ctx: ctx, lower: lower, upper: tree.New(), kept: map[*tree.Inode]bool{}, over: map[*tree.Inode]bool{}, tails: map[*tree.Inode][]byte{}}
	root, err := lower.Lookup(nil)
	if err != nil {
		return nil, err
	}
	b.upper.Root.Describe(root)
	b.kept[b.upper.Root] = true
	return b, nil
}

func (b *plan) run(patches []Patch) error {
	for i := range patches {
		p := &patches[i]
		if err := p.Validate(); err != nil {
			return err
		}
		parts, err := tree.Split(p.place())
		if err == nil {
			parts, err = b.resolve(parts)
		}
		if err == nil {
			err = b.do(p, parts)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", strings.ToLower(string(p.Kind)), p.place(), err)
		}
	}
	return nil
}

func (b *plan) do(p *Patch, parts []string) error {
	switch p.Kind {
	case Text, File:
		return b.put(parts, newFile(p.Content, orMode(p.Mode, 0o644)), p.Replace)
	case CopyFile:
		node, err := b.openSource(p.Src, p.Mode)
		if err != nil {
			return err
		}
		return b.put(parts, node, p.Replace)
	case CopyDir:
		return b.copyDir(p.Src, parts, p.Replace)
	case Symlink:
		return b.put(parts, &tree.Inode{Mode: tree.TypeSymlink | 0o777, Target: p.Target}, p.Replace)
	case Mkdir:
		return b.mkdir(parts, p.Mode)
	case Remove:
		return b.remove(parts)
	}
	return b.append(parts, p.Content)
}

func orMode(mode *uint32, d uint32) uint32 {
	if mode != nil {
		return *mode
	}
	return d
}

func newFile(content []byte, mode uint32) *tree.Inode {
	return &tree.Inode{Mode: tree.TypeRegular | mode, Size: int64(len(content)), Content: bytes.NewReader(content)}
}

// look returns what is at parts by now, nil if nothing, and whether the changes have it.
// Something in front that is no directory is ErrKind.
func (b *plan) look(parts []string) (node *tree.Inode, changed bool, err error) {
	dir, below := b.upper.Root, true // below: lower shows through in dir
	for i, name := range parts {
		hidden := dir.Hides(name)
		child := dir.Child(name)
		switch {
		case child == nil && (hidden || !below):
			return nil, false, nil
		case child == nil:
			node, err = b.lookLower(parts, i)
			return node, false, err
		case i == len(parts)-1:
			return child, true, nil
		case !child.IsDir():
			return nil, false, inTheWay(parts[:i+1], child)
		}
		dir, below = child, below && !hidden
	}
	return dir, true, nil
}

// lookLower looks parts up in lower, from name i on of which nothing is changed.
func (b *plan) lookLower(parts []string, i int) (*tree.Inode, error) {
	for ; i < len(parts)-1; i++ {
		dir, err := b.lower.Lookup(parts[:i+1])
		if err != nil || dir == nil {
			return nil, err
		}
		if !dir.IsDir() {
			return nil, inTheWay(parts[:i+1], dir)
		}
	}
	return b.lower.Lookup(parts)
}

// inTheWay is the error for something that is not of the kind that it has to be.
func inTheWay(parts []string, node *tree.Inode) error {
	return fmt.Errorf("%w: /%s is %s", ErrKind, strings.Join(parts, "/"), describe(node))
}

func describe(n *tree.Inode) string {
	switch n.Type() {
	case tree.TypeDir:
		return "a directory"
	case tree.TypeRegular:
		return "a regular file"
	case tree.TypeSymlink:
		return fmt.Sprintf("a symbolic link to %q", n.Target)
	case tree.TypeFIFO:
		return "a named pipe"
	case tree.TypeSocket:
		return "a socket"
	}
	return "a device"
}

// dir returns the directory at parts among the changes. What lower has of it keeps its
// attributes; what nobody has is made.
func (b *plan) dir(parts []string) (*tree.Inode, error) {
	if len(parts) == 0 {
		return b.upper.Root, nil
	}
	parent, err := b.dir(parts[:len(parts)-1])
	if err != nil {
		return nil, err
	}
	node, changed, err := b.look(parts)
	switch {
	case err != nil:
		return nil, err
	case node != nil && !node.IsDir():
		return nil, inTheWay(parts, node)
	case changed:
		return node, nil
	}
	dir := tree.NewDir(0o755)
	if node != nil {
		dir.Describe(node)
		b.kept[dir] = true
	}
	parent.Set(parts[len(parts)-1], dir)
	return dir, nil
}

// put makes node the file at parts. A directory is neither replaced nor a replacement.
func (b *plan) put(parts []string, node *tree.Inode, replace bool) error {
	was, changed, err := b.look(parts)
	switch {
	case err != nil:
		return err
	case was != nil && was.IsDir():
		return inTheWay(parts, was)
	case was != nil && !replace:
		return fmt.Errorf("%w: /%s", ErrExists, strings.Join(parts, "/"))
	case was != nil:
		b.over[node] = !changed || b.over[was] || b.tails[was] != nil
	}
	parent, err := b.dir(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	parent.Set(parts[len(parts)-1], node)
	return nil
}

// mkdir makes a directory; one that is there gets the mode, if there is one.
func (b *plan) mkdir(parts []string, mode *uint32) error {
	was, _, err := b.look(parts)
	if err != nil || was != nil && was.IsDir() && mode == nil {
		return err
	}
	dir, err := b.dir(parts)
	if err == nil && mode != nil {
		dir.Mode = tree.TypeDir | *mode
	}
	return err
}

// remove removes what is at parts, and hides what lower has there.
func (b *plan) remove(parts []string) error {
	last := len(parts) - 1
	was, changed, err := b.look(parts)
	if err != nil || was == nil {
		return err
	}
	if changed {
		parent, err := b.dir(parts[:last])
		if err != nil {
			return err
		}
		parent.Remove(parts[last])
		if was, _, err = b.look(parts); err != nil || was == nil {
			return err
		}
	}
	parent, err := b.dir(parts[:last])
	if err != nil {
		return err
	}
	parent.SetWhiteout(parts[last])
	return nil
}

// append puts content behind that of a regular file, which keeps everything else.
func (b *plan) append(parts []string, content []byte) error {
	was, changed, err := b.look(parts)
	switch {
	case err != nil:
		return err
	case was == nil:
		return ErrNotFound
	case was.Type() != tree.TypeRegular:
		return inTheWay(parts, was)
	}
	longer := *was
	longer.Xattrs = slices.Clone(was.Xattrs)
	longer.Size, longer.Offset = was.Size+int64(len(content)), 0
	longer.Content = &joined{was.Reader(), content}
	if tail := b.tails[was]; tail != nil || !changed {
		b.tails[&longer] = slices.Concat(tail, content)
	}
	b.over[&longer] = b.over[was]
	parent, err := b.dir(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	parent.Set(parts[len(parts)-1], &longer)
	return nil
}
