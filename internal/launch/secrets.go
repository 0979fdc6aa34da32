package launch

import (
	"fmt"
	"log/slog"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/netstack/secrets"
)

// SecretValue is a secret's value in a launch configuration. Its JSON is the value; in
// texts and logs it does not show.
type SecretValue string

// LogValue keeps the value out of logs.
func (SecretValue) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Format keeps the value out of texts, whatever the verb.
func (SecretValue) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[redacted]")) }

// Resolve looks up the values that are kept elsewhere with lookup, which is os.LookupEnv
// but for tests. The error wraps secrets.ErrInvalid; no error has a value in it.
func (c *SecretsConfig) Resolve(lookup func(string) (string, bool)) error {
	for i := range c.Secrets {
		s := &c.Secrets[i]
		if s.Value != "" || s.Source == nil {
			continue
		}
		value, err := s.Source.lookup(lookup)
		if err != nil {
			return fmt.Errorf("%w: secret %s: %w", secrets.ErrInvalid, s.EnvVar, err)
		}
		s.Value = SecretValue(value)
	}
	return nil
}

// lookup is what the source has.
func (s *SecretSource) lookup(env func(string) (string, bool)) (string, error) {
	switch s.Kind {
	case "env":
		if value, ok := env(s.Var); ok && value != "" {
			return value, nil
		}
		return "", fmt.Errorf("host environment variable %s is not set or empty", s.Var)
	case "store":
		return "", fmt.Errorf("there is no secret store to look up %q in: take the value from an environment variable", s.Reference)
	}
	return "", fmt.Errorf("its source is of kind %q: want env", s.Kind)
}

// Config is the network's form of the secrets, whose values are there. It is not
// validated.
func (c SecretsConfig) Config() secrets.Config {
	out := secrets.Config{OnViolation: c.OnViolation}
	for _, s := range c.Secrets {
		out.Secrets = append(out.Secrets, secrets.Secret{
			EnvVar: s.EnvVar, Value: secrets.NewValue(string(s.Value)), Placeholder: s.Placeholder, Hosts: s.AllowedHosts,
			Injection: s.Injection, OnViolation: s.OnViolation, RequireTLS: s.RequireTLSIdentity,
		})
	}
	return out
}

// Environment is what the guest gets to see of the secrets.
func (c SecretsConfig) Environment() (env []proto.EnvVar) {
	for _, s := range c.Secrets {
		env = append(env, proto.EnvVar{Key: s.EnvVar, Value: s.Placeholder})
	}
	return env
}
