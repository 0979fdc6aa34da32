package microsandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack/secrets"
)

// validate checks a secret's change. No error has a value in it.
func (s SecretModifySpec) validate(name string) error {
	if err := secrets.CheckName(name); err != nil {
		return wrap(ErrInvalidConfig, err)
	}
	var set []string
	for _, f := range []struct{ name, value string }{{"Env", s.Env}, {"Value", s.Value}, {"Store", s.Store}} {
		if f.value != "" {
			set = append(set, f.name)
		}
	}
	if len(set) > 1 {
		return errors.New("secret " + name + ": " + strings.Join(set, " and ") + " are mutually exclusive")
	}
	if s.Store != "" {
		return fail(ErrUnsupportedOperation, "secret %s: there is no secret store: take the value from an environment variable", name)
	}
	_, err := s.hosts(name)
	return err
}

func (s SecretModifySpec) hosts(name string) (list []secrets.HostPattern, err error) {
	for _, h := range s.AllowedHosts {
		p, err := secrets.ParseHost(h)
		if err != nil {
			return nil, &Error{Kind: ErrInvalidConfig, Message: "secret " + name, Cause: err}
		}
		list = append(list, p)
	}
	return list, nil
}

// planSecrets plans the changes of secrets.
func (m *modification) planSecrets() {
	n, err := m.stored.network()
	if err != nil {
		if len(m.options.Secrets)+len(m.options.SecretsRemove) > 0 {
			m.conflict("secret", "%s", err)
		}
		return
	}
	for _, name := range sortedKeys(m.options.Secrets) {
		if slices.Contains(m.options.SecretsRemove, name) {
			m.conflict("secret", "%s is both changed and removed", name)
			continue
		}
		i := slices.IndexFunc(n.Secrets.Secrets, func(s launch.Secret) bool { return s.EnvVar == name })
		if i < 0 {
			m.planNewSecret(name, m.options.Secrets[name])
		} else {
			m.planSecret(n.Secrets.Secrets[i], m.options.Secrets[name])
		}
	}
	for _, name := range m.options.SecretsRemove {
		i := slices.IndexFunc(n.Secrets.Secrets, func(s launch.Secret) bool { return s.EnvVar == name })
		if i < 0 {
			m.warn("secret", "there is no secret %s", name)
			continue
		}
		c := m.secretChange(n.Secrets.Secrets[i], "removed", m.can.SecretsUpdate)
		c.AfterRef, c.AllowHosts = nil, nil
		m.add(c, func(d document) { editSecret(d, name, func(map[string]any) bool { return false }) })
		m.send(c, launch.SecretChange{Change: string(secrets.Remove), Name: name})
	}
}

// network is the network's configuration with all defaults filled in, without the values
// of secrets.
func (s *spec) network() (launch.NetworkConfig, error) {
	n := launch.DefaultNetworkConfig()
	if len(s.Network) == 0 {
		return n, nil
	}
	err := json.Unmarshal(s.Network, &n)
	return n, err
}

// reference says where a secret's value comes from, nil if it is not kept.
func reference(s *launch.SecretSource) *string {
	if s == nil {
		return nil
	}
	return pointer(s.Kind + ":" + s.Var + s.Reference)
}

// secretChange is a change of s, of which the references and hosts are as they are.
func (m *modification) secretChange(s launch.Secret, change string, can bool) PlannedChange {
	c := PlannedChange{Kind: changeSecret, Field: "secret", Name: s.EnvVar, Change: change, BeforeRef: reference(s.Source), AfterRef: reference(s.Source)}
	for _, h := range s.AllowedHosts {
		c.AllowHosts = append(c.AllowHosts, h.String())
	}
	c.Disposition, c.Reason = m.disposition(can, "the guest knows secrets from its start")
	return c
}

// send hands a live change to the running machine.
func (m *modification) send(c PlannedChange, change launch.SecretChange) {
	if c.Disposition == takesLive {
		m.secrets = append(m.secrets, change)
	}
}

// planNewSecret plans a secret that was not there.
func (m *modification) planNewSecret(name string, o SecretModifySpec) {
	switch {
	case o.Value != "":
		m.conflict("secret", "a new secret takes its value from an environment variable at each start: give %s one", name)
		return
	case o.Env == "":
		m.conflict("secret", "there is no secret %s: give the environment variable with its value to add it", name)
		return
	case len(o.AllowedHosts) == 0:
		m.conflict("secret", "a new secret needs hosts that may have it: give %s some", name)
		return
	}
	entry := SecretEntry{EnvVar: name, ValueFrom: o.Env, AllowHostPatterns: o.AllowedHosts, Placeholder: o.Placeholder}
	s, err := entry.launch()
	if err != nil {
		m.conflict("secret", "%s", err)
		return
	}
	if err := checkVariable(o.Env); err != nil {
		m.conflict("secret", "%s: %s", name, err)
		return
	}
	c := m.secretChange(s, "added", false)
	c.BeforeRef = nil
	m.add(c, func(d document) { addSecret(d, s) })
}

// checkVariable reports a variable that has no value to use.
func checkVariable(name string) error {
	if os.Getenv(name) == "" {
		return fmt.Errorf("host environment variable %s is not set or empty", name)
	}
	return nil
}

// planSecret plans changes of a secret that is there.
func (m *modification) planSecret(s launch.Secret, o SecretModifySpec) {
	name := s.EnvVar
	if o.Env != "" || o.Value != "" {
		m.planRotation(s, o)
	}
	if hosts, _ := o.hosts(name); len(hosts) > 0 && !slices.Equal(hosts, s.AllowedHosts) {
		c := m.secretChange(s, "hosts updated", m.can.SecretsUpdate)
		c.AllowHosts = nil
		for _, h := range hosts {
			c.AllowHosts = append(c.AllowHosts, h.String())
		}
		m.add(c, func(d document) {
			editSecret(d, name, func(e map[string]any) bool {
				e["allowed_hosts"] = hosts
				return true
			})
		})
		m.send(c, launch.SecretChange{Change: string(secrets.SetHosts), Name: name, Hosts: c.AllowHosts})
	}
	if o.Placeholder != "" && o.Placeholder != s.Placeholder {
		m.add(m.secretChange(s, "placeholder updated", false), func(d document) {
			editSecret(d, name, func(e map[string]any) bool {
				e["placeholder"] = o.Placeholder
				return true
			})
		})
	}
}

// planRotation plans another value.
func (m *modification) planRotation(s launch.Secret, o SecretModifySpec) {
	c := m.secretChange(s, "rotated", m.can.SecretsUpdate)
	change := launch.SecretChange{Change: string(secrets.Rotate), Name: s.EnvVar, Value: o.Value}
	do := func(document) {}
	if o.Env != "" {
		if err := checkVariable(o.Env); err != nil {
			m.conflict("secret", "%s: %s", s.EnvVar, err)
			return
		}
		change.Value, c.AfterRef = os.Getenv(o.Env), pointer("env:"+o.Env)
		do = func(d document) {
			editSecret(d, s.EnvVar, func(e map[string]any) bool {
				e["value"], e["source"] = "", launch.SecretSource{Kind: "env", Var: o.Env}
				return true
			})
		}
	} else {
		if c.Disposition != takesLive {
			m.conflict("secret", "the value of %s is not kept, and nothing runs that could take it: give an environment variable instead", s.EnvVar)
			return
		}
		m.warn("secret", "the value of %s is the running sandbox's; it is not kept", s.EnvVar)
	}
	m.add(c, do)
	m.send(c, change)
}

// editSecret gives keep each entry of the named secret, and drops those that it does not
// keep.
func editSecret(d document, name string, keep func(map[string]any) bool) {
	network, _ := d["network"].(map[string]any)
	group, _ := network["secrets"].(map[string]any)
	list, ok := group["secrets"].([]any)
	if !ok {
		return
	}
	group["secrets"] = slices.DeleteFunc(list, func(e any) bool {
		m, ok := e.(map[string]any)
		return ok && m["env_var"] == name && !keep(m)
	})
}

// addSecret adds a secret, and the interception of TLS that it needs.
func addSecret(d document, s launch.Secret) {
	group := d.within("network", "secrets")
	list, _ := group["secrets"].([]any)
	group["secrets"] = append(list, s)
	if group["on_violation"] == nil {
		group["on_violation"] = secrets.Action{Kind: secrets.KindLog}
	}
	network := d.within("network")
	if _, ok := network["tls"].(map[string]any); !ok {
		tls := launch.DefaultNetworkConfig().TLS
		tls.Enabled = true
		network["tls"] = tls
		return
	}
	d.set(true, "network", "tls", "enabled")
}
