package microsandbox

import (
	"encoding/json"
	"os"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack/secrets"
)

// ViolationAction is what becomes of a secret's placeholder on its way to a host that may
// not have the secret. All but ViolationActionPassthrough end the connection.
type ViolationAction string

// Violation actions; the default is ViolationActionBlockAndLog.
const (
	ViolationActionDefault           ViolationAction = ""
	ViolationActionBlock             ViolationAction = "block"
	ViolationActionBlockAndLog       ViolationAction = "block-and-log"
	ViolationActionBlockAndTerminate ViolationAction = "block-and-terminate" // and the sandbox
	ViolationActionPassthrough       ViolationAction = "passthrough"         // any host gets the placeholder
)

// SecretEntry is a secret that the guest can use but not see: it knows a placeholder only,
// which is replaced in its HTTP requests to certain hosts. A sandbox with a secret has
// its TLS intercepted.
type SecretEntry struct {
	// EnvVar is the guest's environment variable with the placeholder, and the secret's
	// name. Entries of one name have one placeholder and one value.
	EnvVar string
	// Value is the secret, in UTF-8. It is kept in memory only, so that the sandbox cannot be
	// started again once it has stopped; to have that, use ValueFrom instead.
	Value string
	// ValueFrom is the environment variable of this process that has the secret. It is
	// read at each start.
	ValueFrom string
	// AllowHosts are the names of the hosts that may have the secret, AllowHostPatterns
	// more of them: "*" is any, "*.example.com" a domain and all below it. At least one.
	AllowHosts, AllowHostPatterns []string
	// Placeholder stands for the secret; "" is $MSB_ and EnvVar. At most 1024 bytes,
	// without NUL, CR and LF.
	Placeholder string
	// Inject says where it is replaced; nil is in headers and in basic authentication.
	Inject *SecretInjection
	// RequireTLS keeps the secret to hosts that prove their names by certificates; nil is
	// true. Without it a host is believed that was resolved under its name.
	RequireTLS *bool
	// OnViolation overrides NetworkConfig.OnSecretViolation; "" does not.
	OnViolation ViolationAction
}

// SecretInjection says where in a request a placeholder is replaced.
type SecretInjection struct {
	Headers     bool // values of header fields
	BasicAuth   bool // user and password of Authorization: Basic
	QueryParams bool // the query, not the path
	Body        bool // with HTTP/1; at most 16 MiB if its length comes first
}

// String does not show the value.
func (s SecretEntry) String() string { return "secret " + s.EnvVar }

// GoString is String.
func (s SecretEntry) GoString() string { return s.String() }

// SecretEnvOptions are the fields of a SecretEntry that Secret.Env does not take.
type SecretEnvOptions struct {
	AllowHosts, AllowHostPatterns []string
	Placeholder                   string
	Inject                        *SecretInjection
	RequireTLS                    *bool
	OnViolation                   ViolationAction
}

type secretFactory struct{}

// Secret makes SecretEntry values.
var Secret secretFactory

// Env is a secret with the given value.
func (secretFactory) Env(envVar, value string, o SecretEnvOptions) SecretEntry {
	return SecretEntry{
		EnvVar: envVar, Value: value, AllowHosts: o.AllowHosts, AllowHostPatterns: o.AllowHostPatterns,
		Placeholder: o.Placeholder, Inject: o.Inject, RequireTLS: o.RequireTLS, OnViolation: o.OnViolation,
	}
}

// FromEnv is a secret whose value is in the variable of the same name of this process's
// environment, at each start of the sandbox.
func (f secretFactory) FromEnv(envVar string, o SecretEnvOptions) SecretEntry {
	s := f.Env(envVar, "", o)
	s.ValueFrom = envVar
	return s
}

// WithSecrets adds secrets that the guest can use but not see.
func WithSecrets(list ...SecretEntry) SandboxOption {
	return func(c *SandboxConfig) { c.Secrets = append(c.Secrets, list...) }
}

// secretsSpec is the row's form of the secrets, without values; nil if there are none. It
// fails with ErrInvalidConfig, and no error has a value in it.
func (c *SandboxConfig) secretsSpec() (*launch.SecretsConfig, error) {
	out := &launch.SecretsConfig{OnViolation: secrets.Action{Kind: secrets.KindLog}}
	if n := c.Network; n != nil && n.OnSecretViolation != "" {
		a, err := n.OnSecretViolation.action()
		if err != nil {
			return nil, err
		}
		out.OnViolation = *a
	}
	if len(c.Secrets) == 0 {
		return nil, nil
	}
	for _, e := range c.Secrets {
		s, err := e.launch()
		if err != nil {
			return nil, err
		}
		for i, o := range out.Secrets {
			if o.EnvVar != s.EnvVar {
				continue
			}
			if o.Placeholder != s.Placeholder {
				return nil, fail(ErrInvalidConfig, "secret %s has two placeholders", s.EnvVar)
			}
			if other := c.Secrets[i]; other.Value != e.Value || other.ValueFrom != e.ValueFrom {
				return nil, fail(ErrInvalidConfig, "secret %s has two values: give one of them another name", s.EnvVar)
			}
		}
		out.Secrets = append(out.Secrets, s)
	}
	probe := launch.SecretsConfig{Secrets: slices.Clone(out.Secrets)}
	return out, (&spec{secretValues: c.secretValues()}).resolveSecrets(&probe)
}

// launch is the row's form of a secret.
func (e SecretEntry) launch() (s launch.Secret, err error) {
	if err := secrets.CheckName(e.EnvVar); err != nil {
		return s, wrap(ErrInvalidConfig, err)
	}
	if (e.Value == "") == (e.ValueFrom == "") {
		return s, fail(ErrInvalidConfig, "secret %s: set one of Value and ValueFrom", e.EnvVar)
	}
	s = launch.Secret{
		EnvVar: e.EnvVar, Placeholder: orDefault(e.Placeholder, secrets.Placeholder(e.EnvVar)), Injection: secrets.DefaultInjection(),
		RequireTLSIdentity: e.RequireTLS == nil || *e.RequireTLS,
	}
	if e.ValueFrom != "" {
		s.Source = &launch.SecretSource{Kind: "env", Var: e.ValueFrom}
	}
	if i := e.Inject; i != nil {
		s.Injection = secrets.Injection{Headers: i.Headers, BasicAuth: i.BasicAuth, QueryParams: i.QueryParams, Body: i.Body}
	}
	for _, h := range e.AllowHosts {
		if strings.Contains(h, "*") {
			return s, fail(ErrInvalidConfig, "secret %s: host %q is a pattern: it belongs into AllowHostPatterns", e.EnvVar, h)
		}
	}
	for _, h := range slices.Concat(e.AllowHosts, e.AllowHostPatterns) {
		p, err := secrets.ParseHost(h)
		if err != nil {
			return s, &Error{Kind: ErrInvalidConfig, Message: "secret " + e.EnvVar, Cause: err}
		}
		s.AllowedHosts = append(s.AllowedHosts, p)
	}
	if e.OnViolation != "" {
		s.OnViolation, err = e.OnViolation.action()
	}
	return s, err
}

func (a ViolationAction) action() (*secrets.Action, error) {
	switch a {
	case ViolationActionBlock, ViolationActionBlockAndLog, ViolationActionBlockAndTerminate:
		return &secrets.Action{Kind: secrets.Kind(a)}, nil
	case ViolationActionPassthrough:
		return &secrets.Action{Kind: secrets.KindPassthrough, Hosts: []secrets.HostPattern{secrets.AnyHost()}}, nil
	}
	return nil, fail(ErrInvalidConfig, "unknown violation action %q: use block, block-and-log, block-and-terminate or passthrough", a)
}

// secretValues are the values of secrets that the configuration has itself, by name. They
// are for the first start, and nowhere written down.
func (c *SandboxConfig) secretValues() map[string]string {
	values := make(map[string]string)
	for _, e := range c.Secrets {
		if e.Value != "" {
			values[e.EnvVar] = e.Value
		}
	}
	return values
}

// resolveSecrets puts the values into the configuration that the runtime gets, and checks
// it. It fails with ErrInvalidConfig, and no error has a value in it.
func (s *spec) resolveSecrets(c *launch.SecretsConfig) error {
	for i := range c.Secrets {
		e := &c.Secrets[i]
		if e.Source != nil {
			continue
		}
		if e.Value == "" {
			e.Value = launch.SecretValue(s.secretValues[e.EnvVar])
		}
		if e.Value == "" {
			return fail(ErrInvalidConfig, "the value of secret %s was given when the sandbox was created and is not kept: create the sandbox anew, or take the value from an environment variable", e.EnvVar)
		}
	}
	if err := c.Resolve(os.LookupEnv); err != nil {
		return wrap(ErrInvalidConfig, err)
	}
	return wrap(ErrInvalidConfig, c.Config().Validate())
}

// withoutSecrets is the environment env for a runtime, which has the secrets' values from
// its configuration: they need not show there as long as it lives.
func withoutSecrets(env []string, n *launch.Network) []string {
	if n == nil {
		return env
	}
	return slices.DeleteFunc(env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.ContainsFunc(n.Config.Secrets.Secrets, func(s launch.Secret) bool {
			return s.Source != nil && s.Source.Kind == "env" && s.Source.Var == name && s.Value != ""
		})
	})
}

// withoutValues is a row's configuration without the values of secrets. None that is
// written here has any; the official SDKs store a value that a program gives.
func withoutValues(config string) string {
	d := json.NewDecoder(strings.NewReader(config))
	d.UseNumber()
	var row map[string]any
	if d.Decode(&row) != nil {
		return config
	}
	network, _ := row["network"].(map[string]any)
	group, _ := network["secrets"].(map[string]any)
	list, _ := group["secrets"].([]any)
	found := false
	for _, e := range list {
		if s, ok := e.(map[string]any); ok && s["value"] != nil && s["value"] != "" {
			s["value"], found = "", true
		}
	}
	if !found {
		return config
	}
	b, err := json.Marshal(row)
	if err != nil {
		return ""
	}
	return string(b)
}

// secretEntries is the inverse of secretsSpec, without values.
func secretEntries(c launch.SecretsConfig) (list []SecretEntry) {
	for _, s := range c.Secrets {
		e := SecretEntry{
			EnvVar: s.EnvVar, Placeholder: s.Placeholder, RequireTLS: &s.RequireTLSIdentity,
			Inject: &SecretInjection{s.Injection.Headers, s.Injection.BasicAuth, s.Injection.QueryParams, s.Injection.Body},
		}
		if s.Source != nil {
			e.ValueFrom = s.Source.Var
		}
		for _, h := range s.AllowedHosts {
			e.AllowHostPatterns = append(e.AllowHostPatterns, h.String())
		}
		if s.OnViolation != nil {
			e.OnViolation = ViolationAction(s.OnViolation.Kind)
		}
		list = append(list, e)
	}
	return list
}
