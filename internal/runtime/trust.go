package runtime

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	mitm "github.com/gomsb/gomsb/netstack/tls"
)

// hostBundles are where systems keep all the certificate authorities that they trust in
// one file; the first that is there counts.
var hostBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
}

// placeTrust leaves certificate authorities for the guest to trust: that of interception,
// nil without one, and the host's, if it is to trust them. It takes away what an earlier run
// left. The guest could write to the directory then, so nothing in it is followed.
func placeTrust(runtimeDir string, own *mitm.Authority, trustHost bool) error {
	dir := filepath.Join(runtimeDir, "tls")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	files := make(map[string][]byte)
	if own != nil {
		files["ca.pem"] = own.PEM()
	}
	if trustHost {
		text, err := hostCAs(hostBundles)
		if err != nil {
			return err
		}
		if text != nil {
			files["host-cas.pem"] = text
		}
	}
	if len(files) == 0 {
		return nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// hostCAs is the certificates of the first bundle that is there, each once; nil without
// any.
func hostCAs(bundles []string) ([]byte, error) {
	for _, name := range bundles {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return certificates(text), nil
	}
	return nil, nil
}

// certificates is the CERTIFICATE blocks of a PEM text, each once, and nothing else.
func certificates(text []byte) []byte {
	var out bytes.Buffer
	seen := make(map[string]bool)
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out.Bytes()
		}
		if block.Type == "CERTIFICATE" && !seen[string(block.Bytes)] {
			seen[string(block.Bytes)] = true
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
}
