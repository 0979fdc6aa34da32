//go:build official

package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const listPath = "../../docs/compat.md"

// programs builds ours and fetches the official one.
func programs(t *testing.T) (official, ours Program) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../hack/kernel/official.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "5.6.1 "); ok {
			official = Program{Name: "official", Path: filepath.Join(filepath.Dir(filepath.Dir(path)), "bin", "msb")}
		}
	}
	require.NotEmpty(t, official.Path, "no microsandbox 0.6.18")
	ours = Program{Name: "ours", Path: filepath.Join(t.TempDir(), "msb")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", ours.Path, "../../cmd/msb")
	build.Stderr = os.Stderr
	require.NoError(t, build.Run())
	return official, ours
}

// home makes a home that ends with the test.
func home(t *testing.T) Home {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	h, err := NewHome(dir)
	require.NoError(t, err)
	image := exec.CommandContext(t.Context(), "../../hack/testimages/build.sh", "mini")
	image.Stderr = os.Stderr
	folder, err := image.Output()
	require.NoError(t, err)
	h.Image = filepath.Join(strings.TrimSpace(string(folder)), "mini.tar")
	return h
}

// check asserts that a section of the list names just these differences.
func check(t *testing.T, section string, differences []Difference) {
	t.Helper()
	list, err := ReadList(listPath, section)
	require.NoError(t, err)
	unlisted, gone := list.Check(differences)
	for _, d := range unlisted {
		assert.Fail(t, "a difference that docs/compat.md does not list", "%s", d)
	}
	assert.Empty(t, gone, "listed in docs/compat.md, but no difference")
}

func TestTree(t *testing.T) {
	t.Parallel()
	official, ours := programs(t)
	h := home(t)
	record := func(p Program) Record {
		o, err := p.Do(t.Context(), h, "msb --tree")
		require.NoError(t, err)
		require.Zero(t, o.Code, o.Stderr)
		return Tree(o.Stdout)
	}
	check(t, "Command tree", record(official).Compare(record(ours), "ours"))
}

func TestWithoutSandboxes(t *testing.T) {
	t.Parallel()
	official, ours := programs(t)
	var differences []Difference
	for _, s := range nativeScripts {
		want, err := s.Run(t.Context(), home(t), official)
		require.NoError(t, err)
		got, err := s.Run(t.Context(), home(t), ours)
		require.NoError(t, err)
		differences = append(differences, want.Compare(got, "ours")...)
	}
	check(t, "Without sandboxes", differences)
}

// TestInTurn: the commands of a script come from the official program and ours in turn, on one data root.
func TestInTurn(t *testing.T) {
	t.Parallel()
	official, ours := programs(t)
	var differences []Difference
	for _, s := range nativeScripts {
		want, err := s.Run(t.Context(), home(t), official)
		require.NoError(t, err)
		for _, turn := range [][]Program{{official, ours}, {ours, official}} {
			got, err := s.Run(t.Context(), home(t), turn...)
			require.NoError(t, err)
			differences = append(differences, want.Compare(got, turn[0].Name+" first")...)
		}
	}
	list, err := ReadList(listPath, "Without sandboxes")
	require.NoError(t, err)
	unlisted, _ := list.Check(differences)
	check(t, "In turn", unlisted)
}
