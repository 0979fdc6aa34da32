//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
	"github.com/gomsb/gomsb/tests/e2e/tree"
)

// agentMade says what the agent writes into a root. Whatever else differs from the image
// is a fault.
var agentMade = struct {
	mounts  []string // file systems of their own
	files   []string // written or created, with what is in them
	parents []string // directories that got a new name, and with it a new time, or are new
}{
	mounts:  []string{"/dev", "/proc", "/sys", "/tmp", "/.msb"},
	files:   []string{"/etc/hostname", "/etc/hosts", "/etc/profile", "/etc/resolv.conf", "/run/microsandbox"},
	parents: []string{"/", "/etc", "/run", "/var", "/var/tmp"},
}

// These tests prove that a guest sees exactly what the image's archive says, with GNU tar
// as the judge: a Debian, one in 15 layers that hide, replace and link to each other's
// files, and all that a tar file can hold.
func TestTreeOfDebian(t *testing.T)       { compareTree(t, "debian", 5000) }
func TestTreeOfLayeredImage(t *testing.T) { compareTree(t, "layered", 9000) }
func TestTreeOfHostileImage(t *testing.T) { compareTree(t, "hostile", 3000) }

func compareTree(t *testing.T, image string, least int) {
	f, err := os.Open(data(image + ".tree"))
	require.NoError(t, err)
	defer f.Close()
	expected, err := tree.Read(f)
	require.NoError(t, err)
	require.Greater(t, len(expected), least)

	sb := create(t, msb.WithImage(image))
	ctx := within(t, 10*patience)
	require.NoError(t, sb.FS().CopyFromHost(ctx, data("treelist"), "/tmp/treelist"))
	out, err := sb.Exec(ctx, "/tmp/treelist", append([]string{"/"}, agentMade.mounts...))
	require.NoError(t, err)
	require.Zero(t, out.ExitCode(), out.Stderr())
	seen, err := tree.Read(bytes.NewReader(out.StdoutBytes()))
	require.NoError(t, err)

	want, got := index(expected), index(seen)
	wrong := 0
	for path, w := range want {
		g, ok := got[path]
		if !ok {
			wrong++
			t.Errorf("%s is missing", path)
			continue
		}
		if w.MTime == "" || made(path, agentMade.parents) {
			w.MTime, g.MTime = "", ""
		}
		if !assert.Equal(t, w, g) {
			wrong++
		}
		if wrong > 20 {
			t.Fatal("and so on")
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok && !made(path, agentMade.parents) {
			t.Errorf("%s is not in the image", path)
		}
	}
	t.Logf("%d entries of %s are as GNU tar made them", len(want)-wrong, image)
}

// index keeps what the image is responsible for.
func index(entries []tree.Entry) map[string]tree.Entry {
	all := map[string]tree.Entry{}
	for _, e := range entries {
		if !under(e.Path, agentMade.mounts) && !under(e.Path, agentMade.files) {
			all[e.Path] = e
		}
	}
	return all
}

func unquoted(path string) string { return strings.Trim(path, `"`) }

func made(path string, list []string) bool {
	for _, l := range list {
		if unquoted(path) == l {
			return true
		}
	}
	return false
}

func under(path string, list []string) bool {
	for _, l := range list {
		if p := unquoted(path); p == l || strings.HasPrefix(p, l+"/") {
			return true
		}
	}
	return false
}
