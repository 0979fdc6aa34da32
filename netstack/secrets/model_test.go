package secrets

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	good := key(t, "api.example.com")
	for name, c := range map[string]struct {
		change func(*Secret)
		want   string
	}{
		"good":                {func(*Secret) {}, ""},
		"no name":             {func(s *Secret) { s.EnvVar = "" }, `invalid network secrets: "" cannot be the name of an environment variable`},
		"equals sign":         {func(s *Secret) { s.EnvVar = "A=B" }, "invalid network secrets: \"A=B\" cannot"},
		"NUL in name":         {func(s *Secret) { s.EnvVar = "A\x00" }, "invalid network secrets: "},
		"odd name":            {func(s *Secret) { s.EnvVar = "my key" }, ""},
		"no placeholder":      {func(s *Secret) { s.Placeholder = "" }, "invalid network secrets: secret KEY: its placeholder is empty"},
		"longest placeholder": {func(s *Secret) { s.Placeholder = strings.Repeat("x", 1024) }, ""},
		"long placeholder":    {func(s *Secret) { s.Placeholder = strings.Repeat("x", 1025) }, "invalid network secrets: secret KEY: its placeholder has 1025 bytes, at most 1024"},
		"NUL in placeholder":  {func(s *Secret) { s.Placeholder = "a\x00" }, "has a NUL, CR or LF"},
		"CR in placeholder":   {func(s *Secret) { s.Placeholder = "a\r" }, "has a NUL, CR or LF"},
		"LF in placeholder":   {func(s *Secret) { s.Placeholder = "a\n" }, "has a NUL, CR or LF"},
		"no hosts":            {func(s *Secret) { s.Hosts = nil }, "invalid network secrets: secret KEY: no host may have it"},
		"no UTF-8":            {func(s *Secret) { s.Value = NewValue("a\xff") }, "invalid network secrets: secret KEY: its value is not UTF-8"},
		"no value":            {func(s *Secret) { s.Value = Value{} }, "invalid network secrets: secret KEY: it has no value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := good
			c.change(&s)
			err := Config{Secrets: []Secret{s}}.Validate()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), sesame)
			_, err = NewStore(Config{Secrets: []Secret{s}}, testWhere())
			require.ErrorIs(t, err, ErrInvalid)
		})
	}
}

func TestValueDoesNotShow(t *testing.T) {
	t.Parallel()
	v := NewValue(sesame)
	s := key(t, "api.example.com")
	var log strings.Builder
	l := slog.New(slog.NewTextHandler(&log, nil))
	l.Info("x", "value", v, "secret", s, "pointer", &s, "config", Config{Secrets: []Secret{s}})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", v, "secret", s)
	text, err := json.Marshal(map[string]any{"v": v, "s": s, "c": Change{Kind: Rotate, Value: v}})
	require.NoError(t, err)
	all := log.String() + string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		all += fmt.Sprintf(verb+verb+verb, v, s, &v)
	}
	assert.NotContains(t, all, sesame)
	assert.NotContains(t, all, fmt.Sprintf("%x", sesame))
	assert.Contains(t, all, "[redacted]")
	assert.Equal(t, sesame, v.Reveal())
}

func TestHostPatternJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"any"`: `"any"`, `"Any"`: `"any"`, `{"exact":"A.example.com."}`: `{"exact":"a.example.com"}`, `{"Exact":"a"}`: `{"exact":"a"}`,
		`{"wildcard":"*.example.com"}`: `{"wildcard":"*.example.com"}`, `{"Wildcard":"example.com"}`: `{"wildcard":"*.example.com"}`,
	} {
		var p HostPattern
		require.NoError(t, json.Unmarshal([]byte(in), &p), in)
		out, err := json.Marshal(p)
		require.NoError(t, err)
		assert.JSONEq(t, want, string(out))
	}
	for _, in := range []string{`"some"`, `{}`, `{"exact":"a","wildcard":"b"}`, `{"other":"a"}`, `{"exact":"*"}`, `{"exact":"*.a"}`, `{"exact":""}`, `{"wildcard":"*"}`, `3`} {
		var p HostPattern
		require.Error(t, json.Unmarshal([]byte(in), &p), in)
	}
}

func TestParseHost(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", ".", "*.", "**", "a*", "a b", "https://a", "a:1", "u@a", "a,b", "*.*"} {
		_, err := ParseHost(bad)
		assert.Error(t, err, bad)
	}
	p, err := ParseHost("*.Example.com")
	require.NoError(t, err)
	assert.Equal(t, "*.example.com", p.String())
	for name, fits := range map[string]bool{"example.com": true, "a.example.com": true, "a.b.example.com": true, "badexample.com": false, "com": false} {
		assert.Equal(t, fits, p.Fits(name), name)
	}
	assert.False(t, HostPattern{}.Fits(""))
}

func TestActionJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"block"`: `"block"`, `"Block"`: `"block"`, `"BlockAndLog"`: `"block-and-log"`, `"block_and_terminate"`: `"block-and-terminate"`,
		`{"passthrough":["any",{"exact":"a"}]}`: `{"passthrough":["any",{"exact":"a"}]}`, `{"Passthrough":[]}`: `{"passthrough":[]}`,
	} {
		var a Action
		require.NoError(t, json.Unmarshal([]byte(in), &a), in)
		out, err := json.Marshal(a)
		require.NoError(t, err)
		assert.JSONEq(t, want, string(out))
	}
	for _, in := range []string{`"allow"`, `"passthrough"`, `{}`, `{"block":[]}`, `{"passthrough":"any"}`, `{"passthrough":[],"block":[]}`, `{"other":[]}`} {
		var a Action
		require.Error(t, json.Unmarshal([]byte(in), &a), in)
	}
}
