package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/zalando/go-keyring"
)

// keyringService is the name under which the operating system keeps our secrets, one for
// each host; microsandbox 0.6.18 uses the same.
const keyringService = "dev.microsandbox.registry"

// Keyring keeps credentials by registry host.
type Keyring interface {
	// Get returns nil without an error if there are none.
	Get(host string) (*Credentials, error)
	Set(host string, c Credentials) error
	// Delete reports whether there were any.
	Delete(host string) (bool, error)
}

// ErrNoKeyring reports that this session has no credential store.
var ErrNoKeyring = errors.New("this session has no credential store; configure password_env or secret_name instead")

// SystemKeyring is the credential store of the operating system: Secret Service, macOS
// keychain or Windows credential manager.
type SystemKeyring struct{}

type secret struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// present reports whether asking has a chance. Without a session bus the client would
// start one, on a server for nobody.
func present() bool {
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" || os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "bus"))
	return err == nil
}

// Get implements Keyring.
func (SystemKeyring) Get(host string) (*Credentials, error) {
	if !present() {
		return nil, nil
	}
	text, err := keyring.Get(keyringService, host)
	if errors.Is(err, keyring.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("credential store: %w", err)
	}
	var s secret
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("credential store: entry for %s: %w", host, err)
	}
	return &Credentials{Username: s.Username, Password: s.Password}, nil
}

// Set implements Keyring.
func (SystemKeyring) Set(host string, c Credentials) error {
	if !present() {
		return ErrNoKeyring
	}
	text, err := json.Marshal(secret(c))
	if err != nil {
		return err
	}
	if err := keyring.Set(keyringService, host, string(text)); err != nil {
		return fmt.Errorf("credential store: %w", err)
	}
	return nil
}

// Delete implements Keyring.
func (SystemKeyring) Delete(host string) (bool, error) {
	if !present() {
		return false, nil
	}
	err := keyring.Delete(keyringService, host)
	if errors.Is(err, keyring.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("credential store: %w", err)
	}
	return true, nil
}
