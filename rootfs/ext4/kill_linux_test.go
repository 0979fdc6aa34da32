package ext4

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gomsb/gomsb/rootfs/tree"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// victimPath, in the environment, makes the test binary create and grow that image
// until it is killed.
const victimPath = "GOMSB_EXT4_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(victimPath); path != "" {
		if err := victim(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func victimTree() *tree.Tree {
	tr := tree.New()
	for i := range 50 {
		_ = tr.AddFile(fmt.Sprint("dir/", i), 0o644, []byte(strings.Repeat(fmt.Sprint(i), 10_000)))
	}
	_ = tr.AddDir("lost+found", 0o700)
	return tr
}

func victim(path string) error {
	for {
		if err := Create(path, Options{Size: 300 << 20, Tree: victimTree(), UUID: testUUID}); err != nil {
			return err
		}
		for _, size := range []int64{500 << 20, 1 << 30, 9 << 30} {
			if err := Grow(path, size); err != nil {
				return err
			}
		}
	}
}

// TestKilled kills a process at random points while it creates and grows an image: there
// is none, or one that holds all.
func TestKilled(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(3, uint64(time.Now().UnixNano())))
	for range 12 {
		path := filepath.Join(t.TempDir(), "image")
		var stderr strings.Builder
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), victimPath+"="+path)
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(random.IntN(150_000)) * time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		assert.Error(t, cmd.Wait())
		require.Empty(t, stderr.String())
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		out, _ := tool(t, "e2fsck", "-fy", path)
		require.NotContains(t, out, "Fix? yes")
		clean(t, path)
		compare(t, victimTree(), path)
		require.NoError(t, Grow(path, 10<<30))
		clean(t, path)
	}
}
