package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zalando/go-keyring"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

// ring is a keyring in memory.
type ring struct {
	entries map[string]Credentials
	err     error
}

func (r ring) Get(host string) (*Credentials, error) {
	if c, ok := r.entries[host]; ok {
		return &c, nil
	}
	return nil, r.err
}
func (r ring) Set(host string, c Credentials) error { r.entries[host] = c; return nil }
func (r ring) Delete(string) (bool, error)          { return false, nil }

// TestAuthChain takes the sources away one by one, the strongest first.
func TestAuthChain(t *testing.T) {
	s := registrytest.New(t)
	s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{[]byte("one")}})
	home, secrets := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("TEST_PASSWORD", "of the variable")
	writeFile(t, secrets, "file", "  of the file\n")
	require.NoError(t, os.Mkdir(filepath.Join(home, ".docker"), 0o700))
	docker, err := json.Marshal(map[string]any{"auths": map[string]any{s.Host(): map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("user:of Docker"))}}})
	require.NoError(t, err)
	writeFile(t, filepath.Join(home, ".docker"), "config.json", string(docker))

	host := func(a Auth) map[string]Host { a.Username = "user"; return map[string]Host{s.Host(): {Auth: &a}} }
	full := ring{entries: map[string]Credentials{s.Host(): {"user", "of the keyring"}}}
	explicit := &Credentials{"user", "explicit"}
	for _, c := range []struct {
		want   string
		config Config
	}{
		{"explicit", Config{Explicit: explicit, Keyring: full, Hosts: host(Auth{PasswordEnv: "TEST_PASSWORD"})}},
		{"of the keyring", Config{Keyring: full, Hosts: host(Auth{PasswordEnv: "TEST_PASSWORD"})}},
		{"of the keyring", Config{Keyring: full, Hosts: host(Auth{Store: "keyring"})}},
		{"of the variable", Config{Keyring: ring{err: errors.New("locked")}, Hosts: host(Auth{PasswordEnv: "TEST_PASSWORD"})}},
		{"of the file", Config{Hosts: host(Auth{SecretName: "file"}), SecretsDir: secrets}},
		{"of Docker", Config{Keyring: ring{}, Hosts: map[string]Host{"other.example": {Auth: &Auth{Username: "x", PasswordEnv: "X"}}}}},
	} {
		s.Mend()
		s.Break(registrytest.Fault{Times: -1, Serve: registrytest.Basic("user", c.want)})
		_, err := newClient(t, c.config).Resolve(t.Context(), parse(t, s, "app"), amd64)
		assert.NoError(t, err, c.want)
	}
	s.Mend()
	s.Break(registrytest.Fault{Times: -1, Serve: registrytest.Basic("user", "another")})
	_, err = newClient(t, Config{Explicit: explicit}).Resolve(t.Context(), parse(t, s, "app"), amd64)
	assert.ErrorIs(t, err, oci.ErrUnauthorized)
	for name, a := range map[string]Auth{"keyring without entry": {Store: "keyring"}, "variable not set": {PasswordEnv: "TEST_NOT_SET"}, "no file": {SecretName: "none"},
		"climbing": {SecretName: "../file"}, "absolute": {SecretName: filepath.Join(secrets, "file")}} {
		_, err := newClient(t, Config{Keyring: ring{}, Hosts: host(a), SecretsDir: secrets}).Resolve(t.Context(), parse(t, s, "app"), amd64)
		assert.ErrorIs(t, err, ErrConfig, name)
	}

	// Anonymous, and not stopped by settings of Docker that make no sense.
	s.Mend()
	writeFile(t, filepath.Join(home, ".docker"), "config.json", "{")
	s.Forget()
	_, err = newClient(t, Config{}).Resolve(t.Context(), parse(t, s, "app"), amd64)
	assert.NoError(t, err)
	for _, r := range s.Requests("") {
		assert.Empty(t, r.Authorization)
	}
}

// TestTokens lets a token server stand between credentials and the registry.
func TestTokens(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{[]byte("one")}})
	tokens := 0
	s.Break(
		registrytest.Fault{Path: "/token", Times: -1, Serve: func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			user, password, _ := r.BasicAuth()
			if user != "user" || password != "secret" || r.URL.Query().Get("scope") != "repository:app:pull" || r.URL.Query().Get("service") != "test" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			tokens++
			fmt.Fprintf(w, `{"token":"t%d"}`, tokens)
		}},
		registrytest.Fault{Times: -1, Serve: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			// A token is good until the next one was given out.
			if r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", tokens) {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:app:pull"`, s.URL))
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		}})
	c := newClient(t, Config{Explicit: &Credentials{"user", "secret"}})
	_, err := c.Resolve(t.Context(), parse(t, s, "app"), amd64)
	require.NoError(t, err)
	assert.Equal(t, 1, tokens)
	tokens++ // as if it had run out
	_, err = c.Resolve(t.Context(), parse(t, s, "app"), amd64)
	require.NoError(t, err)
	_, err = newClient(t, Config{Explicit: &Credentials{"user", "wrong"}}).Resolve(t.Context(), parse(t, s, "app"), amd64)
	assert.ErrorIs(t, err, oci.ErrUnauthorized)
}

// TestCredentialsStayAtHome: neither password nor token follows a redirect to another
// host.
func TestCredentialsStayAtHome(t *testing.T) {
	t.Parallel()
	elsewhere := registrytest.New(t)
	for name, challenge := range map[string]string{"basic": `Basic realm="x"`, "bearer": `Bearer realm="%s/token",service="x"`} {
		s := registrytest.New(t)
		p := s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{[]byte("one")}})
		elsewhere.PutBlob(t, "app", []byte("one"))
		s.Break(
			registrytest.Fault{Path: "/token", Times: -1, Serve: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { fmt.Fprint(w, `{"token":"t"}`) }},
			registrytest.Fault{Path: "/blobs/" + p.Layers[0].String(), Times: -1, Serve: registrytest.Redirect(func(r *http.Request) string { return elsewhere.URL + r.URL.Path })},
			registrytest.Fault{Times: -1, Serve: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Header.Get("Authorization") == "" {
					w.Header().Set("WWW-Authenticate", fmt.Sprintf(challenge+"%.0s", s.URL))
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				next.ServeHTTP(w, r)
			}})
		elsewhere.Forget()
		c := newClient(t, Config{Explicit: &Credentials{"user", "secret"}})
		i, err := c.Resolve(t.Context(), parse(t, s, "app"), amd64)
		require.NoError(t, err, name)
		assert.Equal(t, "one", readBlob(t, c, parse(t, s, "app"), i.Layers[0], 0), name)
		require.Len(t, elsewhere.Requests(""), 1, name)
		assert.Empty(t, elsewhere.Requests("")[0].Authorization, name)
	}
}

func TestSystemKeyring(t *testing.T) {
	keyring.MockInit()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
	var k SystemKeyring
	got, err := k.Get("reg.example")
	require.NoError(t, err)
	assert.Nil(t, got)
	require.NoError(t, k.Set("reg.example", Credentials{"u", `p"w`}))
	text, err := keyring.Get("dev.microsandbox.registry", "reg.example")
	require.NoError(t, err)
	assert.JSONEq(t, `{"username":"u","password":"p\"w"}`, text, "the form that microsandbox 0.6.18 reads")
	got, err = k.Get("reg.example")
	require.NoError(t, err)
	assert.Equal(t, &Credentials{"u", `p"w`}, got)
	there, err := k.Delete("reg.example")
	require.NoError(t, err)
	assert.True(t, there)
	there, err = k.Delete("reg.example")
	require.NoError(t, err)
	assert.False(t, there)
	require.NoError(t, keyring.Set(keyringService, "bad.example", "{"))
	_, err = k.Get("bad.example")
	assert.Error(t, err)
	broken := errors.New("locked")
	keyring.MockInitWithError(broken)
	_, err = k.Get("reg.example")
	assert.ErrorIs(t, err, broken)
	assert.ErrorIs(t, k.Set("reg.example", Credentials{}), broken)

	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	got, err = k.Get("reg.example")
	assert.NoError(t, err, "without a session there is nothing to ask")
	assert.Nil(t, got)
	assert.ErrorIs(t, k.Set("reg.example", Credentials{}), ErrNoKeyring)
}
