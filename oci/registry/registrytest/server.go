package registrytest

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// Server is a registry with faults.
type Server struct {
	*httptest.Server
	inner http.Handler

	mu       sync.Mutex // guards what follows
	faults   []*Fault
	requests []Request
}

// Request is a request that the server got.
type Request struct {
	Path, Range, Authorization, Accept string
}

// Fault breaks answers. The first that applies to a request serves it.
type Fault struct {
	Path  string // part of the paths that it applies to
	Times int    // how often it applies; negative means always
	Serve func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

// New starts a registry over plain HTTP; it ends with the test.
func New(t testing.TB) *Server { return start(t, false) }

// NewTLS starts a registry over HTTPS with the certificate of the Server.
func NewTLS(t testing.TB) *Server { return start(t, true) }

func start(t testing.TB, encrypted bool) *Server {
	t.Helper()
	s := &Server{inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if encrypted {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// Host returns the registry's host and port.
func (s *Server) Host() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		panic("httptest gives valid URLs")
	}
	return u.Host
}

// Break adds faults.
func (s *Server) Break(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		s.faults = append(s.faults, &f)
	}
}

// Mend removes all faults.
func (s *Server) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Requests returns the requests so far whose path contains part, without pushes.
func (s *Server) Requests(part string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Request
	for _, r := range s.requests {
		if strings.Contains(r.Path, part) {
			all = append(all, r)
		}
	}
	return all
}

// Forget forgets the requests so far.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.next(r).ServeHTTP(w, r)
}

// next notes a request and returns what serves it.
func (s *Server) next(r *http.Request) http.Handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{r.URL.Path, r.Header.Get("Range"), r.Header.Get("Authorization"), r.Header.Get("Accept")})
	for _, f := range s.faults {
		if f.Times == 0 || !strings.Contains(r.URL.Path, f.Path) {
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.Serve(w, r, s.inner) })
	}
	return s.inner
}

// put stores content without going through faults.
func (s *Server) put(t testing.TB, method, path, mediaType string, body []byte) {
	t.Helper()
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	s.inner.ServeHTTP(w, r)
	require.Equal(t, http.StatusCreated, w.Code, w.Body.String())
}

// PutBlob stores a blob in a repository.
func (s *Server) PutBlob(t testing.TB, repository string, body []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(body)
	s.put(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+url.QueryEscape(d.String()), "application/octet-stream", body)
	return d
}

// PutManifest stores a document in a repository under its digest and, unless that is
// empty, a tag.
func (s *Server) PutManifest(t testing.TB, repository, tag, mediaType string, body []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(body)
	s.put(t, http.MethodPut, "/v2/"+repository+"/manifests/"+d.String(), mediaType, body)
	if tag != "" {
		s.put(t, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, mediaType, body)
	}
	return d
}
