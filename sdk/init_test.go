package microsandbox

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

// What 0.6.18 makes of --init auto with images whose entrypoints are inits.
func TestInitOfTheImage(t *testing.T) {
	const path = `["PATH","/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]`
	for name, c := range map[string]struct {
		entrypoint, cmd []string
		init            InitConfig
		more            SandboxOption
		want, entry     string
		startup         []string // of the runtime
		args            []string // of the init
		defaultCmd      bool
	}{
		"init": {
			[]string{"/sbin/init"}, []string{"--unit"}, Init.Auto(), WithEnv(map[string]string{"FOO": "bar"}),
			`{"cmd":"/sbin/init","args":[],"env":[` + path + `,["FOO","bar"]]}`, `null`, []string{"--unit"}, nil, true,
		},
		"systemd": {
			[]string{"/usr/lib/systemd/systemd"}, nil, Init.Auto(), nil, `{"cmd":"/usr/lib/systemd/systemd","args":[],"env":[` + path + `]}`, `null`, nil, nil, false,
		},
		"s6 overlay": {
			[]string{"/init", "arg"}, []string{"c"}, InitConfig{Cmd: "auto", Args: []string{"q"}, Env: map[string]string{"A": "B"}}, nil,
			`{"cmd":"/init","args":["q"],"env":[` + path + `,["A","B"]]}`, `["arg"]`, nil, []string{"q", "arg", "c"}, true,
		},
		"entrypoint of the caller's": {
			[]string{"/init", "arg"}, []string{"c"}, Init.Auto(), WithEntrypoint("/bin/echo"), `{"cmd":"/init","args":[],"env":[` + path + `]}`, `["/bin/echo"]`, nil, []string{}, false,
		},
		"no init":      {[]string{"/bin/sh"}, []string{"c"}, Init.Auto(), nil, `{"cmd":"auto","args":[],"env":[]}`, `["/bin/sh"]`, []string{"/bin/sh", "c"}, nil, true},
		"another init": {[]string{"/sbin/init"}, nil, Init.Cmd("/bin/x", InitOptions{Env: map[string]string{"A": "B"}}), nil, `{"cmd":"/bin/x","args":[],"env":[["A","B"]]}`, `["/sbin/init"]`, nil, []string{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			img := observedImage()
			img.Config.Entrypoint, img.Config.Cmd = c.entrypoint, c.cmd
			cfg := &SandboxConfig{Name: "x", Image: testImage, Init: &c.init}
			if c.more != nil {
				c.more(cfg)
			}
			s, err := newSpec(cfg, img)
			require.NoError(t, err)
			text, err := json.Marshal(s.Init)
			require.NoError(t, err)
			assert.JSONEq(t, c.want, string(text))
			text, err = json.Marshal(s.Runtime.Entrypoint)
			require.NoError(t, err)
			assert.JSONEq(t, c.entry, string(text))
			var again initSpec
			require.NoError(t, json.Unmarshal(must(json.Marshal(s.Init)), &again))
			assert.Equal(t, *s.Init, again)

			l, err := s.launchConfig(observedHome, 1, "/x.vmdk")
			require.NoError(t, err)
			var st *launch.Startup
			if c.defaultCmd {
				st, err = s.startup(&startupCommand{})
				require.NoError(t, err)
			}
			s.launchStartup(l, st)
			if c.startup != nil {
				assert.Equal(t, c.startup, append([]string{l.Startup.Cmd}, l.Startup.Args...))
			} else {
				assert.Nil(t, l.Startup)
			}
			if c.args != nil {
				assert.Equal(t, c.args, l.Bootstrap.HandoffInit.Args)
			}
		})
	}
	var p envPair
	require.NoError(t, json.Unmarshal([]byte(`{"key":"A","value":"B"}`), &p), "as this program once stored it")
	assert.Equal(t, envPair{"A", "B"}, p)
	assert.Error(t, json.Unmarshal([]byte(`["A"]`), &p))
}
