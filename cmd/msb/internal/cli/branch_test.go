package cli

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// runningBox makes a data root with a running sandbox box.
func runningBox(t *testing.T) string {
	t.Helper()
	dir := newGuests(t, runtimetest.Guest{})
	succeed(t, "create", "-q", "--pull", "never", "--root-disk", "64M", "-n", "box", "mini")
	return dir
}

func TestBranchCommand(t *testing.T) {
	runningBox(t)
	assert.Equal(t, result{0, "", "   ✓ Branched     a\n   ✓ Branched     b\n"}, run("branch", "box", "--names", "a,b"))
	assert.Equal(t, "hello\n", succeed(t, "exec", "a", "--", "echo", "hello").out)
	assert.Equal(t, result{}, run("branch", "box", "-n", "c", "-q", "--label", "k=v", "--ephemeral", "-p", "0:80"))
	assert.Equal(t, "c\n", succeed(t, "ls", "-q", "--label", "k=v").out)
	name := succeed(t, "branch", "box", "-q").out
	assert.Regexp(t, `^msb-[0-9a-f]{8}\n$`, name)
	var got struct {
		Source   string
		Children []struct {
			Name, Status string
			Error        *string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "branch", "a", "--names", "x", "--names", "y", "--format", "json").out), &got))
	assert.Equal(t, "a", got.Source)
	require.Len(t, got.Children, 2)
	assert.Equal(t, []string{"x", "Running", "y", "Running"}, []string{got.Children[0].Name, got.Children[0].Status, got.Children[1].Name, got.Children[1].Status})
	assert.Nil(t, got.Children[0].Error)

	succeed(t, "create", "-q", "--pull", "never", "--root-disk", "64M", "-n", "still", "mini")
	succeed(t, "stop", "-q", "still")
	for line, want := range map[string]result{
		"branch":                           {2, "", "<SOURCE>"},
		"branch box -n a --names b":        {2, "", "cannot be used with"},
		"branch nobody -n x1":              {1, "", "sandbox not found: nobody"},
		"branch still -n x1":               {1, "", "sandbox still is not running: it is stopped"},
		"branch box -n a":                  {1, "", "sandbox already exists: a\n  → choose another name, or remove that sandbox first"},
		"branch box -n box":                {1, "", "cannot both be called box"},
		"branch box --names q,r -p 80:80":  {1, "", "for one copy only"},
		"branch box -n q --secret GOMSB_X": {1, "", "no variable of that name"},
		"branch box -n q --log-level loud": {1, "", "invalid log level"},
		"branch box -n q --max-duration x": {1, "", "--max-duration"},
		"branch box -n q --label =x":       {1, "", "label"},
		"branch box -n a/b":                {1, "", "sandbox name must start with"},
	} {
		r := run(strings.Fields(line)...)
		assert.Equal(t, want.code, r.code, "%s: %s", line, r.err)
		assert.Contains(t, r.err, want.err, line)
		assert.Empty(t, r.out, line)
	}
}

func TestRestoreCommand(t *testing.T) {
	dir := runningBox(t)
	r := succeed(t, "snapshot", "create", "warm", "--from", "box", "--full")
	assert.Equal(t, "DIGEST\nHOME/snapshots/warm\n", blur(dir, r.out))
	assert.Equal(t, "box\n", succeed(t, "ls", "-q", "--running").out, "it goes on")
	assert.Regexp(t, regexp.MustCompile(`(?m)^warm +disk\+memory +canonical +mini +64\.0 MiB \+ \S+ \S+ `), succeed(t, "snapshot", "ls").out)
	inspect := succeed(t, "snapshot", "inspect", "warm", "--verify").out
	assert.Contains(t, inspect, "Memory:         512 MiB, 1 vCPU\nMemory On Disk: ")
	assert.Contains(t, inspect, "Verification:   not recorded, memory and disks verified by their checksums\n")
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "snapshot", "ls", "--format", "json").out), &list))
	assert.Equal(t, "disk", list[0]["scope"])
	memory, _ := list[0]["memory"].(map[string]any)
	assert.EqualValues(t, 512, memory["memory_mib"])

	assert.Equal(t, result{0, "", "   ✓ Restored     a\n"}, run("restore", "warm", "-n", "a"))
	assert.Equal(t, "hello\n", succeed(t, "exec", "a", "--", "echo", "hello").out)
	assert.Regexp(t, `^msb-[0-9a-f]{8}\n$`, succeed(t, "restore", "warm", "-q").out)
	assert.Equal(t, "b", func() string {
		var got map[string]string
		require.NoError(t, json.Unmarshal([]byte(succeed(t, "restore", "warm", "-n", "b", "--format", "json").out), &got))
		return got["name"]
	}())
	succeed(t, "restore", "warm", "-n", "a", "--replace", "-q")
	assert.Contains(t, succeed(t, "run", "--from-snapshot", "warm", "--pull", "never", "--", "echo", "hello").out, "hello\n")
	succeed(t, "create", "-q", "-n", "c", "--from-snapshot", "warm", "--pull", "never")
	succeed(t, "create", "-q", "-n", "cold", "--from-snapshot", "warm", "--disk-only", "--pull", "never", "-c", "2")
	succeed(t, "restore", "warm", "-n", "cold2", "--disk-only", "-q", "--pull", "never")

	out := filepath.Join(t.TempDir(), "warm.tar.zst")
	succeed(t, "snapshot", "save", "warm", out, "--disk-only")
	there := t.TempDir()
	succeed(t, "snapshot", "load", out, there)
	for line, want := range map[string]result{
		"restore":                                    {2, "", "<SNAPSHOT>"},
		"restore nope":                               {1, "", "snapshot not found: HOME/snapshots/nope"},
		"snapshot create cold --from box":            {1, "", "is not stopped\n  → stop it first, or save it as it runs with --full"},
		"restore warm -n a":                          {1, "", "sandbox already exists: a\n  → choose another name, or remove that sandbox first"},
		"restore warm --disk-only --trust-config":    {2, "", "cannot be used with"},
		"restore " + there + "/warm":                 {1, "", "its disk alone"},
		"create --from-snapshot warm -c 2":           {1, "", "CPUs cannot be given to a machine that goes on from its memory"},
		"run -d --from-snapshot warm":                {1, "", "leave the startup command out"},
		"create --disk-only mini":                    {1, "", "belong to a snapshot"},
		"snapshot create x --from nobody --full":     {1, "", "sandbox not found: nobody"},
		"snapshot create warm --from box --full":     {1, "", "replace it with --force"},
		"snapshot create x --from box --resumable=x": {2, "", "--resumable"},
	} {
		r := run(strings.Fields(line)...)
		assert.Equal(t, want.code, r.code, "%s: %s", line, r.err)
		assert.Contains(t, blur(dir, r.err), want.err, line)
		assert.Empty(t, r.out, line)
	}
}
