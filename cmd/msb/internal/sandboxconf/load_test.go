package sandboxconf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// write makes files below a folder of their own and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// load lays documents of one kind over each other.
func load(t testing.TB, kind Kind, documents ...string) (*Config, error) {
	t.Helper()
	var sources []Source
	for _, text := range documents {
		sources = append(sources, Source{kind, filepath.Join(write(t, map[string]string{"c.yaml": text}), "c.yaml")})
	}
	return Load(sources)
}

// TestOverlay: single values and lists replace, maps merge by key.
func TestOverlay(t *testing.T) {
	t.Parallel()
	c, err := load(t, All, `
image: {oci: debian, upper_size: 8G}
cpus: 2
memory: 1G
env: {A: a, B: b}
mounts: [{tmpfs: {}, target: /a}]
secrets: {T: {allow: [x.com], require_tls_identity: false}}
ports: ["1:1"]
network: {ports: ["2:2"], policy: none, allow: [a.com], dns: {nameservers: [1.1.1.1]}}
init: {cmd: /x, args: [a], env: {A: b}}
`, `
image: {bind: /root}
memory: 2G
env: {B: z}
mounts: [{tmpfs: {}, target: /b}]
secrets: {T: {allow: [y.com]}, U: {allow: [z.com]}}
ports: ["3:3"]
network: {deny: [b.com]}
init: {args: []}
`)
	require.NoError(t, err)
	assert.Equal(t, &Image{Bind: "/root"}, c.Image)
	assert.Equal(t, uint8(2), *c.CPUs)
	assert.Equal(t, Text("2G"), c.Memory)
	assert.Equal(t, map[string]Text{"A": "a", "B": "z"}, c.Env)
	assert.Equal(t, []Mount{{Tmpfs: &Tmpfs{}, Target: "/b"}}, c.Mounts)
	no := Bool(false)
	assert.Equal(t, Secrets{"T": {Allow: []Text{"y.com"}, RequireTLSIdentity: &no}, "U": {Allow: []Text{"z.com"}}}, c.Secrets)
	assert.Equal(t, &Network{Ports: []Text{"3:3"}, Deny: []Text{"b.com"}, DNS: DNS{Nameservers: []Text{"1.1.1.1"}}}, c.Network, "a policy is replaced as a whole")
	assert.Equal(t, &Init{Cmd: "/x", Args: []Text{}, Env: map[string]Text{"A": "b"}}, c.Init)
}

// TestShortForms: a string in the place of a mapping.
func TestShortForms(t *testing.T) {
	t.Parallel()
	c, err := load(t, All, "image: debian\nnetwork: open\nmounts: [/a:/b:ro]\n")
	require.NoError(t, err)
	assert.Equal(t, "debian", c.Image.Source())
	assert.Equal(t, Text("open"), c.Network.Policy)
	assert.Equal(t, []Mount{{Spec: "/a:/b:ro"}}, c.Mounts)
}

// TestPaths: relative ones start at the folder of their file.
func TestPaths(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"c.yaml": `
image: {disk: disk.raw}
mounts: ["./a:/a:ro", "b:/b", "/c:/c", {bind: d, target: /d}, {disk: /e, target: /e}, {named: f, target: /f}]
patch_files: [sub/p.yaml]
patches: [{copy_file: {src: f, dst: /f}}]
`,
		"sub/p.yaml": "patches: [{copy_dir: {src: ../d, dst: /d}}, {remove: {path: /x}}]",
	})
	c, err := Load([]Source{{All, filepath.Join(dir, "c.yaml")}})
	require.NoError(t, err)
	at := func(name string) Text { return Text(filepath.Join(dir, name)) }
	assert.Equal(t, at("disk.raw"), c.Image.Disk)
	assert.Equal(t, []Mount{
		{Spec: at("a") + ":/a:ro"}, {Spec: at("b") + ":/b"}, {Spec: "/c:/c"}, {Bind: at("d"), Target: "/d"}, {Disk: "/e", Target: "/e"}, {Named: "f", Target: "/f"},
	}, c.Mounts)
	patches, err := c.AllPatches()
	require.NoError(t, err)
	assert.Equal(t, []Patch{
		{CopyDir: &CopyDirPatch{Src: at("d"), Dst: "/d"}}, {Remove: &RemovePatch{Path: "/x"}}, {CopyFile: &CopyPatch{Src: at("f"), Dst: "/f"}},
	}, patches)
}

func TestVariables(t *testing.T) {
	t.Setenv("GOMSB_A", "one")
	c, err := load(t, All, `env: {A: "x${GOMSB_A}y", B: "$GOMSB_A $$"}`)
	require.NoError(t, err)
	assert.Equal(t, map[string]Text{"A": "xoney", "B": "$GOMSB_A $$"}, c.Env)
	c, err = load(t, Keys, `{T: {value: "${GOMSB_NOT_SET}", allow: [x]}, U: {value: "a${GOMSB_A}", allow: [x]}, V: {value: plain}}`)
	require.NoError(t, err, "the value of a secret is looked up when it is used")
	assert.Equal(t, Value{Env: "GOMSB_NOT_SET"}, c.Secrets["T"].Value)
	assert.Equal(t, Value{Text: "aone"}, c.Secrets["U"].Value)
	assert.Equal(t, Value{Text: "plain"}, c.Secrets["V"].Value)
}

// TestMistakes: with the words of 0.6.18 where it has some that help.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"zzz: 1":                             "unknown field `zzz`, expected one of `image`, `pull_policy`, ",
		"registry: {zzz: 1}":                 "unknown field `zzz`, expected `username` or `password_env` (line 1)",
		"patches: [{remove: {zzz: 1}}]":      "unknown field `zzz`, expected `path` (line 1)",
		"cpus: \"2\"":                        "invalid type: string \"2\", expected u8 (line 1)",
		"\ncpus: 300":                        "invalid value: integer `300`, expected u8 (line 2)",
		"cpus: [1]":                          "invalid type: sequence, expected u8",
		"memory: 1024":                       "invalid type: integer `1024`, expected a string",
		"memory: \"\"":                       "`memory` must not be empty (line 1)",
		"env: {A: null}":                     "invalid type: null, expected a string",
		"env: [A]":                           "invalid type: sequence, expected a map",
		"cmd: ls":                            "invalid type: string \"ls\", expected a sequence",
		"init: auto":                         "invalid type: string \"auto\", expected fields with values",
		"security: lax":                      "unknown variant `lax`, expected `default` or `restricted`",
		"network: closed":                    "unknown variant `closed`, expected one of `none`, `public`, `open`",
		"network: {strict: yes}":             "invalid type: string \"yes\", expected a boolean",
		"secrets: {T: {inject: [body]}}":     "unknown variant `body`, expected one of `headers`, `basic_auth`, `query_params`",
		"rlimits: [{resource: nofile}]":      "missing field `soft`",
		"patches: [{append: {path: /x}}]":    "missing field `content`",
		"mounts: [{tmpfs: 64M, target: /x}]": "invalid type: string \"64M\", expected fields with values",
		"cpus: 1\ncpus: 2":                   "line 2: duplicate mapping key: cpus",
		"env: &a {A: b}":                     "YAML anchors and aliases are not supported",
		"env: {<<: {A: b}}":                  "YAML merge keys are not supported",
		"env: {A: !x b}":                     "YAML tags are not supported",
		"secrets: {T: {value: !env HOME}}":   "YAML tags are not supported",
		"cpus: 1\n---\ncpus: 2":              "more than one document",
		"- a":                                "expected fields with values",
		"# nothing":                          "expected fields with values",
		"env: {A: \"${A:-x}\"}":              "unsupported expression ${A:-x}",
		"env: {A: \"${A\"}":                  "unsupported expression ${A",
		"env: {A: \"${GOMSB_NOT_SET}\"}":     `environment variable "GOMSB_NOT_SET" is not set`,
		"{? [a] : b}":                        "a field's name must be plain text",
		"a: b: c":                            "mapping values are not allowed",
	} {
		_, err := load(t, All, text)
		assert.ErrorContains(t, err, want, text)
		assert.ErrorContains(t, err, "invalid sandbox configuration ", text)
	}
	_, err := Load([]Source{{Nets, "/nonexistent/c.yaml"}})
	assert.ErrorContains(t, err, "failed to read network config /nonexistent/c.yaml: no such file")
	_, err = (&Files{PatchFiles: []Text{"/nonexistent/p.yaml"}}).AllPatches()
	assert.ErrorContains(t, err, "failed to read rootfs patch file /nonexistent/p.yaml: no such file")
}

// FuzzLoad: no text makes it panic or hang, whatever the kind.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		"image: debian\nnetwork: open\nmounts: [/a:/b:ro]\n", "secrets: {T: {value: \"${A}\", allow: [x]}}", "a: &a [*a]", "env: {<<: {A: b}}",
		"patches: [{text: {path: /a, content: hi, mode: \"0600\"}}]", "cpus: 0x10", "ports: null", "{", "? a", "a: !!binary aGk=",
	} {
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "c.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		for _, kind := range Kinds {
			c, err := Load([]Source{{kind, path}})
			if err == nil {
				_ = c.Image.Source()
			}
		}
	})
}
