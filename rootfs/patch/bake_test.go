package patch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/rootfs/erofs"
	"github.com/gomsb/gomsb/rootfs/tree"
)

// lowerTree is a root file system as images have them.
func lowerTree(t *testing.T) *tree.Tree {
	t.Helper()
	lower := tree.New()
	lower.Root.Describe(tree.NewDir(0o555))
	require.NoError(t, lower.AddDir("/tmp", 0o1777))
	require.NoError(t, lower.AddDir("/root", 0o700))
	require.NoError(t, lower.AddDir("/etc/conf.d", 0o755))
	require.NoError(t, lower.AddFile("/etc/hosts", 0o640, []byte("127.0.0.1 localhost\n")))
	require.NoError(t, lower.AddFile("/etc/conf.d/a", 0o644, []byte("a")))
	require.NoError(t, lower.AddFile("/root/.profile", 0o600, nil))
	require.NoError(t, lower.AddSymlink("/bin", "usr/bin"))
	require.NoError(t, lower.AddDir("/usr/bin", 0o755))
	require.NoError(t, lower.Add("/dev/null", &tree.Inode{Mode: tree.TypeChar | 0o666, Major: 1, Minor: 3}))
	for path, uid := range map[string]uint32{"/root": 7, "/etc/hosts": 8} {
		n := lower.Lookup(path)
		n.UID, n.GID, n.MTime = uid, uid+1, tree.Time{Sec: 99}
		n.SetXattr("user.kept", []byte("x"))
	}
	return lower
}

// lowerImage is lowerTree in an EROFS image.
func lowerImage(t *testing.T) Lower {
	t.Helper()
	var b bytes.Buffer
	_, err := erofs.Build(&b, lowerTree(t))
	require.NoError(t, err)
	r, err := erofs.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	require.NoError(t, err)
	return Image(r)
}

// show lists a tree of changes, one file a line: mode, owner, path, content.
func show(t *testing.T, changes *tree.Tree) []string {
	t.Helper()
	var lines []string
	require.NoError(t, changes.Walk(func(path string, n *tree.Inode) error {
		line := fmt.Sprintf("%o %d:%d %s", n.Mode, n.UID, n.GID, path)
		switch n.Type() {
		case tree.TypeRegular:
			content, err := io.ReadAll(n.Reader())
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", content)
		case tree.TypeSymlink:
			line += " -> " + n.Target
		}
		if _, ok := n.Xattr("user.kept"); ok {
			line += " kept"
		}
		lines = append(lines, line)
		for _, name := range n.Whiteouts() {
			lines = append(lines, "hides "+strings.TrimSuffix(path, "/")+"/"+name)
		}
		return nil
	}))
	return lines
}

func TestBake(t *testing.T) {
	t.Parallel()
	const root = "40555 0:0 /"
	file := func(path, content string) Patch { return Patch{Kind: Text, Path: path, Content: []byte(content)} }
	replace := func(p Patch) Patch { p.Replace = true; return p }
	remove := func(path string) Patch { return Patch{Kind: Remove, Path: path} }
	mkdir := func(path string, m *uint32) Patch { return Patch{Kind: Mkdir, Path: path, Mode: m} }
	add := func(path, content string) Patch { return Patch{Kind: Append, Path: path, Content: []byte(content)} }
	for name, c := range map[string]struct {
		patches []Patch
		want    []string // nil: as err says
		err     error
	}{
		"nothing":                       {nil, []string{root}, nil},
		"new file, parents made":        {[]Patch{file("/opt/x/f", "hi")}, []string{root, "40755 0:0 /opt", "40755 0:0 /opt/x", `100644 0:0 /opt/x/f "hi"`}, nil},
		"parents keep what they are":    {[]Patch{file("/root/f", "")}, []string{root, "40700 7:8 /root kept", `100644 0:0 /root/f ""`}, nil},
		"sticky parent":                 {[]Patch{mkdir("/tmp/d", nil)}, []string{root, "41777 0:0 /tmp", "40755 0:0 /tmp/d"}, nil},
		"mode":                          {[]Patch{{Kind: File, Path: "/f", Content: []byte{0}, Mode: mode(0o4711)}}, []string{root, `104711 0:0 /f "\x00"`}, nil},
		"file is there":                 {[]Patch{file("/etc/hosts", "")}, nil, ErrExists},
		"file is there since a patch":   {[]Patch{file("/f", ""), file("/f", "")}, nil, ErrExists},
		"file is replaced":              {[]Patch{replace(file("/etc/hosts", "new"))}, []string{root, "40755 0:0 /etc", `100644 0:0 /etc/hosts "new"`}, nil},
		"directory is not replaced":     {[]Patch{replace(file("/etc", "new"))}, nil, ErrKind},
		"file in front":                 {[]Patch{file("/etc/hosts/f", "")}, nil, ErrKind},
		"new file in front":             {[]Patch{file("/f", ""), file("/f/g", "")}, nil, ErrKind},
		"link in front":                 {[]Patch{file("/bin/f", "")}, nil, ErrKind},
		"link in front of a directory":  {[]Patch{file("/bin/x/f", "")}, nil, ErrKind},
		"link":                          {[]Patch{{Kind: Symlink, Link: "/etc/l", Target: "../x"}}, []string{root, "40755 0:0 /etc", "120777 0:0 /etc/l -> ../x"}, nil},
		"link replaces a link":          {[]Patch{{Kind: Symlink, Link: "/bin", Target: "x", Replace: true}}, []string{root, "120777 0:0 /bin -> x"}, nil},
		"directory is there":            {[]Patch{mkdir("/etc/conf.d", nil)}, []string{root}, nil},
		"directory gets a mode":         {[]Patch{mkdir("/root", mode(0o750))}, []string{root, "40750 7:8 /root kept"}, nil},
		"file in a directory's place":   {[]Patch{mkdir("/etc/hosts", nil)}, nil, ErrKind},
		"removal of a lower file":       {[]Patch{remove("/etc/hosts")}, []string{root, "40755 0:0 /etc", "hides /etc/hosts"}, nil},
		"removal of a lower directory":  {[]Patch{remove("/etc/conf.d")}, []string{root, "40755 0:0 /etc", "hides /etc/conf.d"}, nil},
		"removal of an upper file":      {[]Patch{file("/f", ""), remove("/f")}, []string{root}, nil},
		"removal of a replacement":      {[]Patch{replace(file("/etc/hosts", "")), remove("/etc/hosts")}, []string{root, "40755 0:0 /etc", "hides /etc/hosts"}, nil},
		"removal of nothing":            {[]Patch{remove("/none"), remove("/none/below"), remove("/root/none")}, []string{root}, nil},
		"removal of both":               {[]Patch{file("/etc/conf.d/b", ""), remove("/etc/conf.d")}, []string{root, "40755 0:0 /etc", "hides /etc/conf.d"}, nil},
		"removal twice":                 {[]Patch{remove("/etc/hosts"), remove("/etc/hosts")}, []string{root, "40755 0:0 /etc", "hides /etc/hosts"}, nil},
		"file after removal":            {[]Patch{remove("/etc/hosts"), file("/etc/hosts", "n")}, []string{root, "40755 0:0 /etc", "hides /etc/hosts", `100644 0:0 /etc/hosts "n"`}, nil},
		"directory after removal":       {[]Patch{remove("/etc"), file("/etc/f", "n")}, []string{root, "hides /etc", "40755 0:0 /etc", `100644 0:0 /etc/f "n"`}, nil},
		"lower children stay hidden":    {[]Patch{remove("/etc"), mkdir("/etc", nil), add("/etc/hosts", "x")}, nil, ErrNotFound},
		"removed below a new directory": {[]Patch{remove("/etc"), mkdir("/etc", nil), remove("/etc/hosts")}, []string{root, "hides /etc", "40755 0:0 /etc"}, nil},
		"new directory removed again":   {[]Patch{remove("/etc"), mkdir("/etc", nil), remove("/etc"), mkdir("/etc", nil)}, []string{root, "hides /etc", "40755 0:0 /etc"}, nil},
		"append":                        {[]Patch{add("/etc/hosts", "::1 x\n"), add("/etc/hosts", "end")}, []string{root, "40755 0:0 /etc", `100640 8:9 /etc/hosts "127.0.0.1 localhost\n::1 x\nend" kept`}, nil},
		"append to an empty file":       {[]Patch{add("/root/.profile", "x")}, []string{root, "40700 7:8 /root kept", `100600 0:0 /root/.profile "x"`}, nil},
		"append to a new file":          {[]Patch{file("/f", "a"), add("/f", "b")}, []string{root, `100644 0:0 /f "ab"`}, nil},
		"append to nothing":             {[]Patch{add("/none", "x")}, nil, ErrNotFound},
		"append to what was removed":    {[]Patch{remove("/etc/hosts"), add("/etc/hosts", "x")}, nil, ErrNotFound},
		"append to a directory":         {[]Patch{add("/etc", "x")}, nil, ErrKind},
		"append to a device":            {[]Patch{add("/dev/null", "x")}, nil, ErrKind},
		"append to a link":              {[]Patch{add("/bin", "x")}, nil, ErrKind},
		"invalid":                       {[]Patch{{Kind: Mkdir, Path: "etc"}}, nil, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes, err := Bake(t.Context(), c.patches, lowerImage(t))
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, show(t, changes))
		})
	}
}

// hostTree makes a directory of the host to copy from.
func hostTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(dir, "sub"), 0o2750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run"), []byte("#!/bin/sh\n"), 0o600))
	require.NoError(t, os.Chmod(filepath.Join(dir, "run"), 0o755|os.ModeSetuid))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "f"), bytes.Repeat([]byte("x"), 5), 0o640))
	require.NoError(t, os.Symlink("/outside", filepath.Join(dir, "link")))
	return dir
}

func TestCopy(t *testing.T) {
	t.Parallel()
	dir := hostTree(t)
	changes, err := Bake(t.Context(), []Patch{
		{Kind: CopyDir, Src: dir, Dst: "/opt"},
		{Kind: CopyFile, Src: filepath.Join(dir, "run"), Dst: "/root/run"},
		{Kind: CopyFile, Src: filepath.Join(dir, "sub", "f"), Dst: "/f", Mode: mode(0o600)},
	}, lowerImage(t))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"40555 0:0 /", `100600 0:0 /f "xxxxx"`, "40755 0:0 /opt", "120777 0:0 /opt/link -> /outside", `100755 0:0 /opt/run "#!/bin/sh\n"`,
		"40750 0:0 /opt/sub", "40755 0:0 /opt/sub/empty", `100640 0:0 /opt/sub/f "xxxxx"`, "40700 7:8 /root kept", `100755 0:0 /root/run "#!/bin/sh\n"`,
	}, show(t, changes))

	merged := []Patch{{Kind: CopyDir, Src: dir, Dst: "/etc", Replace: true}, {Kind: CopyDir, Src: dir, Dst: "/etc", Replace: true}}
	changes, err = Bake(t.Context(), merged, lowerImage(t))
	require.NoError(t, err)
	assert.Contains(t, show(t, changes), `100640 0:0 /etc/sub/f "xxxxx"`)
	assert.Contains(t, show(t, changes), "40755 0:0 /etc")

	pipe := filepath.Join(t.TempDir(), "d")
	require.NoError(t, os.Mkdir(pipe, 0o755))
	require.NoError(t, syscall.Mkfifo(filepath.Join(pipe, "pipe"), 0o600))
	for name, c := range map[string]struct {
		patch Patch
		err   error
	}{
		"missing file":        {Patch{Kind: CopyFile, Src: "/none", Dst: "/a"}, os.ErrNotExist},
		"missing directory":   {Patch{Kind: CopyDir, Src: "/none", Dst: "/a"}, os.ErrNotExist},
		"directory as file":   {Patch{Kind: CopyFile, Src: dir, Dst: "/a"}, ErrSource},
		"file as directory":   {Patch{Kind: CopyDir, Src: filepath.Join(dir, "run"), Dst: "/a"}, ErrSource},
		"pipe":                {Patch{Kind: CopyFile, Src: filepath.Join(pipe, "pipe"), Dst: "/a"}, ErrSource},
		"pipe in a directory": {Patch{Kind: CopyDir, Src: pipe, Dst: "/a"}, ErrSource},
		"there already":       {Patch{Kind: CopyDir, Src: dir, Dst: "/etc"}, ErrExists},
		"over a file":         {Patch{Kind: CopyDir, Src: dir, Dst: "/etc/hosts", Replace: true}, ErrKind},
	} {
		_, err := Bake(t.Context(), []Patch{c.patch}, lowerImage(t))
		assert.ErrorIs(t, err, c.err, name)
	}
}

// A source that changes between the plan and its use is noticed.
func TestSourceChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for name, change := range map[string]func(){
		"shorter":  func() { require.NoError(t, os.Truncate(path, 1)) },
		"replaced": func() { require.NoError(t, os.Remove(path)); require.NoError(t, os.Symlink("/etc/passwd", path)) },
		"gone":     func() { require.NoError(t, os.Remove(path)) },
	} {
		_ = os.Remove(path)
		require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
		changes, err := Bake(t.Context(), []Patch{{Kind: CopyFile, Src: path, Dst: "/f"}}, Empty)
		require.NoError(t, err)
		change()
		_, err = io.ReadAll(changes.Lookup("/f").Reader())
		assert.ErrorIs(t, err, ErrSource, name)
	}
}

// TestBakeStops finds the host's files unread once the context has ended.
func TestBakeStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	changes, err := Bake(ctx, []Patch{{Kind: CopyFile, Src: filepath.Join(dir, "f"), Dst: "/f"}, {Kind: CopyDir, Src: dir, Dst: "/d"}}, Empty)
	require.NoError(t, err)
	cancel()
	for _, name := range []string{"/f", "/d/f"} {
		_, err = io.ReadAll(changes.Lookup(name).Reader())
		assert.ErrorIs(t, err, context.Canceled, name)
	}
	_, err = Bake(ctx, []Patch{{Kind: CopyDir, Src: dir, Dst: "/d"}}, Empty)
	assert.ErrorIs(t, err, context.Canceled)
	root := t.TempDir()
	assert.ErrorIs(t, Apply(ctx, []Patch{{Kind: CopyFile, Src: filepath.Join(dir, "f"), Dst: "/f"}}, root), context.Canceled)
}

func TestJoined(t *testing.T) {
	t.Parallel()
	j := &joined{io.NewSectionReader(strings.NewReader("..head.."), 2, 4), []byte("tail")}
	require.NoError(t, iotest.TestReader(io.NewSectionReader(j, 0, 8), []byte("headtail")))
	n, err := j.ReadAt(make([]byte, 4), 100)
	assert.Zero(t, n)
	assert.ErrorIs(t, err, io.EOF)
	short := &joined{io.NewSectionReader(strings.NewReader("he"), 0, 4), []byte("tail")}
	_, err = short.ReadAt(make([]byte, 8), 0)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
