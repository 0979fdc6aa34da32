package placement

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// server is a host of two nodes with two cores each, with two threads each; the second
// thread of core n is n+4.
func server() (host []CPU) {
	for id := range 8 {
		host = append(host, CPU{ID: id, Core: id % 4, Node: id % 4 / 2})
	}
	return host
}

func TestChoose(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy string
		n      int
		used   map[int]float64
		want   [][]int
	}{
		"inherit":                 {policy: Inherit, n: 1},
		"unknown":                 {policy: "best", n: 1},
		"more than there are":     {policy: Spread, n: 9},
		"auto":                    {policy: Auto, n: 2, want: [][]int{{0, 1, 4, 5}, {0, 1, 4, 5}}},
		"auto, the other node":    {policy: Auto, n: 1, used: map[int]float64{0: 1}, want: [][]int{{2, 3, 6, 7}}},
		"auto, more than a node":  {policy: Auto, n: 5, want: [][]int{{0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}, {0, 1, 2, 3, 4, 5, 6, 7}}},
		"compact":                 {policy: Compact, n: 2, want: [][]int{{0, 4}, {0, 4}}},
		"compact, the other core": {policy: Compact, n: 2, used: map[int]float64{0: .5, 4: .5, 2: 1, 3: 1}, want: [][]int{{1, 5}, {1, 5}}},
		"compact, odd":            {policy: Compact, n: 3, want: [][]int{{0, 1, 4}, {0, 1, 4}, {0, 1, 4}}},
		"spread":                  {policy: Spread, n: 3, want: [][]int{{0, 4}, {1, 5}, {2, 6}}},
		"spread, around others":   {policy: Spread, n: 2, used: map[int]float64{0: .5, 4: .5, 2: .1}, want: [][]int{{1, 5}, {3, 7}}},
		"spread, more than cores": {policy: Spread, n: 5, want: [][]int{{0, 4}, {1, 5}, {2, 6}, {3, 7}, {0, 4}}},
	} {
		p := choose(c.policy, c.n, server(), c.used)
		assert.Equal(t, c.want, p.Sets, name)
		var sum float64
		for _, n := range p.Use {
			sum += n
		}
		assert.InDelta(t, len(c.want), sum, 1e-9, name)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(text string, path ...string) {
		name := filepath.Join(append([]string{dir}, path...)...)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	write("1,5\n", "cpu5", "topology", "core_cpus_list")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "cpu5", "node3"), 0o700))
	write("6-7\n", "cpu7", "topology", "thread_siblings_list")
	write("what\n", "cpu8", "topology", "core_cpus_list")
	assert.Equal(t, CPU{ID: 5, Core: 1, Node: 3}, describe(dir, 5))
	assert.Equal(t, CPU{ID: 7, Core: 6}, describe(dir, 7))
	assert.Equal(t, CPU{ID: 8, Core: 8}, describe(dir, 8))
	assert.Equal(t, CPU{ID: 9, Core: 9}, describe(dir, 9))

	real, err := host(sysfs)
	require.NoError(t, err)
	require.NotEmpty(t, real)
	for _, c := range real {
		assert.LessOrEqual(t, c.Core, c.ID)
	}
}

func TestLeases(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run", "leases")
	none, err := Place(dir, Inherit, 1)
	require.NoError(t, err)
	assert.Nil(t, none)
	assert.NoError(t, none.Close())
	assert.NoDirExists(t, dir)

	a, err := Place(dir, Spread, 1)
	require.NoError(t, err)
	b, err := Place(dir, Auto, 1)
	require.NoError(t, err)
	total := func() (sum float64) {
		used, err := inUse(dir)
		require.NoError(t, err)
		for _, n := range used {
			sum += n
		}
		return sum
	}
	assert.InDelta(t, 2, total(), 1e-9)
	require.NoError(t, a.Close())
	assert.InDelta(t, 1, total(), 1e-9)

	// One whose process was killed, and things that are no leases.
	require.NoError(t, b.file.Close())
	for i, text := range []string{"", "{", `{"a":1}`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("gomsb-%d.json", i)), []byte(text), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "gomsb-dir.json"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other"), nil, 0o600))
	assert.Zero(t, total())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	assert.ElementsMatch(t, []string{plannerName, "gomsb-dir.json", "other"}, names)
}

// TestLeaseOfOthers reads what does not make sense while it is locked.
func TestLeaseOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := &Lease{Plan: Plan{Use: map[int]float64{3: 1}}}
	require.NoError(t, l.record(dir))
	require.NoError(t, os.WriteFile(l.file.Name(), []byte("?"), 0o600))
	used, err := inUse(dir)
	require.NoError(t, err)
	assert.Empty(t, used)
	assert.FileExists(t, l.file.Name())
	require.NoError(t, l.Close())
}
