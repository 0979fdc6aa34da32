package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

func TestChanges(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	require.NoError(t, os.WriteFile(file, []byte("#!/bin/false\n"), 0o600))
	parse := func(args ...string) (*msb.SandboxConfig, error) {
		var c changes
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		c.flags(f)
		require.NoError(t, f.Parse(args))
		opts, err := c.options("bash")
		cfg := &msb.SandboxConfig{}
		for _, o := range opts {
			o(cfg)
		}
		return cfg, err
	}
	cfg, err := parse("--rm", "/r", "--mkdir", "/m", "--copy-dir", "d:/d", "--copy", file+":/f", "--copy", dir+":/dir", "--copy-file", "g:/g", "--copy", "none:/none",
		"--script", "a=echo", "--script-raw", `b=x\n`, "--script-path", "c:"+file)
	require.NoError(t, err)
	none := msb.PatchOptions{}
	assert.Equal(t, []msb.PatchConfig{
		msb.Patch.CopyFile(file, "/f", none), msb.Patch.CopyDir(dir, "/dir", none), msb.Patch.CopyFile("none", "/none", none), msb.Patch.CopyFile("g", "/g", none),
		msb.Patch.CopyDir("d", "/d", none), msb.Patch.Mkdir("/m", none), msb.Patch.Remove("/r"),
	}, cfg.Patches)
	assert.Equal(t, map[string]string{"a": "#!/usr/bin/env bash\necho\n", "b": `x\n`, "c": "#!/bin/false\n"}, cfg.Scripts)

	for _, args := range [][]string{{"--copy", "x"}, {"--script", "x"}, {"--script-path", "x"}, {"--script-path", "x:/none"}, {"--script", "a=", "--script-raw", "a="}} {
		_, err := parse(args...)
		assert.Error(t, err, "%v", args)
	}
}
