package compat

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestList(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "list.md")
	text := "# List\n\n## Not there yet\n\n- `later | *`: soon.\n\n## One\n\ntext\n\n- `a | stdout`, `b | *`: because.\n- `gone (x)`: never met.\n\n## Two\n\n- `c`: elsewhere.\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	list, err := ReadList(path, "One")
	require.NoError(t, err)
	unlisted, gone := list.Check([]Difference{{ID: "a | stdout"}, {ID: "b | x | code"}, {ID: "c"}, {ID: "later | y"}})
	assert.Equal(t, []Difference{{ID: "c"}}, unlisted)
	assert.Equal(t, []string{"gone (x)"}, gone, "what is pending may go")
	_, err = ReadList(path, "Three")
	assert.ErrorContains(t, err, `no section "Three"`)
	require.NoError(t, os.WriteFile(path, []byte(text+"- `d` without a reason\n"), 0o600))
	_, err = ReadList(path, "Two")
	assert.ErrorContains(t, err, "no reason")
}

func TestTreeOfText(t *testing.T) {
	t.Parallel()
	got := Tree("msb\n├── --error         Show\n├── list (aliases: ls)  List\n│   └── --format <FORMAT>  Output\n└── image\n    └── pull  Pull\n        └── <REFERENCE>  Image\n")
	assert.Equal(t, Record{
		"msb: --error": "--error", "msb list": "list (aliases: ls)", "msb list: --format <FORMAT>": "--format <FORMAT>", "msb image": "image",
		"msb image pull": "pull", "msb image pull: <REFERENCE>": "<REFERENCE>",
	}, got)
}

func TestNormal(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "   ✓ Stopped      <generated>\nat <time>\n", Normal("   ✓ Stopped      msb-0123abcd (1.2s)\nat 2026-11-28T15:04:05.123Z  \n"))
	assert.Equal(t, "error: no\n<usage>\n", shape("error: no\n\nUsage: x\n\nFor more information, try '--help'.\n"))
	assert.Equal(t, "error: no\n\nwhat\n", shape("error: no\n\nwhat\n"))
}

func TestCompareRecords(t *testing.T) {
	t.Parallel()
	differences := Record{"same": "1", "other": "1", "only theirs": ""}.Compare(Record{"same": "1", "other": "2", "only ours": "x"}, "ours")
	assert.Equal(t, []Difference{
		{ID: "only ours", Official: "(none)", Other: "x", Who: "ours"}, {ID: "only theirs", Official: "", Other: "(none)", Who: "ours"}, {ID: "other", Official: "1", Other: "2", Who: "ours"},
	}, differences)
}
