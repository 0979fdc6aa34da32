package flagtype

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCopyPatch(t *testing.T) {
	for in, want := range map[string][2]string{
		"f:/etc/f": {"f", "/etc/f"}, "./a:b:/c": {"./a:b", "/c"}, "/a:/b:/c": {"/a", "/b:/c"},
	} {
		src, dst, err := CopyPatch(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, [2]string{src, dst}, in)
	}
	for _, in := range []string{"", "f", "f:g", ":/etc", "/f"} {
		_, _, err := CopyPatch(in)
		assert.ErrorContains(t, err, "--copy must be in format", in)
	}
}

func TestScripts(t *testing.T) {
	for _, c := range []struct{ in, shell, want string }{
		{"hello=echo hello", "", "#!/bin/sh\necho hello\n"},
		{"hello=echo hello", "bash", "#!/usr/bin/env bash\necho hello\n"},
		{"hello=a=b", "/bin/ash", "#!/bin/ash\na=b\n"},
		{`hello=a\nb\t\\n\"\'\r\x`, "", "#!/bin/sh\na\nb\t\\n\"'\r\\x\n"},
		{"hello=", "", "#!/bin/sh\n\n"},
	} {
		name, program, err := Script(c.in, c.shell)
		require.NoError(t, err)
		assert.Equal(t, "hello", name)
		assert.Equal(t, c.want, program, c.in)
	}
	name, body, err := RawScript(`x=#!/bin/sh\n`)
	require.NoError(t, err)
	assert.Equal(t, [2]string{"x", `#!/bin/sh\n`}, [2]string{name, body})
	name, path, err := ScriptPath("x:./a:b")
	require.NoError(t, err)
	assert.Equal(t, [2]string{"x", "./a:b"}, [2]string{name, path})
	for _, in := range []string{"", "x", "=x"} {
		_, _, err := Script(in, "")
		assert.ErrorContains(t, err, "NAME=BODY", in)
	}
	for _, in := range []string{"", "x", ":x", "x:"} {
		_, _, err := ScriptPath(in)
		assert.ErrorContains(t, err, "NAME:PATH", in)
	}
}
