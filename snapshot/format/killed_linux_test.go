package format

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writerEnv makes the test binary write checkpoints at a place until it is killed.
const writerEnv = "GOMSB_TEST_CHECKPOINTS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

func writeForEver(dir string) {
	h := header(2*chunkSize, 64<<10)
	for {
		if err := Write(context.Background(), dir, h, []byte("state"), guest(h)); err != nil {
			panic(err)
		}
		if _, err := os.Stdout.WriteString("written\n"); err != nil {
			panic(err)
		}
	}
}

// A writer that is killed at any point leaves a whole checkpoint, and what it staged goes
// with the next one.
func TestKilledWriters(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "one")
	self, err := os.Executable()
	require.NoError(t, err)
	for n := range 12 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), writerEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		time.Sleep(time.Duration(n) * 3 * time.Millisecond) // somewhere in the next ones
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		c, err := Open(t.Context(), dir)
		require.NoError(t, err)
		require.NoError(t, c.Verify(t.Context()))
		require.Equal(t, "state", string(c.State()))
		require.NoError(t, c.Close())
	}
	h := header(64 << 10)
	require.NoError(t, Write(t.Context(), dir, h, nil, guest(h)))
	assertOnly(t, parent, "one")
}
