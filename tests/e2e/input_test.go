//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// TestInputThatWaits for its command waits outside of the guest: others go on, on the same
// connection and beside it, and nothing of it is lost.
func TestInputThatWaits(t *testing.T) {
	sb := shared(t)
	ctx := within(t, 2*patience)
	h, err := sb.ShellStream(ctx, "rm -f /tmp/go; while [ ! -e /tmp/go ]; do sleep 0.2; done; wc -c", msb.WithExecStdinPipe())
	require.NoError(t, err)
	in := h.TakeStdin()
	written := make(chan error, 1)
	go func() {
		_, err := in.WriteCtx(ctx, make([]byte, 8<<20))
		if err == nil {
			err = in.Close()
		}
		written <- err
	}()
	for range 2 {
		assert.Equal(t, "fine", shell(t, sb, "echo fine"))
		r := cli(t, "exec", sb.Name(), "--", "echo", "fine")
		assert.Equal(t, "fine\n", r.stdout, r.stderr)
	}
	require.NoError(t, sb.FS().Write(ctx, "/tmp/go", nil))
	require.NoError(t, <-written)
	out, err := h.Collect(ctx)
	require.NoError(t, err)
	assert.Equal(t, "8388608", strings.TrimSpace(out.Stdout()))
}
