package erofs

import (
	"strings"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// What a layer says about the layers below is kept in its image as overlayfs would keep
// it, so that the image can serve as an overlay's lower directory too: a whiteout is a
// character device 0:0, an opaque directory carries an attribute. What overlayfs cannot
// say has attributes of our own: a directory that the layer never described, and a hard
// link to a file of the layers below, which is stored as a symbolic link.
const (
	opaqueXattr   = "trusted.overlay.opaque"
	implicitXattr = tree.ReservedXattr + "implicit"
	linkXattr     = tree.ReservedXattr + "link"

	// layerLabel is the volume name of layer images whose marks are complete. Others,
	// such as those of microsandbox 0.6.18, cannot tell implicit directories.
	layerLabel = "gomsb layer 1"
	// metaLabel is the volume name of fsmeta images by BuildMeta.
	metaLabel = "gomsb fsmeta 1"
)

var marked = []byte("y")

// xattrs returns the attributes to store with a slot.
func (p *plan) xattrs(s *slot) []tree.Xattr {
	own := s.node.Xattrs
	if !p.marks {
		return own
	}
	implicit, link := s.node.IsDir() && s.node.Implicit, s.node.Type() == tree.TypeLink
	if !s.opaque && !implicit && !link {
		return own
	}
	all := tree.Inode{Xattrs: append([]tree.Xattr(nil), own...)}
	if s.opaque {
		all.SetXattr(opaqueXattr, marked)
	}
	if implicit {
		all.SetXattr(implicitXattr, marked)
	}
	if link {
		all.SetXattr(linkXattr, marked)
	}
	return all.Xattrs
}

// linkTarget is the symbolic link that stands for a hard link into the layers below.
func linkTarget(n *tree.Inode) string { return "/" + n.Target }

// unmark turns the attributes of an inode of a layer image back into marks. complete
// says that every implicit directory has its mark. It reports whether n, a symbolic link,
// stands for a hard link into the layers below; Target is its path then.
func unmark(n *tree.Inode, complete bool) (link bool) {
	if !complete && n.Mode == tree.TypeDir|0o755 && n.UID == 0 && n.GID == 0 && n.MTime == (tree.Time{}) && len(n.Xattrs) == 0 {
		n.Implicit = true
	}
	kept := n.Xattrs[:0]
	for _, x := range n.Xattrs {
		switch {
		case x.Name == opaqueXattr:
			if n.IsDir() && string(x.Value) == "y" {
				n.SetOpaque()
			}
		case x.Name == implicitXattr:
			n.Implicit = n.IsDir()
		case x.Name == linkXattr && n.Type() == tree.TypeSymlink:
			link, n.Target = true, strings.TrimPrefix(n.Target, "/")
		default:
			kept = append(kept, x)
		}
	}
	if n.Xattrs = kept; len(kept) == 0 {
		n.Xattrs = nil
	}
	return link
}

// isWhiteout reports whether n hides a name of the layers below.
func isWhiteout(n *tree.Inode) bool {
	return n.Type() == tree.TypeChar && n.Major == 0 && n.Minor == 0
}
