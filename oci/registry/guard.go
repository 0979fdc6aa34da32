package registry

import (
	"errors"
	"fmt"
	"net"
	"net/http"
)

// ErrPlainHTTP reports that a server wanted to be spoken to without encryption although
// nobody allowed that for its host.
var ErrPlainHTTP = errors.New("plain HTTP is not allowed")

// guard holds every request, redirects and token servers included, to the scheme that
// its host is allowed: HTTP with insecure hosts, HTTPS with all others. This machine
// itself may use either.
type guard struct {
	http.RoundTripper
	insecure func(host string) bool
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	insecure, local := g.insecure(r.URL.Host), loopback(r.URL.Hostname())
	switch r.URL.Scheme {
	case "https":
		if insecure && !local {
			return nil, fmt.Errorf("no HTTPS with %s, which is set to plain HTTP", r.URL.Host)
		}
	case "http":
		if !insecure && !local {
			return nil, fmt.Errorf("%w: %s; mark the registry as insecure if that is meant", ErrPlainHTTP, r.URL.Host)
		}
	default:
		return nil, fmt.Errorf("%w: scheme %.20q", ErrPlainHTTP, r.URL.Scheme)
	}
	return g.RoundTripper.RoundTrip(r)
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
