package microsandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/oci/ref"
	"github.com/gomsb/gomsb/oci/registry"
)

type registryFactory struct{}

// Registry keeps the credentials for image registries.
var Registry registryFactory

// RegistryEntry says where the credentials for a registry come from.
type RegistryEntry struct {
	Host     string
	Username string
	Source   string // "keyring", "password_env" or "secret_name"
}

// registryKeyring is where Login puts credentials. Tests replace it.
var registryKeyring registry.Keyring = registry.SystemKeyring{}

// registryHost is the form of a registry's name that canonical references have.
func registryHost(host string) (string, error) {
	r, err := ref.Parse(host + "/x/y")
	if err != nil || r.Repository() != "x/y" { // else host is not taken for one
		return "", fail(ErrInvalidArgument, "invalid registry host: %q", host)
	}
	return r.Registry(), nil
}

// Login stores credentials for a registry in the credential store of the operating
// system, and notes in config.json that they are there. It does not contact the registry.
func (registryFactory) Login(_ context.Context, host, username, password string) error {
	host, err := registryHost(host)
	if err != nil {
		return err
	}
	if username == "" || password == "" {
		return fail(ErrInvalidArgument, "registry login needs a user name and a password")
	}
	h, err := openHome() // a file that cannot be read must not lose the password, nor the password its file
	if err != nil {
		return err
	}
	if err := registryKeyring.Set(host, registry.Credentials{Username: username, Password: password}); err != nil {
		return wrap(ErrIO, err)
	}
	return h.editAuth(host, &registry.Auth{Username: username, Store: "keyring"})
}

// Logout forgets the credentials for a registry that Login stored, and what config.json
// says of credentials for it. It reports whether there was any of both.
func (registryFactory) Logout(_ context.Context, host string) (bool, error) {
	host, err := registryHost(host)
	if err != nil {
		return false, err
	}
	h, err := openHome()
	if err != nil {
		return false, err
	}
	found, err := registryKeyring.Delete(host)
	if err != nil {
		return false, wrap(ErrIO, err)
	}
	if h.settings.Registries.Hosts[host].Auth == nil {
		return found, nil
	}
	return true, h.editAuth(host, nil)
}

// List returns the registries that config.json has credentials for, by host. It never
// reads the credentials.
func (registryFactory) List(context.Context) ([]RegistryEntry, error) {
	h, err := openHome()
	if err != nil {
		return nil, err
	}
	var all []RegistryEntry
	for _, host := range slices.Sorted(maps.Keys(h.settings.Registries.Hosts)) {
		auth := h.settings.Registries.Hosts[host].Auth
		if auth == nil {
			continue
		}
		e := RegistryEntry{Host: host, Username: auth.Username}
		switch {
		case auth.Store != "":
			e.Source = auth.Store
		case auth.PasswordEnv != "":
			e.Source = "password_env"
		case auth.SecretName != "":
			e.Source = "secret_name"
		}
		all = append(all, e)
	}
	return all, nil
}

// editAuth sets or removes the credentials entry of a registry in config.json and keeps
// everything else there, known or not.
func (h home) editAuth(host string, auth *registry.Auth) error {
	text, err := os.ReadFile(h.configFile)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte("{}"), nil
	}
	if err != nil {
		return wrap(ErrIO, err)
	}
	doc := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return &Error{Kind: ErrInvalidConfig, Message: h.configFile, Cause: err}
	}
	entry := descend(descend(descend(doc, "registries"), "hosts"), host)
	if auth != nil {
		entry["auth"] = auth
	} else {
		delete(entry, "auth")
		prune(doc, "registries", "hosts", host)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		return wrap(ErrInternal, err)
	}
	if err := os.MkdirAll(filepath.Dir(h.configFile), 0o700); err != nil {
		return wrap(ErrIO, err)
	}
	return wrap(ErrIO, atomicfile.Write(h.configFile, out.Bytes(), 0o600))
}

// descend returns the object under key, which it makes if it is not there.
func descend(doc map[string]any, key string) map[string]any {
	inner, ok := doc[key].(map[string]any)
	if !ok {
		inner = map[string]any{}
		doc[key] = inner
	}
	return inner
}

// prune removes the objects along keys that are empty, the innermost first.
func prune(doc map[string]any, keys ...string) {
	if len(keys) == 0 {
		return
	}
	inner, ok := doc[keys[0]].(map[string]any)
	if !ok {
		return
	}
	if prune(inner, keys[1:]...); len(inner) == 0 {
		delete(doc, keys[0])
	}
}
