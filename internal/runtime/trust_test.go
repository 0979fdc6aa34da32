package runtime

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mitm "github.com/gomsb/gomsb/netstack/tls"
)

func TestHostCAs(t *testing.T) {
	block := func(kind, body string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(body)}))
	}
	a, b := block("CERTIFICATE", "a"), block("CERTIFICATE", "b")
	dir := t.TempDir()
	bundle := filepath.Join(dir, "bundle")
	require.NoError(t, os.WriteFile(bundle, []byte("# text\n"+a+block("PRIVATE KEY", "secret")+b+a+"garbage"), 0o600))
	got, err := hostCAs([]string{filepath.Join(dir, "none"), bundle, "/never"})
	require.NoError(t, err)
	assert.Equal(t, a+b, string(got))
	got, err = hostCAs([]string{filepath.Join(dir, "none")})
	require.NoError(t, err)
	assert.Nil(t, got)
	_, err = hostCAs([]string{dir})
	assert.Error(t, err, "a directory")
}

func TestPlaceTrust(t *testing.T) {
	runtimeDir, elsewhere := t.TempDir(), t.TempDir()
	kept := filepath.Join(elsewhere, "host-cas.pem")
	require.NoError(t, os.WriteFile(kept, []byte("the host's"), 0o600))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(runtimeDir, "tls")), "a guest's trap")
	require.NoError(t, placeTrust(runtimeDir, nil, true))
	text, err := os.ReadFile(kept)
	require.NoError(t, err)
	assert.Equal(t, "the host's", string(text), "nothing is followed")
	if want, err := hostCAs(hostBundles); err == nil && want != nil {
		got, err := os.ReadFile(filepath.Join(runtimeDir, "tls", "host-cas.pem"))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	ca, err := mitm.PersistedAuthority(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.NoError(t, placeTrust(runtimeDir, ca, false))
	got, err := os.ReadFile(filepath.Join(runtimeDir, "tls", "ca.pem"))
	require.NoError(t, err)
	assert.Equal(t, ca.PEM(), got)
	assert.NoFileExists(t, filepath.Join(runtimeDir, "tls", "host-cas.pem"))
	require.NoError(t, placeTrust(runtimeDir, nil, false))
	assert.NoDirExists(t, filepath.Join(runtimeDir, "tls"))
}
