package registry

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	amd64 = manifest.Platform{OS: "linux", Architecture: "amd64"}
	fast  = Retry{Attempts: 4, First: time.Millisecond, Most: 20 * time.Millisecond, Stall: time.Minute}
	// hasty also gives up what stalls; it may take a busy machine for that.
	hasty = Retry{Attempts: 4, First: time.Millisecond, Most: 20 * time.Millisecond, Stall: 300 * time.Millisecond}
)

// retryFor is how a client of the test case repeats its requests.
func retryFor(name string) Retry {
	if name == "stall" || name == "never" {
		return hasty
	}
	return fast
}

func newClient(t *testing.T, c Config) *Client {
	t.Helper()
	if c.Retry == (Retry{}) {
		c.Retry = fast
	}
	// Docker's settings of whoever runs the tests are none of their business.
	client, err := New(c)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func parse(t *testing.T, s *registrytest.Server, name string) ref.Reference {
	t.Helper()
	r, err := ref.Parse(s.Host() + "/" + name)
	require.NoError(t, err)
	return r
}

func TestResolve(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	p := s.Push(t, "team/app", "v1", registrytest.Image{Layers: [][]byte{[]byte("one"), []byte("two")}, Config: spec.ImageConfig{Env: []string{"A=b"}}})
	c := newClient(t, Config{})
	i, err := c.Resolve(t.Context(), parse(t, s, "team/app:v1"), amd64)
	require.NoError(t, err)
	assert.Equal(t, p.Descriptor.Digest, i.ManifestDigest)
	assert.Equal(t, i.ManifestDigest, digest.FromBytes(i.Manifest), "the bytes of the wire are kept")
	assert.Equal(t, i.ConfigDigest, digest.FromBytes(i.Config))
	assert.Equal(t, []string{"A=b"}, i.Parsed.Run.Env)
	assert.Equal(t, []oci.Layer{
		{DiffID: digest.FromString("one"), BlobDigest: p.Layers[0], MediaType: spec.MediaTypeImageLayer, Size: 3},
		{DiffID: digest.FromString("two"), BlobDigest: p.Layers[1], MediaType: spec.MediaTypeImageLayer, Size: 3},
	}, i.Layers)
	_, err = c.Resolve(t.Context(), parse(t, s, "team/app@"+p.Descriptor.Digest.String()), amd64)
	assert.NoError(t, err)
	assert.Len(t, s.Requests("/v2/")[0].Accept, 0, "one ping")
	pings := 0
	for _, r := range s.Requests("/v2/") {
		if r.Path == "/v2/" {
			pings++
		}
	}
	assert.Equal(t, 1, pings, "sessions are kept")
	assert.Contains(t, s.Requests("/manifests/v1")[0].Accept, manifest.DockerIndex)

	_, err = c.Resolve(t.Context(), parse(t, s, "team/app:v2"), amd64)
	assert.ErrorIs(t, err, oci.ErrNotFound)
	_, err = c.Resolve(t.Context(), parse(t, s, "team/none"), amd64)
	assert.ErrorIs(t, err, oci.ErrNotFound)
}

func TestResolveChoosesThePlatform(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	push := func(arch, variant string) spec.Descriptor {
		return s.Push(t, "multi", "", registrytest.Image{Architecture: arch, Variant: variant, Layers: [][]byte{[]byte(arch + variant)}}).Descriptor
	}
	amd, v6, v8, v7 := push("amd64", ""), push("arm", "v6"), push("arm", "v8"), push("arm", "v7")
	attestation := push("none", "")
	attestation.Platform = &spec.Platform{OS: "unknown", Architecture: "unknown"}
	signature := spec.Descriptor{MediaType: "application/vnd.example.attestation", Digest: digest.FromString("absent"), Size: 9}
	nameless := amd
	nameless.Platform = nil
	s.PushIndex(t, "multi", "all", signature, attestation, v6, amd, v8, v7)
	s.PushIndex(t, "multi", "nested", s.PushIndex(t, "multi", "", v6, s.PushIndex(t, "multi", "", v7)), s.PushIndex(t, "multi", "", amd))
	s.PushIndex(t, "multi", "plain", nameless)
	s.PushIndex(t, "multi", "none")
	c := newClient(t, Config{})
	for _, x := range []struct {
		tag  string
		on   manifest.Platform
		want digest.Digest
	}{
		{"all", amd64, amd.Digest},
		{"all", manifest.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, v7.Digest},
		{"all", manifest.Platform{OS: "linux", Architecture: "arm", Variant: "v5"}, v6.Digest},
		{"all", manifest.Platform{OS: "linux", Architecture: "arm"}, v6.Digest},
		{"nested", amd64, amd.Digest},
		{"plain", amd64, amd.Digest},
		{"all", manifest.Platform{OS: "linux", Architecture: "s390x"}, ""},
		{"none", amd64, ""},
	} {
		i, err := c.Resolve(t.Context(), parse(t, s, "multi:"+x.tag), x.on)
		if x.want == "" {
			assert.ErrorIs(t, err, oci.ErrPlatform, x.tag)
			continue
		}
		if assert.NoError(t, err, x.tag) {
			assert.Equal(t, x.want, i.ManifestDigest, "%s on %s", x.tag, x.on)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	index := func(s *registrytest.Server, depth int) {
		d := s.Push(t, "app", "", registrytest.Image{Layers: [][]byte{[]byte("one")}}).Descriptor
		d.Platform = nil
		for range depth {
			d = s.PushIndex(t, "app", "latest", d)
		}
	}
	big := []byte(`{"schemaVersion":2,"pad":"` + strings.Repeat("x", 1<<20) + `"}`)
	for name, c := range map[string]struct {
		want  error
		setup func(s *registrytest.Server)
	}{
		"digest of the header": {oci.ErrDigestMismatch, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: registrytest.Damage(30)})
		}},
		"configuration damaged": {oci.ErrDigestMismatch, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/blobs/", Times: -1, Serve: registrytest.Damage(30)})
		}},
		"configuration longer": {oci.ErrSizeMismatch, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/blobs/", Times: -1, Serve: registrytest.Change(func(b []byte) []byte { return append(b, ' ') })})
		}},
		"type confusion": {oci.ErrManifest, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: registrytest.Header("Content-Type", spec.MediaTypeImageIndex)})
		}},
		"schema 1": {oci.ErrMediaType, func(s *registrytest.Server) {
			s.PutManifest(t, "app", "latest", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+prettyjws"}`))
		}},
		"no document": {oci.ErrManifest, func(s *registrytest.Server) {
			s.PutManifest(t, "app", "latest", spec.MediaTypeImageManifest, []byte(`<html>`))
		}},
		"a document of 1 MiB": {oci.ErrLimit, func(s *registrytest.Server) { s.PutManifest(t, "app", "latest", spec.MediaTypeImageManifest, big) }},
		"endless document": {oci.ErrLimit, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: endless})
		}},
		"100 nested indexes": {oci.ErrLimit, func(s *registrytest.Server) { index(s, 100) }},
		"many large indexes": {oci.ErrLimit, func(s *registrytest.Server) { manyIndexes(t, s) }},
		"no image": {oci.ErrMediaType, func(s *registrytest.Server) {
			s.PutManifest(t, "app", "latest", spec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.example.chart","digest":"`+digest.FromString("x").String()+`","size":1}}`))
		}},
		"climbing digest": {oci.ErrManifest, func(s *registrytest.Server) {
			s.PutManifest(t, "app", "latest", spec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{"mediaType":"`+spec.MediaTypeImageConfig+`","digest":"sha256:../../x","size":1}}`))
		}},
		"denied": {oci.ErrUnauthorized, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: registrytest.Status(http.StatusForbidden)})
		}},
		"ping denied": {oci.ErrUnauthorized, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Times: -1, Serve: registrytest.Status(http.StatusForbidden)})
		}},
		"teapot": {oci.ErrRegistry, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: registrytest.Status(http.StatusTeapot)})
		}},
		"redirects without end": {oci.ErrRegistry, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: registrytest.Redirect(func(r *http.Request) string { return r.URL.Path })})
		}},
		"redirect to another URL": {oci.ErrRegistry, func(s *registrytest.Server) {
			s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: registrytest.Redirect(func(*http.Request) string { return "file:///etc/passwd" })})
		}},
	} {
		s := registrytest.New(t)
		s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{[]byte("one")}})
		c.setup(s)
		client := newClient(t, Config{})
		client.Limits.DocumentBytes, client.Limits.TotalBytes = 512<<10, 2<<20
		_, err := client.Resolve(t.Context(), parse(t, s, "app"), amd64)
		assert.ErrorIs(t, err, c.want, name)
	}
}

func endless(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", spec.MediaTypeImageManifest)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat(" ", 64<<10)); err != nil {
			return
		}
	}
}

// manyIndexes pushes an index of indexes that are large together.
func manyIndexes(t *testing.T, s *registrytest.Server) {
	var all []spec.Descriptor
	for i := range 20 {
		odd := spec.Descriptor{MediaType: fmt.Sprintf("application/vnd.%d.%s", i, strings.Repeat("x", 200<<10)), Digest: digest.FromString("x")}
		all = append(all, s.PushIndex(t, "app", "", odd))
	}
	s.PushIndex(t, "app", "latest", all...)
}

func TestResolveRepeats(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{[]byte("one")}})
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"408": registrytest.Status(http.StatusRequestTimeout), "429": registrytest.Status(http.StatusTooManyRequests, "Retry-After", "0"),
		"500": registrytest.Status(http.StatusInternalServerError), "503": registrytest.Status(http.StatusServiceUnavailable, "Retry-After", "600"),
		"cut": registrytest.Cut(20), "cut at once": registrytest.Cut(0), "stall": registrytest.Stall(10),
	} {
		retry := retryFor(name)
		for _, path := range []string{"/manifests/", "/blobs/", "/v2/"} {
			if path == "/v2/" && strings.HasPrefix(name, "cut") || name == "stall" {
				path = "/v2/app/" // the answer to a ping has no body to be cut
			}
			s.Mend()
			s.Break(registrytest.Fault{Path: path, Times: 2, Serve: serve})
			_, err := newClient(t, Config{Retry: retry}).Resolve(t.Context(), parse(t, s, "app"), amd64)
			assert.NoError(t, err, "%s on %s", name, path)
			s.Mend()
			s.Break(registrytest.Fault{Path: path, Times: -1, Serve: serve})
			s.Forget()
			_, err = newClient(t, Config{Retry: retry}).Resolve(t.Context(), parse(t, s, "app"), amd64)
			assert.ErrorIs(t, err, oci.ErrRegistry, "%s on %s", name, path)
			assert.Len(t, s.Requests(path), retry.Attempts, "%s on %s: attempts", name, path)
		}
	}
}

func TestResolveStopsWithContext(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: registrytest.Stall(0)})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user changed their mind")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	_, err := newClient(t, Config{Retry: Retry{Attempts: 5, First: time.Hour, Most: time.Hour, Stall: time.Hour}}).Resolve(ctx, parse(t, s, "app"), amd64)
	assert.ErrorIs(t, err, why)
}

func TestNobodyServes(t *testing.T) {
	t.Parallel()
	patient := newClient(t, Config{Retry: Retry{Attempts: 5, First: time.Minute, Most: time.Minute, Stall: time.Minute}})
	for _, name := range []string{"127.0.0.1:1/x", "[::1]:1/x"} {
		r, err := ref.Parse(name)
		require.NoError(t, err)
		_, err = patient.Resolve(t.Context(), r, amd64)
		assert.ErrorIs(t, err, oci.ErrRegistry, name)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTLS(t)
	s.Push(t, "app", "latest", registrytest.Image{Layers: [][]byte{[]byte("one")}})
	r := parse(t, s, "app")
	_, err := newClient(t, Config{}).Resolve(t.Context(), r, amd64)
	assert.ErrorIs(t, err, oci.ErrRegistry, "an unknown authority")
	assert.ErrorContains(t, err, "certificate signed by unknown authority: give the authority", "plain HTTP, which is tried on loopback addresses, is not the trouble")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	_, err = newClient(t, Config{CACerts: [][]byte{ca}}).Resolve(t.Context(), r, amd64)
	assert.NoError(t, err)
	for name, bundle := range map[string]string{"empty": "", "garbage": "no PEM", "key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"broken": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		_, err := New(Config{CACerts: [][]byte{ca, []byte(bundle)}})
		assert.ErrorIs(t, err, ErrConfig, name)
		assert.ErrorContains(t, err, "entry 1", name)
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	asked := ""
	g := &guard{insecure: func(host string) bool { return host == "plain.example:5000" }, RoundTripper: roundTrip(func(r *http.Request) { asked = r.URL.String() })}
	for url, allowed := range map[string]bool{
		"https://reg.example/": true, "http://reg.example/": false, "http://plain.example:5000/": true, "https://plain.example:5000/": false, "http://plain.example/": false,
		"http://127.0.0.1:5000/": true, "https://localhost/": true, "http://[::1]:80/": true, "http://10.0.0.1/": false, "http://localhost.evil.example/": false, "ftp://reg.example/": false,
	} {
		asked = ""
		r, err := http.NewRequest(http.MethodGet, url, nil)
		require.NoError(t, err)
		_, err = g.RoundTrip(r)
		assert.Equal(t, allowed, err == nil, url)
		assert.Equal(t, allowed, asked == url, url)
	}
}

type roundTrip func(r *http.Request)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	f(r)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: r}, nil
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "-1": 0, "x": 0, "99999999999999999999": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0} {
		assert.Equal(t, want, retryAfter(in, now), in)
	}
	b := backoff{Retry: Retry{First: time.Second, Most: 8 * time.Second}}
	for i := range 70 {
		b.failed = i + 1
		got := b.pause(io.ErrUnexpectedEOF)
		assert.LessOrEqual(t, got, min(8*time.Second, time.Second<<min(i, 10)))
		assert.GreaterOrEqual(t, got, min(8*time.Second, time.Second<<min(i, 10))/2)
	}
	assert.Equal(t, 8*time.Second, b.pause(&StatusError{Status: 503, after: time.Hour}), "no server makes us wait for ever")
}

func TestErrorTextIsOneLine(t *testing.T) {
	t.Parallel()
	s := registrytest.New(t)
	evil, err := json.Marshal(map[string]any{"errors": []any{map[string]string{"code": "DENIED", "message": "no\n\x1b[31mway" + strings.Repeat("!", 1000)}}})
	require.NoError(t, err)
	s.Break(registrytest.Fault{Path: "/manifests/", Times: -1, Serve: func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(evil)
	}})
	_, err = newClient(t, Config{}).Resolve(t.Context(), parse(t, s, "app"), amd64)
	require.ErrorIs(t, err, oci.ErrUnauthorized)
	assert.ErrorContains(t, err, "403 Forbidden: DENIED no  [31mway!!")
	assert.Less(t, len(err.Error()), 400)
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]Auth{"none": {Username: "u"}, "two": {Username: "u", Store: "keyring", PasswordEnv: "X"}, "store": {Username: "u", Store: "vault"}} {
		_, err := New(Config{Hosts: map[string]Host{"reg.example": {Auth: &a}}})
		assert.ErrorIs(t, err, ErrConfig, name)
	}
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}
