package patch

import (
	"fmt"
	"strings"

	"github.com/gomsb/gomsb/rootfs/tree"
)

// maxLinks is how many symbolic links a path may lead through, as in Linux.
const maxLinks = 40

// resolve replaces the symbolic links in front of the last name by where they lead, for
// somebody whose root this is: an absolute target begins at the root, and ".." does not
// lead above it.
func (b *plan) resolve(parts []string) ([]string, error) {
	if !b.follow {
		return parts, nil
	}
	last := parts[len(parts)-1]
	var done []string
	rest := parts[: len(parts)-1 : len(parts)-1]
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			done = done[:max(0, len(done)-1)]
			continue
		}
		done = append(done[:len(done):len(done)], name)
		node, _, err := b.look(done)
		if err != nil {
			return nil, err
		}
		if node == nil || node.Type() != tree.TypeSymlink {
			continue
		}
		if links++; links > maxLinks {
			return nil, fmt.Errorf("%w: more than %d symbolic links on the way", ErrKind, maxLinks)
		}
		done = done[:len(done)-1]
		if strings.HasPrefix(node.Target, "/") {
			done = nil
		}
		var target []string
		for _, name := range strings.Split(node.Target, "/") {
			if name != "" && name != "." {
				target = append(target, name)
			}
		}
		rest = append(target, rest...)
	}
	return append(done[:len(done):len(done)], last), nil
}
