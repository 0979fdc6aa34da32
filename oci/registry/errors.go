package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gomsb/gomsb/oci"
)

// maxErrorBody bounds how much of an error answer is read.
const maxErrorBody = 64 << 10

// StatusError is an answer of a registry other than the wanted one. It is
// oci.ErrUnauthorized, oci.ErrNotFound or oci.ErrRegistry by its code.
type StatusError struct {
	Status  int
	Message string // what the registry says, in one line; may be empty
	after   time.Duration
}

// Error implements error.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("the registry answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Unwrap gives the class.
func (e *StatusError) Unwrap() error {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return oci.ErrUnauthorized
	case http.StatusNotFound:
		return oci.ErrNotFound
	}
	return oci.ErrRegistry
}

// statusError reads an error answer and closes it.
func statusError(r *http.Response) *StatusError {
	defer r.Body.Close()
	e := &StatusError{Status: r.StatusCode, after: retryAfter(r.Header.Get("Retry-After"), time.Now())}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxErrorBody))
	if err != nil {
		return e
	}
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		e.Message = oneLine(strings.TrimSpace(doc.Errors[0].Code + " " + doc.Errors[0].Message))
	}
	return e
}

// oneLine makes text of a server fit to print.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return fmt.Sprintf("%.200s", s)
}

// retryAfter reads the header of that name: seconds or a date. 0 is no wish.
func retryAfter(header string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// classify gives an error of the transport its class.
func classify(err error) error {
	var t *transport.Error
	var untrusted *tls.CertificateVerificationError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, oci.ErrUnauthorized), errors.Is(err, oci.ErrNotFound), errors.Is(err, oci.ErrRegistry):
		return err
	case errors.As(err, &untrusted): // what plain HTTP says then, where it is tried as well, does not help
		return fmt.Errorf("%w: %w: give the authority of the registry's certificate with --ca-certs, or as registries.ca_certs in config.json", oci.ErrRegistry, untrusted)
	case errors.As(err, &t):
		e := &StatusError{Status: t.StatusCode}
		if len(t.Errors) > 0 {
			e.Message = oneLine(strings.TrimSpace(string(t.Errors[0].Code) + " " + t.Errors[0].Message))
		}
		return e
	}
	return fmt.Errorf("%w: %w", oci.ErrRegistry, err)
}

// transient reports whether the same request may succeed later.
func transient(err error) bool {
	var status *StatusError
	var unknown x509.UnknownAuthorityError
	var invalid *tls.CertificateVerificationError
	switch {
	case errors.As(err, &status):
		return status.Status == http.StatusRequestTimeout || status.Status == http.StatusTooManyRequests || status.Status >= 500
	case errors.Is(err, ErrPlainHTTP), errors.Is(err, errTooLarge), errors.As(err, &unknown), errors.As(err, &invalid),
		errors.Is(err, ErrConfig), errors.Is(err, oci.ErrSizeMismatch), errors.Is(err, oci.ErrDigestMismatch), errors.Is(err, oci.ErrManifest), errors.Is(err, oci.ErrMediaType), errors.Is(err, oci.ErrLimit):
		return false
	}
	return true // the network
}

// unreachable reports that nobody serves at the registry's address. A user who mistyped it
// need not wait; a transfer that is under way goes on trying.
func unreachable(err error) bool {
	var dns *net.DNSError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) && dns.IsNotFound
}
