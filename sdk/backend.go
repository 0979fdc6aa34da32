package microsandbox

import (
	"os"
	"strings"
)

// BackendKind is where sandboxes run.
type BackendKind string

// The kinds of backend. This release runs sandboxes on this machine only.
const (
	BackendLocal   BackendKind = "local"
	BackendCloud   BackendKind = "cloud"
	BackendUnknown BackendKind = "unknown"
)

// BackendInfo is the backend that is chosen, and by what. It never holds a key.
type BackendInfo struct {
	Kind    BackendKind `json:"kind"`
	APIURL  string      `json:"api_url,omitempty"`
	Source  string      `json:"source"` // MSB_BACKEND, MSB_PROFILE, active_profile or default
	Profile string      `json:"profile,omitempty"`
}

// profile is one of config.json's profiles.
type profile struct {
	Backend   BackendKind `json:"backend"`
	APIKeyRef string      `json:"api_key_ref"` // env:NAME or inline:KEY
	URL       string      `json:"url"`
}

// DefaultBackendInfo tells the backend that MSB_BACKEND, else the profile that
// MSB_PROFILE names, else the active profile of config.json chooses; the local one by
// default. MSB_BACKEND=cloud takes MSB_API_KEY and MSB_API_URL, or such a profile. It fails with ErrInvalidConfig where the choice is none.
func DefaultBackendInfo() (BackendInfo, error) {
	h, err := openHome()
	if err != nil {
		return BackendInfo{Kind: BackendUnknown}, err
	}
	return h.backend()
}

func (h home) backend() (BackendInfo, error) {
	none := BackendInfo{Kind: BackendUnknown}
	name, source := os.Getenv("MSB_PROFILE"), "MSB_PROFILE"
	if name == "" {
		name, source = h.settings.ActiveProfile, "active_profile"
	}
	switch kind := BackendKind(os.Getenv("MSB_BACKEND")); {
	case kind == "" && name == "":
		return BackendInfo{Kind: BackendLocal, Source: "default"}, nil
	case kind == "":
	case kind == BackendLocal:
		return BackendInfo{Kind: kind, Source: "MSB_BACKEND"}, nil
	case kind != BackendCloud:
		return none, fail(ErrInvalidConfig, "MSB_BACKEND must be 'local' or 'cloud', got %q", string(kind))
	case os.Getenv("MSB_API_KEY") != "":
		return BackendInfo{Kind: kind, Source: "MSB_BACKEND", APIURL: orDefault(os.Getenv("MSB_API_URL"), defaultAPI)}, nil
	case name == "":
		return none, fail(ErrInvalidConfig, "MSB_BACKEND=cloud requires a non-empty MSB_API_KEY or a cloud profile")
	default:
		source = "MSB_BACKEND"
	}
	p, ok := h.settings.Profiles[name]
	if !ok {
		return none, fail(ErrInvalidConfig, "active profile %q not found in SDK config", name)
	}
	if err := p.check(name); err != nil {
		return none, err
	}
	info := BackendInfo{Kind: orDefault(p.Backend, BackendLocal), Source: source, Profile: name}
	switch {
	case info.Kind == BackendCloud:
		info.APIURL = orDefault(p.URL, defaultAPI)
	case source == "MSB_BACKEND":
		return none, fail(ErrInvalidConfig, "MSB_BACKEND=cloud cannot select local profile %q", name)
	}
	return info, nil
}

// defaultAPI is where the cloud is unless MSB_API_URL or a profile says otherwise.
const defaultAPI = "https://api.microsandbox.dev"

// check reports a profile that chooses nothing.
func (p *profile) check(name string) error {
	switch p.Backend {
	case "", BackendLocal:
		return nil
	case BackendCloud:
	default:
		return fail(ErrInvalidConfig, "profile %q: backend must be 'local' or 'cloud', got %q", name, string(p.Backend))
	}
	variable, fromEnv := strings.CutPrefix(p.APIKeyRef, "env:")
	switch {
	case p.APIKeyRef == "":
		return fail(ErrInvalidConfig, "profile %q backend=cloud requires an 'api_key_ref' field", name)
	case fromEnv && os.Getenv(variable) == "":
		return fail(ErrInvalidConfig, "profile %q: env var %q not set", name, variable)
	case !fromEnv && !strings.HasPrefix(p.APIKeyRef, "inline:"):
		return fail(ErrInvalidConfig, "profile %q: 'api_key_ref' must begin with env: or inline:", name)
	}
	return nil
}

// checkBackend refuses to run locally what is meant for another backend.
func (h home) checkBackend() error {
	info, err := h.backend()
	if err == nil && info.Kind != BackendLocal {
		err = fail(ErrUnsupportedOperation, "backend %q, which %s chooses, is not available in this release: unset it or choose local", string(info.Kind), info.Source)
	}
	return err
}

// BackendKind is where the sandbox runs: on this machine.
func (s *Sandbox) BackendKind() BackendKind { return BackendLocal }

// BackendKind is where the sandbox is: on this machine.
func (h *SandboxHandle) BackendKind() BackendKind { return BackendLocal }
