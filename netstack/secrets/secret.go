package secrets

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxPlaceholder bounds a placeholder, bytes.
const MaxPlaceholder = 1024

// ErrInvalid is wrapped by every error about a configuration of secrets.
var ErrInvalid = errors.New("invalid network secrets")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Placeholder is what stands for the secret in an environment variable, unless another is
// chosen.
func Placeholder(envVar string) string { return "$MSB_" + envVar }

// Secret is a value that the guest knows by its placeholder.
type Secret struct {
	EnvVar      string // of the guest, with the placeholder; the secret's name
	Value       Value
	Placeholder string
	Hosts       []HostPattern // that may have it
	Injection   Injection
	OnViolation *Action // nil: that of the Config
	// RequireTLS: it is for servers only that prove their name by a certificate.
	RequireTLS bool
}

// Injection says where in a request the placeholder is replaced.
type Injection struct {
	Headers     bool `json:"headers"`      // in values of header fields
	BasicAuth   bool `json:"basic_auth"`   // in user and password of Authorization: Basic
	QueryParams bool `json:"query_params"` // in the query, not the path
	Body        bool `json:"body"`         // in the body, with HTTP/1
}

// DefaultInjection is headers and basic authentication.
func DefaultInjection() Injection { return Injection{Headers: true, BasicAuth: true} }

// Config is the secrets of a sandbox.
type Config struct {
	Secrets     []Secret
	OnViolation Action
}

// Validate fails with an error that wraps ErrInvalid and holds no value.
func (c Config) Validate() error {
	for _, s := range c.Secrets {
		if err := s.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (s Secret) validate() error {
	if err := CheckName(s.EnvVar); err != nil {
		return err
	}
	switch {
	case s.Placeholder == "":
		return invalid("secret %s: its placeholder is empty", s.EnvVar)
	case len(s.Placeholder) > MaxPlaceholder:
		return invalid("secret %s: its placeholder has %d bytes, at most %d", s.EnvVar, len(s.Placeholder), MaxPlaceholder)
	case strings.ContainsAny(s.Placeholder, "\x00\r\n"):
		return invalid("secret %s: its placeholder has a NUL, CR or LF", s.EnvVar)
	case len(s.Hosts) == 0:
		return invalid("secret %s: no host may have it; name at least one", s.EnvVar)
	case s.Value.IsEmpty():
		return invalid("secret %s: it has no value", s.EnvVar)
	case !utf8.ValidString(s.Value.Reveal()): // no launch configuration could carry it unchanged
		return invalid("secret %s: its value is not UTF-8", s.EnvVar)
	}
	return nil
}

// CheckName reports why envVar cannot be the name of an environment variable, and so of a
// secret.
func CheckName(envVar string) error {
	if envVar == "" || strings.ContainsAny(envVar, "=\x00") {
		return invalid("%q cannot be the name of an environment variable: it is empty or has a = or NUL", envVar)
	}
	return nil
}
