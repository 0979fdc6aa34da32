package tree

import "fmt"

// Merge applies the changes of a layer to t, which becomes the flattened result of
// both. Whiteouts and opaque marks of the layer act on what t held before and never on
// the layer's own files, whatever their order in the archive was; none survives in t.
// Hard links to files below become links to the inodes of t. The layer's inodes move
// into t: the caller must not use layer afterwards.
//
// A directory over a directory takes the upper attributes (unless the upper one is
// implicit) and keeps the lower children; everything else replaces what was there. A
// hard link to what is no file of t is ErrLink and leaves t as it was.
func (t *Tree) Merge(layer *Tree) error {
	if layer.links {
		if err := t.resolve("", layer.Root, 0); err != nil {
			return err
		}
	}
	merge(t.Root, layer.Root)
	return nil
}

// resolve replaces the hard links below dir of a layer by what they mean in t.
func (t *Tree) resolve(path string, dir *Inode, depth int) error {
	if dir.dir == nil {
		return nil
	}
	if depth > MaxDepth {
		return fmt.Errorf("%w: more than %d directories deep", ErrShape, MaxDepth)
	}
	for name, child := range dir.dir.children {
		if child.IsDir() {
			if err := t.resolve(path+"/"+name, child, depth+1); err != nil {
				return err
			}
			continue
		}
		if child.Type() != TypeLink {
			continue
		}
		target := t.Lookup(child.Target)
		if target == nil || target.IsDir() {
			return fmt.Errorf("%w: %.200q links to %.200q, which is no file of the layers below", ErrLink, path+"/"+name, child.Target)
		}
		dir.dir.children[name] = target
	}
	return nil
}

func merge(lower, upper *Inode) {
	if !upper.Implicit {
		lower.Describe(upper)
	}
	if upper.dir == nil {
		return
	}
	if upper.dir.opaque && lower.dir != nil {
		lower.dir.children = nil
	}
	for name := range upper.dir.whiteouts {
		lower.Remove(name)
	}
	for name, child := range upper.dir.children {
		below := lower.Child(name)
		if below != nil && below.IsDir() && child.IsDir() {
			merge(below, child)
			continue
		}
		settle(child)
		lower.Set(name, child)
	}
}

// settle drops the marks for lower layers from a subtree that has nothing below it.
func settle(n *Inode) {
	if n.dir == nil {
		return
	}
	n.dir.opaque, n.dir.whiteouts = false, nil
	for _, child := range n.dir.children {
		settle(child)
	}
}
