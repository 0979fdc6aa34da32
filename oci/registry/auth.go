package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// maxSecret bounds a file that holds a password.
const maxSecret = 64 << 10

// authenticator chooses the credentials for a registry: explicit ones, the keyring's,
// those that the configuration names, Docker's, none. host is the registry as canonical
// references have it.
func (c *Client) authenticator(ctx context.Context, host string, repository name.Repository) (authn.Authenticator, error) {
	if e := c.config.Explicit; e != nil {
		return basic(*e), nil
	}
	auth := c.config.Hosts[host].Auth
	if auth != nil {
		if err := auth.check(host); err != nil {
			return nil, err
		}
	}
	if found := c.fromKeyring(host); found != nil {
		return basic(*found), nil
	}
	if auth != nil {
		password, err := c.password(host, auth)
		if err != nil {
			return nil, err
		}
		return basic(Credentials{Username: auth.Username, Password: password}), nil
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, repository)
	if err != nil {
		// Docker's settings may be for another time and place; without them the registry
		// still may let us in.
		c.log.Warn("Docker's credentials are not usable", "registry", host, "error", err)
		return authn.Anonymous, nil
	}
	return found, nil
}

func basic(c Credentials) authn.Authenticator {
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password})
}

// fromKeyring returns nil if the keyring has nothing or cannot be asked.
func (c *Client) fromKeyring(host string) *Credentials {
	if c.config.Keyring == nil {
		return nil
	}
	found, err := c.config.Keyring.Get(host)
	if err != nil {
		c.log.Warn("keyring not usable", "registry", host, "error", err)
		return nil
	}
	return found
}

// password reads the password that the configuration names; the keyring had none.
func (c *Client) password(host string, auth *Auth) (string, error) {
	switch {
	case auth.Store != "":
		return "", fmt.Errorf("%w: the credential store has no entry for %s; log in again", ErrConfig, host)
	case auth.PasswordEnv != "":
		password, ok := os.LookupEnv(auth.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("%w: the environment variable %s with the password for %s is not set", ErrConfig, auth.PasswordEnv, host)
		}
		return password, nil
	}
	if auth.SecretName == "." || strings.ContainsAny(auth.SecretName, "/\x00") || strings.Contains(auth.SecretName, "..") {
		return "", fmt.Errorf("%w: secret_name %q for %s is no file name", ErrConfig, auth.SecretName, host)
	}
	dir, err := os.OpenRoot(c.config.SecretsDir)
	if err != nil {
		return "", fmt.Errorf("%w: secret %q for %s: %w", ErrConfig, auth.SecretName, host, err)
	}
	defer dir.Close()
	f, err := dir.Open(auth.SecretName)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s has no secret %q for %s", ErrConfig, c.config.SecretsDir, auth.SecretName, host)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	return strings.TrimSpace(string(text)), err
}
