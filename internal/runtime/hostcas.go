package runtime

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// hostBundles are where systems keep all the certificate authorities that they trust in
// one file; the first that is there counts.
var hostBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
}

// placeTrust leaves the host's certificate authorities for the guest, if it is to trust
// them, and takes away what an earlier run left. The guest could write to the directory
// then, so nothing in it is followed.
func placeTrust(runtimeDir string, trustHost bool) error {
	dir := filepath.Join(runtimeDir, "tls")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if !trustHost {
		return nil
	}
	text, err := hostCAs(hostBundles)
	if err != nil || text == nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "host-cas.pem"), text, 0o644)
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
