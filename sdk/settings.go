package microsandbox

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gomsb/gomsb/oci/registry"
)

// settings are what this package wants to know of config.json. Paths are absolute, or
// empty for the usual place; a relative one counts from the working directory, as for
// microsandbox 0.6.18.
type settings struct {
	Home            string `json:"home"`
	SandboxDefaults struct {
		OCI rootDefaults `json:"oci"`
	} `json:"sandbox_defaults"`
	Registries struct {
		CACerts string                   `json:"ca_certs"`
		Hosts   map[string]registry.Host `json:"hosts"`
	} `json:"registries"`
	Paths struct {
		MSB       string `json:"msb"`
		Libkrunfw string `json:"libkrunfw"`
		Cache     string `json:"cache"`
		Sandboxes string `json:"sandboxes"`
		Volumes   string `json:"volumes"`
		Snapshots string `json:"snapshots"`
		Secrets   string `json:"secrets"`
	} `json:"paths"`
}

// readSettings reads config.json; one that is missing says nothing.
func readSettings(file string) (settings, error) {
	var s settings
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, wrap(ErrIO, err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, &Error{Kind: ErrInvalidConfig, Message: file, Cause: err}
	}
	p := &s.Paths
	for _, path := range []*string{&s.Home, &p.MSB, &p.Libkrunfw, &p.Cache, &p.Sandboxes, &p.Volumes, &p.Snapshots, &p.Secrets} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return s, wrap(ErrIO, err)
		}
	}
	return s, nil
}
