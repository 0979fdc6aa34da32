package microsandbox

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/gomsb/gomsb/internal/launch"
)

// A full snapshot says what its sandbox gets of the host: directories, sockets, variables
// with secrets. Whoever made it could say anything. So each data root has a key, with which
// it signs what it makes itself; of other snapshots nothing of the host is given but to
// those who ask for it.

// originKeyBytes is the size of the key.
const originKeyBytes = 32

// originKey is the key of the data root, made if it is not there.
func (h home) originKey(create bool) ([]byte, error) {
	path := filepath.Join(filepath.Dir(h.secrets()), "checkpoints.key")
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := makeKey(path); err != nil {
			return nil, wrap(ErrIO, err)
		}
		key, err = os.ReadFile(path)
	}
	if err == nil && len(key) != originKeyBytes {
		err = fmt.Errorf("%s does not hold %d bytes: remove it, and snapshots that were made so far ask before they give anything of this host away", path, originKeyBytes)
	}
	return key, wrap(ErrIO, err)
}

// makeKey makes a file with a new key, unless another process is faster.
func makeKey(path string) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".key-") // which nobody else may read
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	key := make([]byte, originKeyBytes)
	_, _ = rand.Read(key) // never fails
	_, err = f.Write(key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// originOf signs a checkpoint with these sums of its files.
func (h home) originOf(sums map[string]string) (string, error) {
	key, err := h.originKey(true)
	if err != nil {
		return "", err
	}
	return signed(key, sums), nil
}

func signed(key []byte, sums map[string]string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("gomsb full snapshot 1\n"))
	for _, k := range sortedKeys(sums) {
		fmt.Fprintf(mac, "%s %s\n", k, sums[k])
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// isOwn reports that this data root made the checkpoint at dir, whose files have these sums.
func (h home) isOwn(dir string, sums map[string]string) bool {
	key, err := h.originKey(false)
	if err != nil {
		return false
	}
	origin, err := readSmall(filepath.Join(dir, originName))
	return err == nil && hmac.Equal(bytes.TrimSpace(origin), []byte(signed(key, sums)))
}

// wishes are what a sandbox whose directory is dir gets of the host, beyond what every
// sandbox gets.
func (s *spec) wishes(dir string) (all []string, err error) {
	wish := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, m := range s.Mounts {
		switch {
		case m.Type == "Bind":
			wish("%s of this host on %s", m.Host, m.Guest)
		case m.Type == "Named":
			wish("volume %s on %s", m.Name, m.Guest)
		case m.Type == "DiskImage" && filepath.Dir(m.Host) != dir:
			wish("disk image %s on %s", m.Host, m.Guest)
		}
	}
	routes, err := s.vsockRoutes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		wish("socket %s at vsock port %d", r.HostSocket, r.Port)
	}
	n := launch.DefaultNetworkConfig()
	if len(s.Network) > 0 {
		if err := json.Unmarshal(s.Network, &n); err != nil {
			return nil, wrap(ErrInvalidConfig, err)
		}
	}
	for _, secret := range n.Secrets.Secrets {
		wish("secret %s", secret.EnvVar)
	}
	plain := launch.DefaultNetworkConfig()
	n.Ports, n.Secrets = plain.Ports, plain.Secrets
	n.TLS.Enabled = plain.TLS.Enabled // secrets have it intercepted
	if n.Enabled && !reflect.DeepEqual(n, plain) {
		wish("a network that is not the usual one")
	}
	return all, nil
}

// checkTrust refuses to give a sandbox of somebody else's making anything of the host
// unless the caller wants that.
func (h home) checkTrust(c *SandboxConfig, path string, s *spec, own bool) error {
	if own || c.TrustConfig {
		return nil
	}
	all, err := s.wishes(h.sandbox(s.Name))
	if err != nil || len(all) == 0 {
		return err
	}
	return fail(ErrInvalidConfig, "snapshot %s was not made here, and its sandbox wants of this host: %s. If you trust who made it with that, say so with WithTrustedConfig or --trust-config", path, strings.Join(all, ", "))
}
