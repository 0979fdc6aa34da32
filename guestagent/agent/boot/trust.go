//go:build linux

package boot

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/gomsb/gomsb/guestagent/agent/environ"
)

// Certificates that the host leaves in the runtime directory.
const (
	ownCA   = runtimeDir + "/tls/ca.pem"
	hostCAs = runtimeDir + "/tls/host-cas.pem"
)

// bundles are the places where distributions keep all trusted certificates in one file.
var bundles = [...]string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}

// anchorDirs are where distributions look when they build a new bundle.
var anchorDirs = [...]string{"/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"}

// installTrust makes programs in the guest trust the host's certificates.
func installTrust(env []string) ([]string, error) {
	ca, err := optional(ownCA)
	if err != nil {
		return env, err
	}
	if ca != nil {
		placeAnchors("microsandbox-ca", ca)
		bundle, err := appendBundle(ca)
		if err != nil {
			return env, err
		}
		for _, key := range [...]string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
			env = environ.Set(env, key+"="+bundle)
		}
		env = environ.Set(env, "NODE_EXTRA_CA_CERTS="+ownCA)
	}
	cas, err := optional(hostCAs)
	if err != nil || cas == nil {
		return env, err
	}
	placeAnchors("microsandbox-host-cas", cas)
	_, err = appendBundle(cas)
	return env, err
}

// optional reads a file that may be missing.
func optional(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// placeAnchors leaves copies for the distribution's own tools, as far as possible.
func placeAnchors(name string, pem []byte) {
	for _, dir := range anchorDirs {
		if os.MkdirAll(dir, 0o755) != nil {
			continue
		}
		for _, ext := range [...]string{".pem", ".crt"} {
			_ = os.WriteFile(dir+"/"+name+ext, pem, etcMode)
		}
	}
}

// appendBundle adds certificates to the bundle, once, and returns its path.
func appendBundle(pem []byte) (string, error) {
	name, old := bundles[0], []byte(nil)
	for _, b := range bundles {
		text, err := optional(b)
		if err != nil {
			return "", err
		}
		if text != nil {
			name, old = b, text
			break
		}
	}
	if bytes.Contains(old, bytes.TrimSpace(pem)) {
		return name, nil
	}
	text := old
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return name, writeFile(name, string(append(text, pem...)))
}

// The block in /etc/profile that gives login shells the scripts.
const (
	profile      = "/etc/profile"
	profileBegin = "# >>> microsandbox scripts path >>>"
	profileEnd   = "# <<< microsandbox scripts path <<<"
	profileText  = profileBegin + `
case ":$PATH:" in
  *:` + scriptsDir + `:*) ;;
  *) export PATH="` + scriptsDir + `:$PATH" ;;
esac
` + profileEnd + "\n"
)

// profileBlock appends the block to /etc/profile, once.
func profileBlock() error {
	text, err := optional(profile)
	if err != nil {
		return err
	}
	old := string(text)
	if strings.Contains(old, profileBegin) && strings.Contains(old, profileEnd) {
		return nil
	}
	if old != "" && !strings.HasSuffix(old, "\n") {
		old += "\n"
	}
	return writeFile(profile, old+profileText)
}
