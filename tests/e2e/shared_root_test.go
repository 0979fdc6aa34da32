//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRootsAreInterchangeable lets microsandbox 0.6.18 start a sandbox that we made, and
// us one that it made: either finds on the root what the other wrote, a disk that grew
// included, and leaves it clean.
func TestRootsAreInterchangeable(t *testing.T) {
	path, err := os.ReadFile(data("official"))
	require.NoError(t, err)
	programs := map[string]string{"us": os.Getenv("MSB_PATH"), "official": string(path)}
	next := map[string][]string{"us": {"official", "us"}, "official": {"us"}} // who starts what one made
	home := t.TempDir()
	command := func(ctx context.Context, who string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, programs[who], args...)
		cmd.Env = append(os.Environ(), "NO_COLOR=1", "MSB_HOME="+data("by-official"), "MSB_PATH="+programs[who], "HOME="+home)
		cmd.WaitDelay = time.Second
		return cmd
	}
	msb := func(who string, args ...string) string {
		out, err := command(within(t, 6*patience), who, args...).CombinedOutput()
		require.NoError(t, err, "%s: %q: %s", who, args, out)
		return strings.TrimSpace(string(out))
	}
	sh := func(who, name, script string) string { return msb(who, "exec", name, "--", "sh", "-c", script) }
	for maker, starters := range next {
		name := "made-by-" + maker
		t.Cleanup(func() { _ = command(context.Background(), "us", "rm", "-f", name).Run() }) // if the test has not come that far
		msb(maker, "create", "-q", "--pull", "never", "-n", name, "--root-disk", "300M", "debian")
		sh(maker, name, "echo first > /file; rm /etc/motd; mkdir /new; chown 5:6 /new")
		msb(maker, "stop", name)
		for _, who := range starters {
			msb(who, "start", name)
			assert.Equal(t, "first 5:6 gone", sh(who, name, "echo $(cat /file) $(stat -c %u:%g /new) $(test -e /etc/motd || echo gone)"), "%s on what %s made", who, maker)
			sh(who, name, "date >> /new/log; sync")
			msb(who, "stop", name)
		}
		assert.Equal(t, int64(300<<20), inspectDisk(t, data("by-official")+"/sandboxes/"+name+"/upper.ext4").Size)
		assertClean(t, data("by-official")+"/sandboxes/"+name+"/upper.ext4")
		if t.Failed() {
			log, _ := os.ReadFile(data("by-official") + "/sandboxes/" + name + "/logs/runtime.log")
			t.Logf("runtime.log: %s", log)
		}
		msb("us", "rm", name)
	}
}
