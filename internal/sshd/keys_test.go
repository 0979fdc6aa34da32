package sshd

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func TestHostKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ssh", "host_ed25519")
	keys := make([]ssh.Signer, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			k, err := HostKey(path)
			if assert.NoError(t, err) {
				keys[i] = k
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		require.NotNil(t, k)
		assert.Equal(t, keys[0].PublicKey(), k.PublicKey())
	}
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode())
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, left, 1)

	require.NoError(t, os.WriteFile(path, []byte("nonsense"), 0o600))
	_, err = HostKey(path)
	assert.ErrorContains(t, err, path)
}

// publicLine is a new key's line.
func publicLine(t *testing.T) string {
	t.Helper()
	k, err := NewKey()
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey())))
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ssh", "authorized_keys")
	_, err := AuthorizedKeys(path)
	require.ErrorIs(t, err, ErrNoKeys)
	assert.ErrorContains(t, err, "not found at "+path)

	first, second := publicLine(t)+" me@here", publicLine(t)
	added, err := Authorize(path, first+"\n")
	require.NoError(t, err)
	assert.True(t, added)
	added, err = Authorize(path, strings.TrimSuffix(first, " me@here"))
	require.NoError(t, err)
	assert.False(t, added, "the comment is not the key")
	added, err = Authorize(path, strings.Fields(second)[1])
	require.NoError(t, err)
	assert.True(t, added, "base64 alone")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, first+"\n"+second+"\n", string(text))
	st, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode())
	keys, err := AuthorizedKeys(path)
	require.NoError(t, err)
	assert.Len(t, keys, 2)

	for name, bad := range map[string]string{
		"empty": " ", "comment": "# x", "words": "not a key", "base64": base64.StdEncoding.EncodeToString([]byte("no key")),
		"options": `command="true" ` + second, "two": first + "\n" + second,
	} {
		_, err := Authorize(path, bad)
		assert.Error(t, err, name)
	}
}

func TestManyAuthorizeAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "authorized_keys")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := Authorize(path, publicLine(t))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	keys, err := AuthorizedKeys(path)
	require.NoError(t, err)
	assert.Len(t, keys, 20)
}

func TestRestrictedKeysAreNotAuthorized(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "authorized_keys")
	require.NoError(t, os.WriteFile(path, []byte("# mine\n\nrestrict "+publicLine(t)+"\nrubbish\n"), 0o600))
	_, err := AuthorizedKeys(path)
	require.ErrorIs(t, err, ErrNoKeys)
	assert.ErrorContains(t, err, "empty")
}
