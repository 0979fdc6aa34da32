package store

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// crashEnv makes the test binary write to the database it names until it is killed.
const crashEnv = "GOMSB_TEST_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// writeForEver inserts sandboxes and runs, and says which it was told are stored.
func writeForEver(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, path, Options{Create: true})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("%d-%d", os.Getpid(), i)
		b, err := s.InsertSandbox(ctx, NewSandbox{Name: name, Config: "{}", Status: Running, Labels: map[string]string{"a": "1", "b": "2"}, Rootfs: &Rootfs{Mode: "bind"}})
		if err != nil {
			return err
		}
		run, err := s.BeginRun(ctx, b.ID, os.Getpid())
		if err != nil {
			return err
		}
		if err := s.FinishRun(ctx, Ending{RunID: run, SandboxID: b.ID, Reason: Completed, Status: Stopped}); err != nil {
			return err
		}
		fmt.Println(name)
	}
}

// P28: a writer that is killed at any moment, also while it makes the database, loses
// nothing that it was told is stored and leaves no half of anything.
func TestKilledWriterLeavesAWholeDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "msb.db")
	self, err := os.Executable()
	require.NoError(t, err)
	stored := make(map[string]bool)
	for round := range 12 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		if round > 5 && lines.Scan() { // let some rounds get far
			stored[lines.Text()] = true
		}
		kill := time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines.Scan() {
			stored[lines.Text()] = true
		}
		require.Error(t, cmd.Wait())
		kill.Stop()
	}
	require.NotEmpty(t, stored)

	s := open(t, path)
	var verdict string
	require.NoError(t, s.db.QueryRow(`PRAGMA integrity_check`).Scan(&verdict))
	assert.Equal(t, "ok", verdict)
	all, err := s.Sandboxes(t.Context(), Filter{})
	require.NoError(t, err)
	for _, b := range all {
		labels, err := s.Labels(t.Context(), b.ID)
		require.NoError(t, err)
		assert.Len(t, labels, 2, b.Name)
		if run, err := s.LastRun(t.Context(), b.ID); err == nil {
			assert.Equal(t, run.Active, b.Status == Running, "a run and its sandbox end together")
		}
		if stored[b.Name] {
			assert.Equal(t, Stopped, b.Status, b.Name)
			delete(stored, b.Name)
		}
		again, err := s.Reconcile(t.Context(), b.ID, func(int) bool { return false })
		require.NoError(t, err)
		if strings.Contains(b.Name, "-") && b.Status == Running {
			assert.Contains(t, []Status{Crashed, Running}, again.Status)
		}
	}
	assert.Empty(t, stored, "what was reported stored is there")
}
