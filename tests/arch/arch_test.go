package arch

import (
	"bytes"
	"encoding/json"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/gomsb/gomsb"

// floors lists path prefixes and the floor each lives on; the longest match counts. A
// package imports only from lower floors, or from its own parent or child folder.
var floors = map[string]int{
	"guestagent/proto":           0,
	"guestagent/flow":            1,
	"kernel":                     1,
	"vmm/memory":                 0,
	"vmm/hv":                     0,
	"vmm/hv/kvmtest":             0,
	"vmm/event":                  0,
	"internal/atomicfile":        0,
	"internal/filelock":          0,
	"internal/staging":           1,
	"internal/unpacked":          0,
	"internal/sysmon":            0,
	"internal/version":           0,
	"vmm/hv/kvm":                 1,
	"vmm/arch":                   1,
	"vmm/virtio":                 1,
	"vmm/virtio/blk":             2,
	"vmm/virtio/console":         2,
	"vmm/virtio/fs":              2,
	"vmm/virtio/net":             2,
	"vmm/virtio/vsock":           2,
	"vmm/virtio/rng":             2,
	"vmm/virtio/balloon":         2,
	"vmm/virtio/mem":             2,
	"vmm/soft":                   2,
	"oci":                        2,
	"rootfs":                     2,
	"netstack":                   2,
	"snapshot":                   2,
	"vmm":                        3,
	"guestagent":                 3,
	"internal/checkpoint":        3,
	"internal/launch":            4,
	"internal/metrics":           4,
	"internal/placement":         4,
	"internal/sshd":              4,
	"internal/store":             4,
	"internal/template":          4,
	"internal/runtime/guesttest": 4,
	"internal/runtime/journal":   4,
	"internal/runtime/relay":     4,
	"internal/runtime":           5,
	"internal/residue":           5,
	"sdk":                        6,
	"cmd":                        7,
	"hack":                       7,
	"tests":                      8,
}

// forbidden lists edges that no floor rule expresses.
var forbidden = []struct{ from, to string }{
	{"vmm", "oci"}, {"vmm", "rootfs"}, {"vmm", "netstack"}, {"vmm", "snapshot"}, {"vmm", "guestagent"}, {"vmm", "sdk"},
	{"netstack", "vmm"}, {"oci", "rootfs/ext4"}, {"guestagent/agent", "vmm"}, {"guestagent/agent", "oci"},
	{"guestagent/agent", "rootfs"}, {"guestagent/agent", "kernel"}, {"guestagent/client", "vmm"},
}

type listed struct {
	ImportPath, Name, Dir string
	Imports, TestImports  []string
	XTestImports, Deps    []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Dir,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

func local(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module+"/")
	return rest, ok
}

func floor(path string) (int, bool) {
	for p := path; p != "."; p = filepath.Dir(p) {
		if n, ok := floors[p]; ok {
			return n, true
		}
	}
	return 0, false
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// kin reports that one of the two folders contains the other or that both share a
// folder below the floor's own one (rootfs/tree and rootfs/erofs). Images also use what
// makes block devices of them, never the other way round.
func kin(a, b string) bool {
	if within(a, b) || within(b, a) || within(a, "oci") && within(b, "rootfs") {
		return true
	}
	top := func(p string) string { first, _, _ := strings.Cut(p, "/"); return first }
	return top(a) == top(b) && !strings.HasPrefix(a, "vmm/") && !strings.HasPrefix(a, "internal/")
}

func TestImportGraph(t *testing.T) {
	packages := list(t, "./...")
	require.NotEmpty(t, packages)
	for _, p := range packages {
		from, ok := local(p.ImportPath)
		if !ok {
			continue
		}
		own, known := floor(from)
		if !assert.True(t, known, "%s lives on no floor: add it to the design and to this test", from) {
			continue
		}
		for _, imp := range p.Imports {
			to, ok := local(imp)
			if !ok {
				continue
			}
			other, _ := floor(to)
			assert.True(t, other < own || kin(from, to), "%s (floor %d) imports %s (floor %d)", from, own, to, other)
			for _, f := range forbidden {
				assert.False(t, within(from, f.from) && within(to, f.to), "%s must never import %s", from, to)
			}
			if within(to, "sdk") {
				assert.True(t, within(from, "cmd") || within(from, "tests") || within(from, "sdk"), "%s imports sdk", from)
			}
		}
		if from == "guestagent/proto" {
			for _, imp := range p.Imports {
				assert.True(t, !strings.Contains(strings.Split(imp, "/")[0], ".") || strings.HasPrefix(imp, "github.com/fxamacker/cbor"), "proto imports %s", imp)
			}
		}
	}
}

// TestBinaries keeps the module list of each binary short and deliberate: a new entry
// is a decision, made here.
func TestBinaries(t *testing.T) {
	for _, bin := range []string{"msb", "agentd"} {
		deps := list(t, "-deps", "./cmd/"+bin)
		var mods []string
		for _, d := range deps {
			host := strings.Split(d.ImportPath, "/")[0]
			if strings.Contains(host, ".") && !strings.HasPrefix(d.ImportPath, module) {
				parts := strings.Split(d.ImportPath, "/")
				mods = append(mods, strings.Join(parts[:min(3, len(parts))], "/"))
			}
			if bin == "agentd" {
				assert.NotContains(t, []string{"net/http", "crypto/tls", "encoding/json", "database/sql"}, d.ImportPath, "the agent stays small")
			}
		}
		slices.Sort(mods)
		mods = slices.Compact(mods)
		golden := filepath.Join("testdata", bin+".deps")
		got := strings.Join(mods, "\n") + "\n"
		if os.Getenv("UPDATE_GOLDEN") != "" {
			require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, "dependencies of %s changed; if that is meant: UPDATE_GOLDEN=1 go test ./tests/arch", bin)
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range list(t, "./...") {
		src, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, "doc.go"), nil, parser.ParseComments)
		if !assert.NoError(t, err, "%s needs a doc.go", p.ImportPath) {
			continue
		}
		assert.NotEmpty(t, new(doc.Package).Synopsis(src.Doc.Text()), "%s: doc.go has no package comment", p.ImportPath)
	}
}

func TestFilesStayReadable(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := bytes.Count(b, []byte("\n"))
		if !strings.HasSuffix(path, "_test.go") && !strings.Contains(filepath.Base(path), "zconst") {
			assert.LessOrEqual(t, lines, 600, "%s is too long: a file holds one idea", path)
		}
		if bytes.Contains(b, []byte("\"unsafe\"\n")) && !strings.Contains(path, "_unsafe") {
			assert.Fail(t, "unsafe outside *_unsafe*.go", path)
		}
		return nil
	})
	require.NoError(t, err)
}
