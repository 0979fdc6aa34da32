package microsandbox

import (
	"bytes"
	"encoding/json"
	"encoding/pem"

	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/oci/registry"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

func push(t testing.TB, s *registrytest.Server, repository string, files ...string) registrytest.Pushed {
	t.Helper()
	return s.Push(t, repository, "latest", registrytest.Image{Layers: [][]byte{registrytest.Layer(t, files...)}, Compression: "gzip", Architecture: arch()})
}

func TestImagePull(t *testing.T) {
	newHome(t)
	s := registrytest.New(t)
	p := push(t, s, "team/app", "bin/sh", "shell")
	name := s.Host() + "/team/app"
	var kinds []PullEventKind
	i, pulled, err := Image.Pull(testContext(t), name, PullOptions{Progress: func(e PullEvent) { kinds = append(kinds, e.Kind) }})
	require.NoError(t, err)
	assert.True(t, pulled)
	assert.Equal(t, []PullEventKind{PullResolving, PullResolved, PullMaterializeStarted, PullDownloadProgress, PullDownloadComplete}, kinds[:5])
	assert.Equal(t, PullComplete, kinds[len(kinds)-1])
	assert.Equal(t, name, i.Reference(), "as it was given")
	assert.Equal(t, p.Descriptor.Digest.String(), i.ManifestDigest())
	d, err := Image.Inspect(testContext(t), name)
	require.NoError(t, err)
	require.Len(t, d.Layers, 1)
	assert.EqualValues(t, len(p.Blobs[0]), *d.Layers[0].CompressedSizeBytes)
	assert.Positive(t, *d.Layers[0].ErofsSizeBytes)

	_, pulled, err = Image.Pull(testContext(t), name, PullOptions{})
	require.NoError(t, err)
	assert.False(t, pulled, "it is in the cache")
	_, pulled, err = Image.Pull(testContext(t), name, PullOptions{Policy: PullPolicyAlways})
	require.NoError(t, err)
	assert.True(t, pulled)
}

// A pull prepares the flat file system if it is asked to, or the settings would want it.
func TestPullMaterializes(t *testing.T) {
	h := newHome(t)
	s := registrytest.New(t)
	push(t, s, "app", "bin/sh", "shell")
	pull := func(m Materialize) (flat bool) {
		t.Helper()
		require.NoError(t, os.RemoveAll(h.path("cache", "flat")))
		_, _, err := Image.Pull(testContext(t), s.Host()+"/app", PullOptions{Materialize: m})
		require.NoError(t, err)
		refs, err := filepath.Glob(h.path("cache", "flat", "refs", "*.json"))
		require.NoError(t, err)
		return len(refs) > 0
	}
	assert.False(t, pull(MaterializeDefault))
	assert.True(t, pull(MaterializeFlat))
	assert.True(t, pull(MaterializeAll))
	require.NoError(t, os.WriteFile(h.configFile, []byte(`{"sandbox_defaults":{"oci":{"root_disk":{"kind":"flat"}}}}`), 0o600))
	assert.True(t, pull(MaterializeDefault))
	assert.False(t, pull(MaterializeLayered))
	_, _, err := Image.Pull(testContext(t), s.Host()+"/app", PullOptions{Materialize: "round"})
	assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
}

func TestImagePullErrors(t *testing.T) {
	h := newHome(t)
	s := registrytest.New(t)
	push(t, s, "app", "a", "b")
	name := s.Host() + "/app"
	kind := func(want ErrorKind, reference string, o PullOptions) {
		t.Helper()
		_, _, err := Image.Pull(testContext(t), reference, o)
		assert.True(t, IsKind(err, want), "%v", err)
	}
	kind(ErrInvalidConfig, "No Reference", PullOptions{})
	kind(ErrInvalidConfig, name, PullOptions{Policy: "sometimes"})
	kind(ErrImageNotFound, name, PullOptions{Policy: PullPolicyNever})
	kind(ErrImageNotFound, s.Host()+"/other", PullOptions{})
	kind(ErrInvalidConfig, name, PullOptions{CACerts: [][]byte{[]byte("no PEM")}})
	kind(ErrInvalidConfig, name, PullOptions{CACertsFiles: []string{filepath.Join(h.root, "none.pem")}})
	s.Break(registrytest.Fault{Times: -1, Serve: registrytest.Basic("user", "secret")})
	kind(ErrImagePullFailed, name, PullOptions{})
	_, _, err := Image.Pull(testContext(t), name, PullOptions{})
	assert.ErrorContains(t, err, "credentials for "+s.Host()+" are missing or wrong")
	_, _, err = Image.Pull(testContext(t), name, PullOptions{Auth: &RegistryAuth{"user", "secret"}})
	assert.NoError(t, err)
	require.NoError(t, os.WriteFile(h.configFile, []byte("{"), 0o600))
	kind(ErrInvalidConfig, name, PullOptions{Policy: PullPolicyAlways})
}

// TestPullUsesConfigJSON takes credentials and certificate authorities from the file.
func TestPullUsesConfigJSON(t *testing.T) {
	h := newHome(t)
	s := registrytest.NewTLS(t)
	push(t, s, "app", "a", "b")
	name := s.Host() + "/app"
	s.Break(registrytest.Fault{Times: -1, Serve: registrytest.Basic("user", "of the file")})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	require.NoError(t, os.MkdirAll(h.path("secrets", "registries"), 0o700))
	require.NoError(t, os.WriteFile(h.path("secrets", "registries", "test"), []byte("of the file\n"), 0o600))
	text, err := json.Marshal(map[string]any{"registries": map[string]any{"ca_certs": ca, "hosts": map[string]any{
		s.Host(): map[string]any{"auth": map[string]string{"username": "user", "secret_name": "test"}}, "other.example": map[string]any{"auth": map[string]string{"username": "wrong"}}}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(h.configFile, text, 0o600))
	_, _, err = Image.Pull(testContext(t), name, PullOptions{})
	assert.NoError(t, err)
}

func TestCreateSandboxPulls(t *testing.T) {
	newHome(t)
	runtimetest.Use(t, runtimetest.Guest{})
	s := registrytest.New(t)
	push(t, s, "app", "bin/sh", "shell")
	name := s.Host() + "/app"
	_, err := CreateSandbox(testContext(t), "never", WithImage(name), WithPullPolicy(PullPolicyNever))
	assert.True(t, IsKind(err, ErrImageNotFound), "%v", err)
	assert.ErrorContains(t, err, "image error: image not cached: "+name+":latest")
	s.Break(registrytest.Fault{Times: -1, Serve: registrytest.Basic("user", "secret")})
	resolved := false
	sb, err := CreateSandbox(testContext(t), "pulled", WithImage(name), WithRegistryAuth(RegistryAuth{"user", "secret"}),
		WithPullProgress(func(e PullEvent) { resolved = resolved || e.Kind == PullResolved }))
	require.NoError(t, err)
	assert.True(t, resolved)
	require.NoError(t, sb.Close())
	i, err := Image.Get(testContext(t), name)
	require.NoError(t, err)
	err = Image.Remove(testContext(t), i.Reference(), false)
	assert.True(t, IsKind(err, ErrImageInUse), "%v", err)
	s.Forget()
	sb, err = CreateSandbox(testContext(t), "cached", WithImage(name))
	require.NoError(t, err)
	require.NoError(t, sb.Close())
	assert.Empty(t, s.Requests(""))
	text, err := os.ReadFile(home{root: os.Getenv("MSB_HOME")}.database())
	require.NoError(t, err)
	assert.NotContains(t, string(text), "secret", "credentials are not stored")
}

func TestImagePruneAndSave(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	s := registrytest.New(t)
	push(t, s, "one", "a", "1")
	push(t, s, "two", "b", "2")
	for _, name := range []string{"/one", "/two"} {
		_, _, err := Image.Pull(testContext(t), s.Host()+name, PullOptions{})
		require.NoError(t, err)
	}
	sb, err := CreateSandbox(testContext(t), "user", WithImage(s.Host()+"/one"))
	require.NoError(t, err)
	require.NoError(t, sb.Close())

	out := filepath.Join(t.TempDir(), "images.tar")
	require.NoError(t, Image.Save(testContext(t), []string{s.Host() + "/one", testImage}, out, ""))
	var streamed bytes.Buffer
	require.NoError(t, Image.SaveTo(testContext(t), []string{s.Host() + "/one", testImage}, &streamed, ImageArchiveDocker))
	saved, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(saved, streamed.Bytes()))
	info, err := os.Stat(out)
	require.NoError(t, err)
	assert.NotZero(t, info.Mode().Perm()&0o044, "an archive is a file like others")
	left, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	assert.Len(t, left, 1)
	assert.True(t, IsKind(Image.Save(testContext(t), []string{"none"}, out, ""), ErrImageNotFound))
	assert.True(t, IsKind(Image.Save(testContext(t), []string{testImage}, out, "zip"), ErrInvalidArgument))
	assert.True(t, IsKind(Image.Save(testContext(t), nil, out, ""), ErrInvalidArgument))
	again, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(saved, again), "what failed left the file alone")

	report, err := Image.Prune(testContext(t))
	require.NoError(t, err)
	assert.Positive(t, *report.BytesReclaimed)
	report.BytesReclaimed = nil
	assert.Equal(t, &ImagePruneReport{ImageRefsRemoved: 2, ManifestsRemoved: 2, LayersRemoved: 2, FsmetaRemoved: 2, VMDKRemoved: 2}, report)
	images, err := Image.List(testContext(t))
	require.NoError(t, err)
	require.Len(t, images, 1)
	assert.Contains(t, images[0].Reference(), "/one")
	sb, err = StartSandbox(testContext(t), "user")
	require.NoError(t, err)
	require.NoError(t, sb.Close())
	report, err = Image.Prune(testContext(t))
	require.NoError(t, err)
	assert.Equal(t, &ImagePruneReport{}, report)

	loaded, err := Image.Load(testContext(t), out)
	require.NoError(t, err)
	assert.Len(t, loaded, 2)
	require.NoError(t, os.RemoveAll(h.path("db")))
	report, err = Image.Prune(testContext(t))
	require.NoError(t, err)
	assert.EqualValues(t, 2, report.ImageRefsRemoved, "without a database nobody uses any image")
}

// TestImagesAsTyped: references are recorded as they were typed, as microsandbox 0.6.18
// does, and found by each of their spellings.
func TestImagesAsTyped(t *testing.T) {
	h := newGuests(t, runtimetest.Guest{})
	c, err := openCatalog(testContext(t), h, false)
	require.NoError(t, err)
	defer c.close()
	references := func() (names []string) {
		all, err := Image.List(testContext(t))
		require.NoError(t, err)
		for _, i := range all {
			names = append(names, i.Reference())
		}
		return names
	}
	full, err := canonical(testImage)
	require.NoError(t, err)
	for _, typed := range []string{full, "library/" + testImage} { // full is what releases of ours wrote before
		i, pulled, err := Image.Pull(testContext(t), typed, PullOptions{})
		require.NoError(t, err)
		assert.False(t, pulled)
		assert.Equal(t, typed, i.Reference())
	}
	assert.Equal(t, []string{"library/" + testImage, full, testImage}, references(), "as 0.6.18 has them")
	sb := create(t, "typed", WithImage("docker.io/"+testImage))
	assert.Contains(t, references(), "docker.io/"+testImage)
	require.NoError(t, sb.Kill(testContext(t)))
	require.NoError(t, RemoveSandbox(testContext(t), "typed"))

	// Another program has changed what one spelling stands for: the newest counts.
	i, err := c.store.Image(testContext(t), full)
	require.NoError(t, err)
	i.Reference, i.Digest = full, "sha256:"+strings.Repeat("1", 64)
	require.NoError(t, c.store.SaveImage(testContext(t), i))
	got, err := Image.Get(testContext(t), testImage)
	require.NoError(t, err)
	assert.Equal(t, []string{full, i.Digest}, []string{got.Reference(), got.ManifestDigest()})
	// What is stored by us is so for all spellings.
	own, _, err := Image.Pull(testContext(t), testImage, PullOptions{})
	require.NoError(t, err)
	for _, typed := range references() {
		got, err := Image.Get(testContext(t), typed)
		require.NoError(t, err)
		assert.Equal(t, []string{typed, own.ManifestDigest()}, []string{got.Reference(), got.ManifestDigest()})
	}

	require.NoError(t, Image.Remove(testContext(t), "mini", false))
	assert.Empty(t, references(), "all spellings of the reference are gone")
	err = Image.Remove(testContext(t), testImage, false)
	assert.True(t, IsKind(err, ErrImageNotFound), "%v", err)
}

// memoryKeyring is a keyring for tests.
type memoryKeyring map[string]registry.Credentials

func (m memoryKeyring) Get(host string) (*registry.Credentials, error) {
	if c, ok := m[host]; ok {
		return &c, nil
	}
	return nil, nil
}
func (m memoryKeyring) Set(host string, c registry.Credentials) error { m[host] = c; return nil }
func (m memoryKeyring) Delete(host string) (bool, error) {
	_, ok := m[host]
	delete(m, host)
	return ok, nil
}

func useKeyring(t *testing.T, k registry.Keyring) {
	before := registryKeyring
	registryKeyring = k
	t.Cleanup(func() { registryKeyring = before })
}

func TestRegistryLogin(t *testing.T) {
	h := newHome(t)
	ring := memoryKeyring{}
	useKeyring(t, ring)
	list, err := Registry.List(testContext(t))
	require.NoError(t, err)
	assert.Empty(t, list)
	s := registrytest.New(t)
	push(t, s, "app", "a", "b")
	s.Break(registrytest.Fault{Times: -1, Serve: registrytest.Basic("user", "secret")})
	require.NoError(t, os.WriteFile(h.configFile, []byte(`{"unknown":[1,2.50,"<&>"],"registries":{"ca_certs":null,"hosts":{"`+s.Host()+`":{"insecure":true}}}}`), 0o640))
	require.NoError(t, Registry.Login(testContext(t), s.Host(), "user", "secret"))
	assert.Equal(t, memoryKeyring{s.Host(): {Username: "user", Password: "secret"}}, ring)
	text, err := os.ReadFile(h.configFile)
	require.NoError(t, err)
	assert.JSONEq(t, `{"unknown":[1,2.50,"<&>"],"registries":{"ca_certs":null,"hosts":{"`+s.Host()+`":{"insecure":true,"auth":{"username":"user","store":"keyring"}}}}}`, string(text))
	assert.Contains(t, string(text), "2.50", "numbers keep their form")
	assert.NotContains(t, string(text), "secret")
	_, _, err = Image.Pull(testContext(t), s.Host()+"/app", PullOptions{})
	require.NoError(t, err)
	list, err = Registry.List(testContext(t))
	require.NoError(t, err)
	assert.Equal(t, []RegistryEntry{{Host: s.Host(), Username: "user", Source: "keyring"}}, list)

	there, err := Registry.Logout(testContext(t), s.Host())
	require.NoError(t, err)
	assert.True(t, there)
	assert.Empty(t, ring)
	text, err = os.ReadFile(h.configFile)
	require.NoError(t, err)
	assert.JSONEq(t, `{"unknown":[1,2.50,"<&>"],"registries":{"ca_certs":null,"hosts":{"`+s.Host()+`":{"insecure":true}}}}`, string(text))
	there, err = Registry.Logout(testContext(t), s.Host())
	require.NoError(t, err)
	assert.False(t, there)

	require.NoError(t, os.Remove(h.configFile))
	require.NoError(t, Registry.Login(testContext(t), "docker.io", "u", "p"))
	_, err = Registry.Logout(testContext(t), "index.docker.io")
	require.NoError(t, err)
	text, err = os.ReadFile(h.configFile)
	require.NoError(t, err)
	assert.JSONEq(t, `{}`, string(text))
	for _, bad := range []string{"", "a/b", "no host!", "host/", "library"} {
		assert.True(t, IsKind(Registry.Login(testContext(t), bad, "u", "p"), ErrInvalidArgument), bad)
	}
	assert.True(t, IsKind(Registry.Login(testContext(t), "a.example", "", "p"), ErrInvalidArgument))
	require.NoError(t, os.WriteFile(h.configFile, []byte("{"), 0o600))
	assert.True(t, IsKind(Registry.Login(testContext(t), "a.example", "u", "p"), ErrInvalidConfig))
	assert.Empty(t, ring, "no password without the note where it is")
	_, err = Registry.List(testContext(t))
	assert.True(t, IsKind(err, ErrInvalidConfig))
}

func arch() string { return goruntime.GOARCH }
