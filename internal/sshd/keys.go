package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/internal/filelock"
)

// NewKey makes a key pair that lives in memory only.
func NewKey() (ssh.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(key)
}

// HostKey reads the private key in path, in any format of OpenSSH, and makes an ed25519
// key there if there is none. Two processes that do so at once use the same one.
func HostKey(path string) (ssh.Signer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeHostKey(path); err != nil {
			return nil, fmt.Errorf("SSH host key: %w", err)
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("SSH host key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("SSH host key %s: %w; remove the file to have a new one made", path, err)
	}
	return key, nil
}

// makeHostKey writes a new key unless another process is first.
func makeHostKey(path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".host-key-*") // readable for this user only
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(pem.EncodeToMemory(block))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// ErrNoKeys reports that nobody is authorized yet.
var ErrNoKeys = errors.New("no authorized SSH keys")

// noKeys is ErrNoKeys with what to do.
type noKeys string

func (e noKeys) Error() string {
	return string(e) + "; add one with `msb ssh authorize --file ~/.ssh/id_ed25519.pub`"
}

func (noKeys) Is(target error) bool { return target == ErrNoKeys }

// AuthorizedKeys reads the keys of an authorized_keys file (sshd(8)), at least one, else
// ErrNoKeys. Lines that are no key are passed over, and so are those with options: what
// they forbid would be allowed otherwise.
func AuthorizedKeys(path string) ([]ssh.PublicKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noKeys("SSH authorized keys not found at " + path)
	}
	if err != nil {
		return nil, fmt.Errorf("SSH authorized keys: %w", err)
	}
	var keys []ssh.PublicKey
	for line := range strings.Lines(string(text)) {
		if key, _, err := parseKey(line); err == nil {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, noKeys("SSH authorized keys file is empty at " + path)
	}
	return keys, nil
}

// ErrInvalidKey reports text that is no public key.
var ErrInvalidKey = errors.New("invalid public key")

// parseKey reads a public key as in a .pub file, or its base64 part alone, and returns
// the line for an authorized_keys file.
func parseKey(text string) (ssh.PublicKey, string, error) {
	line := strings.TrimSpace(text)
	if line == "" || strings.HasPrefix(line, "#") {
		return nil, "", errors.New("public key cannot be empty")
	}
	if strings.ContainsAny(line, "\n\r") {
		return nil, "", fmt.Errorf("%w: more than one line", ErrInvalidKey)
	}
	if !strings.ContainsAny(line, " \t") {
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, "", ErrInvalidKey
		}
		key, err := ssh.ParsePublicKey(raw)
		if err != nil {
			return nil, "", ErrInvalidKey
		}
		return key, strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n"), nil
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return nil, "", ErrInvalidKey
	case len(options) > 0:
		return nil, "", fmt.Errorf("%w: options before the key are not supported", ErrInvalidKey)
	}
	return key, line, nil
}

// Authorize adds a public key to an authorized_keys file, which it makes with its folder,
// both private. It reports false if the key was there.
func Authorize(path, text string) (added bool, err error) {
	key, line, err := parseKey(text)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, err
	}
	// Another process may add a key at the same time: none is to be lost.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	defer func() { _ = dir.Close() }()
	if err := filelock.Wait(context.Background(), dir); err != nil {
		return false, err
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for l := range strings.Lines(string(old)) {
		if k, _, err := parseKey(l); err == nil && bytes.Equal(k.Marshal(), key.Marshal()) {
			return false, nil
		}
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		old = append(old, '\n')
	}
	return true, atomicfile.Write(path, append(append(old, line...), '\n'), 0o600)
}
