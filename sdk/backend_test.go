package microsandbox

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefaultBackendInfo(t *testing.T) {
	const config = `{"active_profile":"p","profiles":{"p":{"backend":"local"},"q":{"backend":"cloud","api_key_ref":"env:TEST_KEY","url":"http://x"},
		"i":{"backend":"cloud","api_key_ref":"inline:s3cret"},"none":{"backend":"cloud"},"odd":{"backend":"moon"},"bad":{"backend":"cloud","api_key_ref":"s3cret"}}}`
	local := BackendInfo{Kind: BackendLocal}
	type env = map[string]string
	for name, c := range map[string]struct {
		config string
		env    env
		want   BackendInfo
		err    string
	}{
		"nothing chosen":  {"", nil, BackendInfo{Kind: BackendLocal, Source: "default"}, ""},
		"key alone":       {"", env{"MSB_API_KEY": "k"}, BackendInfo{Kind: BackendLocal, Source: "default"}, ""},
		"variable":        {config, env{"MSB_BACKEND": "local", "MSB_PROFILE": "q"}, BackendInfo{Kind: BackendLocal, Source: "MSB_BACKEND"}, ""},
		"cloud":           {"", env{"MSB_BACKEND": "cloud", "MSB_API_KEY": "k"}, BackendInfo{Kind: BackendCloud, APIURL: defaultAPI, Source: "MSB_BACKEND"}, ""},
		"cloud elsewhere": {config, env{"MSB_BACKEND": "cloud", "MSB_API_KEY": "k", "MSB_API_URL": "http://y", "MSB_PROFILE": "q"}, BackendInfo{Kind: BackendCloud, APIURL: "http://y", Source: "MSB_BACKEND"}, ""},
		"cloud, profile":  {config, env{"MSB_BACKEND": "cloud", "MSB_PROFILE": "q", "TEST_KEY": "1"}, BackendInfo{Kind: BackendCloud, APIURL: "http://x", Source: "MSB_BACKEND", Profile: "q"}, ""},
		"cloud, local":    {config, env{"MSB_BACKEND": "cloud"}, local, `MSB_BACKEND=cloud cannot select local profile "p"`},
		"cloud, no key":   {"", env{"MSB_BACKEND": "cloud"}, local, "MSB_BACKEND=cloud requires a non-empty MSB_API_KEY or a cloud profile"},
		"odd variable":    {"", env{"MSB_BACKEND": "x"}, local, `MSB_BACKEND must be 'local' or 'cloud', got "x"`},
		"active profile":  {config, nil, BackendInfo{Kind: BackendLocal, Source: "active_profile", Profile: "p"}, ""},
		"profile":         {config, env{"MSB_PROFILE": "q", "TEST_KEY": "1"}, BackendInfo{Kind: BackendCloud, APIURL: "http://x", Source: "MSB_PROFILE", Profile: "q"}, ""},
		"inline key":      {config, env{"MSB_PROFILE": "i"}, BackendInfo{Kind: BackendCloud, APIURL: defaultAPI, Source: "MSB_PROFILE", Profile: "i"}, ""},
		"key is not set":  {config, env{"MSB_PROFILE": "q"}, local, `profile "q": env var "TEST_KEY" not set`},
		"no key":          {config, env{"MSB_PROFILE": "none"}, local, `profile "none" backend=cloud requires an 'api_key_ref' field`},
		"unknown profile": {config, env{"MSB_PROFILE": "nix"}, local, `active profile "nix" not found in SDK config`},
		"odd backend":     {config, env{"MSB_PROFILE": "odd"}, local, `got "moon"`},
		"bare key":        {config, env{"MSB_PROFILE": "bad"}, local, "must begin with env: or inline:"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			for _, key := range []string{"MSB_BACKEND", "MSB_API_KEY", "MSB_API_URL", "MSB_PROFILE", "TEST_KEY"} {
				t.Setenv(key, c.env[key])
			}
			if c.config != "" {
				require.NoError(t, os.WriteFile(h.configFile, []byte(c.config), 0o600))
			}
			got, err := DefaultBackendInfo()
			_, use := ListSandboxes(testContext(t))
			if c.err == "" {
				require.NoError(t, err)
				assert.Equal(t, c.want, got)
				assert.Equal(t, c.want.Kind == BackendCloud, IsKind(use, ErrUnsupportedOperation), "%v", use)
				return
			}
			assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
			assert.ErrorContains(t, err, c.err)
			assert.NotContains(t, err.Error(), "s3cret")
			assert.Equal(t, err, use, "never run here what may be meant for elsewhere")
		})
	}
}
