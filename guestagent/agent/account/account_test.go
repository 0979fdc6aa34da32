package account

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func database(t *testing.T, passwd, group string) Database {
	t.Helper()
	dir := t.TempDir()
	d := Database{Passwd: filepath.Join(dir, "passwd"), Group: filepath.Join(dir, "group")}
	require.NoError(t, os.WriteFile(d.Passwd, []byte(passwd), 0o644))
	require.NoError(t, os.WriteFile(d.Group, []byte(group), 0o644))
	return d
}

const passwd = `# comment:x:1:1::/:
root:x:0:0:root:/root:/bin/bash
broken line
bad:x:no:0::/:
bad2:x:-1:0::/:
huge:x:4294967295:0::/:
app:x:1000:1001:App,,,:/home/app:/bin/sh
short:x:7:8
twice:x:1000:5::/twice:
1234:x:50:51::/number:
crlf:x:60:61::/crlf:/bin/sh` + "\r\n"

const group = `root:x:0:
#app:x:9:app
app:x:1001:
wheel:x:10:root,app
staff:x:11:app,other
app2:x:1001:app
none:x:12:apps,xapp
broken
odd:x:no:app
`

func TestResolve(t *testing.T) {
	t.Parallel()
	d := database(t, passwd, group)
	for spec, want := range map[string]Identity{
		"root":          {Home: "/root", Groups: []uint32{0, 10}},
		"0":             {Home: "/root", Groups: []uint32{0, 10}},
		"app":           {UID: 1000, GID: 1001, Home: "/home/app", Groups: []uint32{1001, 10, 11}},
		"1000":          {UID: 1000, GID: 1001, Home: "/home/app", Groups: []uint32{1001, 10, 11}},
		" app : wheel ": {UID: 1000, GID: 10, Home: "/home/app", Groups: []uint32{10, 11, 1001}},
		"app:77":        {UID: 1000, GID: 77, Home: "/home/app", Groups: []uint32{77, 10, 11, 1001}},
		"4711":          {UID: 4711},
		"4711:4712":     {UID: 4711, GID: 4712},
		"4711:staff":    {UID: 4711, GID: 11},
		"short":         {UID: 7, GID: 8, Groups: []uint32{8}},
		"crlf":          {UID: 60, GID: 61, Home: "/crlf", Groups: []uint32{61}},
		"1234":          {UID: 1234}, // numbers are ids, not names
		"4294967294":    {UID: 1<<32 - 2},
	} {
		got, err := d.Resolve(spec)
		require.NoError(t, err, spec)
		assert.Equal(t, want, got, spec)
	}
	for spec, want := range map[string]error{
		"": ErrEmptyUser, " ": ErrEmptyUser, ":0": ErrEmptyUser, "app:": ErrEmptyGroup, "app: ": ErrEmptyGroup,
		"who": ErrNoUser, "bad": ErrNoUser, "bad2": ErrNoUser, "huge": ErrNoUser, "4294967295": ErrNoUser, "-1": ErrNoUser,
		"app:who": ErrNoGroup, "app:a:b": ErrNoGroup, "comment": ErrNoUser, "broken line": ErrNoUser,
	} {
		_, err := d.Resolve(spec)
		assert.ErrorIs(t, err, want, "%q", spec)
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	d := Database{Passwd: "/nonexistent/passwd", Group: "/nonexistent/group"}
	got, err := d.Resolve("5:6")
	require.NoError(t, err)
	assert.Equal(t, Identity{UID: 5, GID: 6}, got)
	_, err = d.Resolve("root")
	require.ErrorIs(t, err, ErrNoUser)
	_, ok, err := d.ByUID(0)
	require.NoError(t, err)
	assert.False(t, ok)
}

// A file that is none, or is endless, is an error and not a hang.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for _, path := range []string{fifo, "/dev/zero", t.TempDir()} {
		_, err := Database{Passwd: path}.Resolve("root")
		assert.ErrorContains(t, err, "is not a regular file", path)
	}
	d := database(t, strings.Repeat("x", maxLine+1), "")
	_, err := d.Resolve("root")
	require.ErrorContains(t, err, "token too long")
}

func TestManyGroups(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for n := range 70000 {
		b.WriteString("g:x:")
		b.WriteString(strings.Repeat("1", 1+n%5))
		b.WriteString(":app,app\n")
	}
	d := database(t, passwd, b.String())
	got, err := d.Resolve("app")
	require.NoError(t, err)
	assert.LessOrEqual(t, len(got.Groups), maxGroups)
}

func FuzzResolve(f *testing.F) {
	f.Add(passwd, group, "app:wheel")
	f.Add("", "", "0:0")
	dir := f.TempDir()
	d := Database{Passwd: filepath.Join(dir, "passwd"), Group: filepath.Join(dir, "group")}
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		require.NoError(t, os.WriteFile(d.Passwd, []byte(passwd), 0o644))
		require.NoError(t, os.WriteFile(d.Group, []byte(group), 0o644))
		id, err := d.Resolve(spec)
		if err == nil {
			assert.NotEqual(t, uint32(1<<32-1), id.UID)
			assert.NotEqual(t, uint32(1<<32-1), id.GID)
		}
	})
}
