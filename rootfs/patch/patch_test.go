package patch

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mode(m uint32) *uint32 { return &m }

// The forms that microsandbox 0.6.18 stores.
var forms = map[string]Patch{
	`{"Text":{"path":"/a","content":"x\n","mode":420,"replace":true}}`: {Kind: Text, Path: "/a", Content: []byte("x\n"), Mode: mode(0o644), Replace: true},
	`{"File":{"path":"/a","content":[0,255,10],"mode":null,"replace":false}}`: {
		Kind: File, Path: "/a", Content: []byte{0, 255, 10},
	},
	`{"CopyFile":{"src":"f.txt","dst":"/etc/f.txt","mode":null,"replace":false}}`: {Kind: CopyFile, Src: "f.txt", Dst: "/etc/f.txt"},
	`{"CopyDir":{"src":"dd","dst":"/opt/dd","replace":false}}`:                    {Kind: CopyDir, Src: "dd", Dst: "/opt/dd"},
	`{"Symlink":{"target":"b","link":"/a","replace":false}}`:                      {Kind: Symlink, Target: "b", Link: "/a"},
	`{"Mkdir":{"path":"/a/b","mode":null}}`:                                       {Kind: Mkdir, Path: "/a/b"},
	`{"Remove":{"path":"/etc/hostname"}}`:                                         {Kind: Remove, Path: "/etc/hostname"},
	`{"Append":{"path":"/etc/hosts","content":"1.2.3.4 x"}}`:                      {Kind: Append, Path: "/etc/hosts", Content: []byte("1.2.3.4 x")},
}

func TestJSON(t *testing.T) {
	t.Parallel()
	for text, want := range forms {
		var got Patch
		require.NoError(t, json.Unmarshal([]byte(text), &got), text)
		assert.Equal(t, want, got)
		out, err := json.Marshal(want)
		require.NoError(t, err)
		assert.Equal(t, text, string(out))
		require.NoError(t, got.Validate())
	}
	for _, text := range []string{
		`{}`, `7`, `{"Chmod":{"path":"/a"}}`, `{"Mkdir":{"path":7}}`, `{"Remove":{"path":"/a"},"Mkdir":{"path":"/b"}}`, `{"File":{"path":"/a","content":[256]}}`,
		`{"File":{"path":"/a","content":[-1]}}`, `{"Text":{"path":"/a","content":[1]}}`, `{"Mkdir":{"path":"/a","mode":-1}}`, `null`,
	} {
		assert.Error(t, json.Unmarshal([]byte(text), new(Patch)), text)
	}
	_, err := json.Marshal(Patch{})
	assert.ErrorIs(t, err, ErrInvalid)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Patch{
		"no kind":       {Path: "/a"},
		"relative":      {Kind: Mkdir, Path: "a"},
		"empty":         {Kind: Mkdir},
		"root":          {Kind: Remove, Path: "/"},
		"root in dots":  {Kind: Remove, Path: "//.//"},
		"dots":          {Kind: Text, Path: "/a/../b"},
		"NUL":           {Kind: Text, Path: "/a\x00"},
		"long name":     {Kind: Text, Path: "/" + strings.Repeat("a", 256)},
		"deep":          {Kind: Mkdir, Path: strings.Repeat("/a", 3000)},
		"mode":          {Kind: Mkdir, Path: "/a", Mode: mode(0o40755)},
		"no target":     {Kind: Symlink, Link: "/a"},
		"NUL in target": {Kind: Symlink, Link: "/a", Target: "\x00"},
		"long target":   {Kind: Symlink, Link: "/a", Target: strings.Repeat("a", 4096)},
		"no source":     {Kind: CopyFile, Dst: "/a"},
		"NUL in source": {Kind: CopyDir, Dst: "/a", Src: "\x00"},
	} {
		assert.ErrorIs(t, p.Validate(), ErrInvalid, name)
	}
}

func FuzzJSON(f *testing.F) {
	for text := range forms {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var p Patch
		if json.Unmarshal([]byte(text), &p) != nil {
			return
		}
		out, err := json.Marshal(p)
		require.NoError(t, err)
		var again Patch
		require.NoError(t, json.Unmarshal(out, &again))
		require.Equal(t, p.place(), again.place())
		if p.Validate() == nil {
			_, _ = Bake(t.Context(), []Patch{p}, Empty) // must end without a panic
		}
	})
}
