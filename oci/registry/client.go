package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/ref"
)

// Limits bounds the documents of one image.
type Limits struct {
	DocumentBytes int64 // one manifest, index or configuration
	TotalBytes    int64 // all that are read to find one image
	Documents     manifest.Limits
}

// DefaultLimits returns what New sets.
func DefaultLimits() Limits {
	return Limits{DocumentBytes: 16 << 20, TotalBytes: 128 << 20, Documents: manifest.DefaultLimits()}
}

// maxRedirects is how many redirects one request follows.
const maxRedirects = 10

// Client fetches from registries. It is safe for concurrent use and keeps connections
// and tokens for later requests.
type Client struct {
	Limits Limits

	config Config
	log    *slog.Logger
	base   http.RoundTripper
	pool   *http.Transport

	mu       sync.Mutex // guards sessions
	sessions map[string]*session
}

// session is the way to one repository: authentication is by repository.
type session struct {
	mu     sync.Mutex // guards client while it is being made
	client *http.Client
	url    string // of the repository
}

// New returns a client. Errors wrap ErrConfig.
func New(config Config) (*Client, error) {
	for host, h := range config.Hosts {
		if h.Auth != nil {
			if err := h.Auth.check(host); err != nil {
				return nil, err
			}
		}
	}
	authorities, err := roots(config.CACerts)
	if err != nil {
		return nil, err
	}
	if config.UserAgent == "" {
		config.UserAgent = "gomsb"
	}
	if config.Retry == (Retry{}) {
		config.Retry = DefaultRetry()
	}
	pool := config.Transport
	if pool == nil {
		pool = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 15 * time.Second,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		}
	}
	pool = pool.Clone()
	pool.DisableCompression = true // blobs are wanted as they are
	if pool.TLSClientConfig == nil {
		pool.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if authorities != nil {
		pool.TLSClientConfig.RootCAs = authorities
	}
	c := &Client{Limits: DefaultLimits(), config: config, log: config.Logger, pool: pool, sessions: map[string]*session{}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.base = transport.NewUserAgent(&guard{RoundTripper: pool, insecure: c.insecure}, config.UserAgent)
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.pool.CloseIdleConnections() }

// insecure reports whether a host is spoken to over plain HTTP.
func (c *Client) insecure(host string) bool {
	if c.config.Insecure {
		// Only registries that were asked for are meant, not what they point to.
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range c.sessions {
			if strings.HasPrefix(s.url, "http://"+host+"/") {
				return true
			}
		}
		return false
	}
	return c.config.Hosts[host].Insecure
}

// session returns the session for a repository, authenticated.
func (c *Client) session(ctx context.Context, r ref.Reference) (*session, error) {
	var options []name.Option
	plain := c.config.Insecure || c.config.Hosts[r.Registry()].Insecure
	if plain {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(r.Registry()+"/"+r.Repository(), options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrReference, err)
	}
	scheme := "https"
	if plain {
		scheme = "http"
	}
	url := fmt.Sprintf("%s://%s/v2/%s", scheme, repository.RegistryStr(), repository.RepositoryStr())
	c.mu.Lock()
	s := c.sessions[url]
	if s == nil {
		s = &session{url: url}
		c.sessions[url] = s
	}
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s, nil
	}
	auth, err := c.authenticator(ctx, r.Registry(), repository)
	if err != nil {
		return nil, err
	}
	authenticated, err := transport.NewWithContext(ctx, repository.Registry, auth, c.base, []string{repository.Scope(transport.PullScope)})
	if err != nil {
		return nil, classify(err)
	}
	s.client = &http.Client{Transport: authenticated, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("%w: more than %d redirects", oci.ErrRegistry, maxRedirects)
		}
		return nil
	}}
	return s, nil
}

// get sends one request below the repository and returns an answer with one of the
// wanted codes.
func (c *Client) get(ctx context.Context, r ref.Reference, path string, header http.Header, wanted ...int) (*http.Response, error) {
	s, err := c.session(ctx, r)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header = header
	response, err := s.client.Do(request)
	if err != nil {
		return nil, classify(err)
	}
	for _, code := range wanted {
		if response.StatusCode == code {
			return response, nil
		}
	}
	return nil, statusError(response)
}

// watchedGet is get for an answer whose body does not stall.
func (c *Client) watchedGet(ctx context.Context, r ref.Reference, path string, header http.Header, wanted ...int) (io.ReadCloser, *http.Response, error) {
	w := newWatch(ctx, c.config.Retry.Stall)
	response, err := c.get(w.ctx, r, path, header, wanted...)
	if err != nil {
		err = w.explain(err)
		w.stop()
		return nil, nil, classify(err)
	}
	w.timer.Stop()
	return &watched{response.Body, w}, response, nil
}
