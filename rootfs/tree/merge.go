package tree

// Merge applies the changes of a layer to t, which becomes the flattened result of
// both. Whiteouts and opaque marks of the layer act on what t held before and never on
// the layer's own files, whatever their order in the archive was; none survives in t.
// The layer's inodes move into t: the caller must not use layer afterwards.
//
// A directory over a directory takes the upper attributes (unless the upper one is
// implicit) and keeps the lower children; everything else replaces what was there.
func (t *Tree) Merge(layer *Tree) { merge(t.Root, layer.Root) }

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
