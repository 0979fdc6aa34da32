package metrics

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder is an empty folder on a file system that shared memory can live on.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(shmDir, "gomsb-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// registry makes a registry with few slots.
func registry(t testing.TB, capacity uint32) *Registry {
	t.Helper()
	r, err := create(folder(t), "/r", capacity)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// The first bytes of segments as the official 0.6.18 left them; all others were zero.
const (
	// After two reservations of slot 0, the first of which was given back.
	observedHeader = `
		4d53424d4554303103000000000100000002000000040000
		02000000000000005f860a0fa20100000300000000000000`
	observedReserved = `
		01000000000000000300000000000000040000000000000002000000000000000000000000000000
		0000000000000000000000000000000000000000000000000000002000000000`
	observedName2 = "04000000000000006f627332"
	// The third use, while its runtime boots.
	observedActive = `
		02000000000000000500000000000000080000000000000003000000010000008b49000000000000
		84ee0b0fa2010000000000000000000000000000000000000000002000000000`
	// The same slot after the runtime was terminated.
	observedStale = `
		03000000000000000600000000000000080000000000000003000000010000008b49000000000000
		84ee0b0fa2010000000000000000000000000000000000000000002000000000`
	observedName3 = "04000000000000006f627333"
)

const observedSize = 524544

func bytesOf(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	require.NoError(t, err)
	return b
}

// observed puts a segment together from a slot's first fields and its name.
func observed(t testing.TB, slot, name string) []byte {
	t.Helper()
	b := make([]byte, observedSize)
	copy(b, bytesOf(t, observedHeader))
	copy(b[headerLen:], bytesOf(t, slot))
	copy(b[headerLen+slotNameLen:], bytesOf(t, name))
	return b
}

// mapped opens a segment with the given content.
func mapped(t testing.TB, content []byte) *Registry {
	t.Helper()
	dir := folder(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "seg"), content, 0o600))
	r, err := open(dir, "/seg", 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}
