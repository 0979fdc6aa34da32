package runtime

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack"
	"github.com/gomsb/gomsb/netstack/secrets"
)

const sesame = "s3same-0pen"

// withSecret gives a network the secret KEY.
func withSecret(n *launch.NetworkConfig) {
	n.Secrets.Secrets = []launch.Secret{{
		EnvVar: "KEY", Value: sesame, Placeholder: "$MSB_KEY", AllowedHosts: []secrets.HostPattern{secrets.AnyHost()},
		Injection: secrets.DefaultInjection(), RequireTLSIdentity: true,
	}}
}

// sent is what the guest's request becomes on a new connection.
func sent(t *testing.T, s *secrets.Store) string {
	t.Helper()
	rw := s.Rewriter(secrets.Connection{Host: "api.example.com", Dst: netip.MustParseAddrPort("203.0.113.7:443"), Intercepted: true})
	if rw == nil {
		return "as it is"
	}
	defer rw.Close()
	out, err := rw.Rewrite(nil, []byte("GET / HTTP/1.1\r\nHost: api.example.com\r\nA: $MSB_KEY\r\n\r\n"))
	if err != nil {
		return err.Error()
	}
	_, value, _ := strings.Cut(string(out), "A: ")
	return strings.TrimSpace(value)
}

func TestNetworkWithSecrets(t *testing.T) {
	c := networked(withSecret)
	c.RuntimeDir, c.DBPath = t.TempDir(), filepath.Join(t.TempDir(), "db", "msb.db")
	assert.True(t, networkConfig(c).TLS.Enabled, "a sandbox with a secret intercepts, whatever else it says")
	n, err := openNetwork(c, netstack.Families{IPv4: true}, quietLog)
	require.NoError(t, err)
	defer n.close()
	require.NotNil(t, n.tls)
	assert.Equal(t, sesame, sent(t, n.secrets))
	c.Bootstrap.DefaultEnv = []proto.EnvVar{{Key: "A", Value: "b"}}
	b := bootstrapFor(c, &MachineConfig{}, n)
	assert.Equal(t, []proto.EnvVar{{Key: "A", Value: "b"}, {Key: "KEY", Value: "$MSB_KEY"}}, b.DefaultEnv)
	text, err := json.Marshal(b)
	require.NoError(t, err)
	assert.NotContains(t, string(text), sesame)

	c.Network.Config.Enabled = false
	off, err := openNetwork(c, netstack.Families{IPv4: true}, quietLog)
	require.NoError(t, err)
	require.Nil(t, off)
	assert.Equal(t, b.DefaultEnv, bootstrapFor(c, &MachineConfig{}, off).DefaultEnv, "programs find their variables without a network, too")

	n.violation()
	n.violation() // does not wait
	<-n.violations()
	assert.Nil(t, (*network)(nil).violations())
}

func TestNetworkRefusesSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*launch.Secret)
		want   string
	}{
		"no host": {func(s *launch.Secret) { s.AllowedHosts = nil }, "invalid network secrets: secret KEY: no host may have it"},
		"unset": {func(s *launch.Secret) {
			s.Value, s.Source = "", &launch.SecretSource{Kind: "env", Var: "NO_SUCH_VARIABLE"}
		}, "invalid network secrets: secret KEY: host environment variable NO_SUCH_VARIABLE is not set or empty"},
		"no value":  {func(s *launch.Secret) { s.Value = "" }, "it has no value"},
		"two lines": {func(s *launch.Secret) { s.Placeholder = "a\nb" }, "NUL, CR or LF"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := networked(withSecret)
			cfg.RuntimeDir, cfg.DBPath = t.TempDir(), filepath.Join(t.TempDir(), "db", "msb.db")
			c.change(&cfg.Network.Config.Secrets.Secrets[0])
			_, err := openNetwork(cfg, netstack.Families{IPv4: true}, quietLog)
			var boot *launch.BootError
			require.ErrorAs(t, err, &boot)
			assert.Equal(t, launch.StageNetwork, boot.Stage)
			assert.Contains(t, boot.Message, c.want)
			assert.NotContains(t, boot.Message, sesame)
		})
	}
}

// askControl sends a line to a control socket and returns the answer.
func askControl(t *testing.T, path, line string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, err = c.Write([]byte(line))
	require.NoError(t, err)
	answer, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return answer
}

func TestControlSocket(t *testing.T) {
	dir := socketDir(t)
	sock, err := listenAt(filepath.Join(dir, "control.sock"))
	require.NoError(t, err)
	var cfg launch.NetworkConfig
	withSecret(&cfg)
	store, err := secrets.NewStore(cfg.Secrets.Config(), secrets.Where{})
	require.NoError(t, err)
	var log strings.Builder
	c := serveChanges(sock, store, room{}, slog.New(slog.NewTextHandler(&log, nil)))
	st, err := os.Stat(sock.path)
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, st.Mode().Perm())

	assert.JSONEq(t, `{"ok":true,"capabilities":{"checkpoint":true,"cpu_resize":false,"memory_resize":false,"secrets_update":true}}`, askControl(t, sock.path, `{"op":"capabilities"}`+"\n"))
	update := func(changes string) string {
		return askControl(t, sock.path, `{"op":"secrets_update","changes":[`+changes+"]}\n")
	}
	assert.JSONEq(t, `{"ok":true}`, update(`{"change":"rotate","name":"KEY","value":"rotated-value"}`))
	assert.Equal(t, "rotated-value", sent(t, store))
	for _, hosts := range []string{`["b.example.com","*.c.example.com"]`, `[{"exact":"b.example.com"}]`} {
		assert.JSONEq(t, `{"ok":true}`, update(`{"change":"set_allowed_hosts","name":"KEY","hosts":`+hosts+`}`))
		assert.Contains(t, sent(t, store), secrets.Message)
	}
	assert.JSONEq(t, `{"ok":true}`, update(`{"change":"set_allowed_hosts","name":"KEY","hosts":["*"]}`))
	for _, bad := range []string{
		`{"change":"rotate","name":"OTHER","value":"another-value"}`, `{"change":"rotate","name":"KEY","value":""}`,
		`{"change":"set_allowed_hosts","name":"KEY","hosts":[]}`, `{"change":"add","name":"NEW","value":"another-value"}`,
		`{"change":"remove","name":"KEY"},{"change":"rotate","name":"KEY","value":"another-value"}`,
		`{"change":"rotate","name":"KEY","value":"another-value","hosts":[7]}`,
	} {
		answer := update(bad)
		assert.Contains(t, answer, `"ok":false`, bad)
		assert.NotContains(t, answer, "another-value", bad)
	}
	assert.Equal(t, "rotated-value", sent(t, store), "all or nothing")
	assert.Contains(t, askControl(t, sock.path, `{"op":"memory_target","total_mib":9}`+"\n"), `this runtime cannot do \"memory_target\"`)
	assert.Contains(t, askControl(t, sock.path, "{\n"), "not the JSON")
	assert.JSONEq(t, `{"ok":true}`, update(`{"change":"remove","name":"KEY"},{"change":"remove","name":"KEY"}`))
	assert.Equal(t, "as it is", sent(t, store))

	idle, err := net.Dial("unix", sock.path)
	require.NoError(t, err)
	defer func() { _ = idle.Close() }()
	c.close()
	assert.NoFileExists(t, sock.path)
	for _, value := range []string{sesame, "rotated-value", "another-value"} {
		assert.NotContains(t, log.String(), value)
	}
	assert.Contains(t, log.String(), "change=rotate")
}

// A control socket that cannot accept a client for a while serves the next one.
func TestControlSocketOutlivesFailures(t *testing.T) {
	sock, err := listenAt(filepath.Join(socketDir(t), "control.sock"))
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _, _ = r.Close(), w.Close() }()
	c := serveChanges(sock, nil, room{}, slog.New(slog.NewTextHandler(w, nil)))
	require.NoError(t, sock.listener.SetDeadline(time.Unix(1, 0)))
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, "level=WARN")
	require.NoError(t, sock.listener.SetDeadline(time.Time{}))
	assert.Contains(t, askControl(t, sock.path, `{"op":"capabilities"}`+"\n"), `"ok":true`)
	c.close()
}

// A runtime with secrets has a control socket as long as it lives, and no file of its home
// has their values.
func TestRuntimeWithSecrets(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	n := launch.DefaultNetworkConfig()
	withSecret(&n)
	h.config.Network = &launch.Network{Config: n}
	p := h.spawn(fakePlan{})
	c := p.dial()
	path := launch.ControlSocket(h.config.AgentSock)
	assert.Contains(t, askControl(t, path, `{"op":"capabilities"}`+"\n"), `"secrets_update":true`)
	link := launch.ControlLink(h.config.Run(), sandboxName)
	assert.Contains(t, askControl(t, link, `{"op":"secrets_update","changes":[{"change":"rotate","name":"KEY","value":"`+sesame+`-2"}]}`+"\n"), `"ok":true`)
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "cmdline"))
	require.NoError(t, err)
	assert.NotContains(t, string(cmdline), sesame)
	require.NoError(t, shutdown(c))
	assert.Equal(t, 0, p.code())
	h.assertNothingLeft()
	for _, f := range []string{path, link} {
		_, err := os.Lstat(f)
		assert.ErrorIs(t, err, os.ErrNotExist)
	}
	require.NoError(t, filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		assert.NotContains(t, string(b), sesame, path)
		return err
	}))
}
