//go:build e2e

package compat

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dataEnv names the folder that hack/compat makes: the path of the official msb, a copy of docs/compat.md,
// and in compat/ a data root for each pair with the image "mini", loaded by the pair's front end.
const dataEnv = "E2E_DATA"

// TestCompat boots the same sandboxes with each front end on each runtime, and with both
// programs in turn on one data root.
func TestCompat(t *testing.T) {
	data := os.Getenv(dataEnv)
	require.NotEmpty(t, data, "run hack/compat")
	path, err := os.ReadFile(filepath.Join(data, "official"))
	require.NoError(t, err)
	official, ours := strings.TrimSpace(string(path)), os.Getenv("MSB_PATH")
	library := filepath.Join(filepath.Dir(filepath.Dir(official)), "lib", "libkrunfw.so.5.6.1")
	peer := Program{Name: "official on official", Path: official, Runtime: official, Library: library}
	own := Program{Name: "ours on ours", Path: ours, Runtime: ours}
	run := func(name string, programs ...Program) Record {
		return boots(t, filepath.Join(data, "compat", short(name)), name, programs)
	}
	list, err := ReadList(filepath.Join(data, "compat.md"), "With sandboxes")
	require.NoError(t, err)
	want := run(peer.Name, peer)
	var differences []Difference
	for _, programs := range [][]Program{
		{own},
		{{Name: "official on ours", Path: official, Runtime: ours, Library: library}},
		{{Name: "ours on official", Path: ours, Runtime: official, Library: library}},
		{peer, own},
	} {
		name := programs[0].Name
		if len(programs) > 1 {
			name = "in turn"
		}
		found := want.Compare(run(name, programs...), name)
		for i := range found {
			found[i].ID = name + " | " + found[i].ID
		}
		unlisted, _ := list.Check(found)
		for _, d := range unlisted {
			assert.Fail(t, "a difference that docs/compat.md does not list", "%s", d)
		}
		differences = append(differences, found...)
	}
	_, gone := list.Check(differences)
	assert.Empty(t, gone, "listed in docs/compat.md, but no difference")
}

// tries is how often a pair is run that the official program has part in: it may stand
// still in the emulated machine when a sandbox is created, which is not compared.
const tries = 3

// boots runs the script in a copy of a folder that holds a home.
func boots(t *testing.T, folder, name string, programs []Program) Record {
	t.Helper()
	official := slices.ContainsFunc(programs, func(p Program) bool { return p.Library != "" })
	for try := 1; ; try++ {
		dir, err := os.MkdirTemp(filepath.Dir(folder), "r") // short, for the paths of sockets
		require.NoError(t, err)
		require.NoError(t, os.CopyFS(dir, os.DirFS(folder)))
		h, begin := homeAt(dir), time.Now()
		h.Progress = func(step string) { t.Logf("%5.1fs %s: %s", time.Since(begin).Seconds(), name, step) }
		record, err := bootScript.Run(t.Context(), h, programs...)
		killAll(t, h)
		if errors.Is(err, context.DeadlineExceeded) && official && try < tries {
			t.Logf("%s, once more: %v", name, err)
			continue
		}
		require.NoError(t, err)
		return record
	}
}

// killAll ends what still runs of a home: its ports are for the next one.
func killAll(t *testing.T, h Home) {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, path := range environs {
		env, _ := os.ReadFile(path) // its process may have ended
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		require.NoError(t, err)
		if bytes.Contains(env, []byte("MSB_HOME="+h.Root+"\x00")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// short is the first two letters of each word of a name: paths of sockets must be short.
func short(name string) (s string) {
	for _, word := range strings.Fields(name) {
		s += word[:2]
	}
	return s
}

// bootScript expects the image "mini" in the data root. Each command of the official msb
// takes about a second in the emulated machine, a boot ten.
var bootScript = Script{"boot", []string{
	"msb create -q -n box -e A=1 -w /tmp --label k=v -p 18080:80 --pull never mini",
	"msb exec box -- sh -c 'echo out; echo err >&2; exit 3'",
	"msb exec -u guest -e B=2 -w / box -- sh -c 'id -un; echo $A $B; pwd; hostname'",
	"msb exec box -- nosuch",
	"msb exec box --timeout 1s -- sleep 100",
	"echo input | msb exec box -- sh -c 'cat; kill -9 $$'",
	"msb ls",
	"msb ls --format json",
	"msb ps",
	"msb ps box --format json",
	"msb inspect box --format json",
	"sleep 2; msb metrics box --format json | sed 's/: [0-9.e-]*\\(,\\)*$/\\1/'",
	"msb ping -q box; msb touch box",
	"msb logs box --source stdout --json | sed -n 1p",
	"msb logs box --source stderr",
	"msb rm box",
	"msb image rm mini:latest",
	"msb exec box -- sh -c 'echo kept >/root/kept; sync'",
	"msb stop box",
	"msb ping box",
	"msb ps -a",
	"msb snapshot create -q snap --from box",
	"msb start -q box; msb exec box -- cat /root/kept",
	"msb stop -f box",
	"msb run -q --pull never mini -- sh -c 'echo out; echo err >&2; exit 4'",
	"msb run -q --pull never -v ./nosuch:/x mini -- true",
	"msb ls -q | grep ^msb- | xargs -r \"$MSB\" rm -q",
	"msb ls",
}}
