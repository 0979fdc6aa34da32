//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// Modes of the helper: a program that creates a sandbox and then ends in some way.
const (
	helperHold   = "hold"   // says ready and waits to be killed
	helperExit   = "exit"   // returns without closing its handle
	helperDetach = "detach" // lets go of the sandbox first
)

func helper(mode, name string) int {
	ctx := context.Background()
	sb, err := msb.CreateSandbox(ctx, name, msb.WithImage("mini"))
	if err == nil && mode == helperDetach {
		err = sb.Detach(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	if mode == helperHold {
		select {}
	}
	return 0
}

// startHelper runs this program again as a helper and returns once its sandbox runs.
func startHelper(t *testing.T, mode, name string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(within(t, 2*patience), self)
	cmd.Env = append(os.Environ(), helperEnv+"="+mode, helperEnv+"_NAME="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd
}
