package microsandbox

import (
	"context"
	"encoding/json"

	"github.com/gomsb/gomsb/internal/store"
)

// ModificationPolicy says what Modify may do about a change that a running sandbox cannot
// take.
type ModificationPolicy string

// The policies; the default is ModificationPolicyNoRestart.
const (
	ModificationPolicyNoRestart ModificationPolicy = "no_restart" // refuse it, and all others with it
	ModificationPolicyNextStart ModificationPolicy = "next_start" // keep everything for the next start
	ModificationPolicyRestart   ModificationPolicy = "restart"    // restart the sandbox, detached
)

// ModifyOptions are changes of a sandbox; zero values change nothing.
type ModifyOptions struct {
	CPUs    uint8
	MaxCPUs uint8 // bounds CPUs while the sandbox runs

	MemoryMiB    uint32
	MaxMemoryMiB uint32 // bounds MemoryMiB while the sandbox runs

	RootDiskSizeMiB uint32 // of a managed or flat disk, which only grows

	Env          map[string]string
	EnvRemove    []string
	Labels       map[string]string
	LabelsRemove []string
	Workdir      string

	Secrets       map[string]SecretModifySpec // by name
	SecretsRemove []string

	Policy ModificationPolicy
	DryRun bool // plan only
}

// SecretModifySpec is a new secret or a change of one. At most one of Env, Value and Store
// is set.
type SecretModifySpec struct {
	Env          string   // the environment variable of this process that has the value
	Value        string   // the value, for the running sandbox alone: it is not kept
	Store        string   // not available in this release
	Placeholder  string   // "" leaves it, or is $MSB_ and the name
	AllowedHosts []string // as SecretEntry.AllowHostPatterns; none leaves them
}

// String does not show the value.
func (s SecretModifySpec) String() string { return "secret change" }

// GoString is String.
func (s SecretModifySpec) GoString() string { return s.String() }

// SandboxModificationPlan is what Modify did, or would do.
type SandboxModificationPlan struct {
	Sandbox      string                 `json:"sandbox"`
	Status       SandboxStatus          `json:"status"` // before
	Applied      bool                   `json:"applied"`
	Policy       ModificationPolicy     `json:"policy"`
	Changes      []PlannedChange        `json:"changes"`
	Conflicts    []ModificationConflict `json:"conflicts"`
	Warnings     []ModificationWarning  `json:"warnings"`
	ResizeStatus []ResourceResizeStatus `json:"resize_status,omitempty"`
}

// Kinds of PlannedChange.
const (
	changeConfig = "config"
	changeSecret = "secret"
)

// What PlannedChange.Disposition says about when a change takes effect.
const (
	takesLive        = "live"
	takesNextStart   = "next start"
	takesRestart     = "requires restart"
	takesUnsupported = "unsupported"
)

// PlannedChange is one change.
type PlannedChange struct {
	Kind  string // config or secret
	Field string // cpus, max_cpus, memory, max_memory, root_disk_size, env, label, workdir or secret
	Name  string // of the variable, label or secret
	// Change is added, updated or removed; of a secret also rotated, hosts updated or
	// placeholder updated.
	Change string
	// Before and After are the values of a config change, nil for none. A variable or
	// label is KEY=VALUE.
	Before, After *string
	// BeforeRef and AfterRef say where a secret's value comes from, such as env:NAME; nil
	// for none.
	BeforeRef, AfterRef *string
	Disposition         string   // live, next start, requires restart or unsupported
	AllowHosts          []string // of a secret, afterwards
	Reason              *string  // why the disposition is not live, where that is not plain
}

// MarshalJSON writes the fields of the change's kind, without those that are nil.
func (c PlannedChange) MarshalJSON() ([]byte, error) {
	fields := map[string]any{"kind": c.Kind, "field": c.Field, "change": c.Change, "disposition": c.Disposition}
	if c.Kind == changeSecret {
		fields["name"] = c.Name
	}
	for name, v := range map[string]*string{"before": c.Before, "after": c.After, "before_ref": c.BeforeRef, "after_ref": c.AfterRef, "reason": c.Reason} {
		if v != nil {
			fields[name] = *v
		}
	}
	if len(c.AllowHosts) > 0 {
		fields["allow_hosts"] = c.AllowHosts
	}
	return json.Marshal(fields)
}

// ModificationConflict is why a modification is refused.
type ModificationConflict struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// ModificationWarning is what a modification does not do.
type ModificationWarning struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// ResourceResizeStatus is how far a running guest is with a change of its size.
type ResourceResizeStatus struct {
	Resource  string `json:"resource"`  // cpus or memory
	Requested string `json:"requested"` // such as 2, 768 MiB or 1 GiB
	Actual    string `json:"actual"`    // what the guest has
	Enforced  string `json:"enforced"`  // what it can have at most by now
	State     string `json:"state"`     // applied, or converging: the guest is at it
}

// Modify changes the sandbox, which is Refresh'ed before, and returns what it did. It does
// everything or nothing: if there is a conflict, or a change needs a restart that the
// policy does not allow, it fails with ErrUnsupportedOperation (with ErrInvalidConfig for
// values that can never be) and the plan says why. A dry run returns such a plan without an
// error. A sandbox that is restarted runs detached.
func (h *SandboxHandle) Modify(ctx context.Context, o ModifyOptions) (*SandboxModificationPlan, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	var p *SandboxModificationPlan
	err := h.onCatalog(ctx, func(c *catalog, row store.Sandbox) error {
		m, err := c.planModification(ctx, row, o)
		if err != nil {
			return err
		}
		p = &m.SandboxModificationPlan
		if o.DryRun {
			return nil
		}
		if err := m.refusal(); err != nil {
			return err
		}
		return m.apply(ctx)
	})
	return p, err
}

// Modify is SandboxHandle.Modify. After a restart, which ends a connection, the sandbox is
// reached by its name again.
func (s *Sandbox) Modify(ctx context.Context, o ModifyOptions) (*SandboxModificationPlan, error) {
	h, err := getSandbox(ctx, s.home, s.name)
	if err != nil {
		return nil, err
	}
	if s.OwnsLifecycleOrFalse() && o.Policy == ModificationPolicyRestart && !o.DryRun {
		return nil, fail(ErrInvalidArgument, "sandbox %s ends with this handle: detach it before it is restarted", s.name)
	}
	return h.Modify(ctx, o)
}

// validate checks what needs no look at the sandbox.
func (o *ModifyOptions) validate() error {
	switch o.Policy {
	case "":
		o.Policy = ModificationPolicyNoRestart
	case ModificationPolicyNoRestart, ModificationPolicyNextStart, ModificationPolicyRestart:
	default:
		return fail(ErrInvalidArgument, "unknown modification policy %q: use no_restart, next_start or restart", string(o.Policy))
	}
	if err := checkEnv(o.Env); err != nil {
		return err
	}
	for _, k := range sortedKeys(o.Labels) {
		if err := checkLabel(k); err != nil {
			return err
		}
	}
	for _, k := range o.LabelsRemove {
		if err := checkLabel(k); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(o.Secrets) {
		if err := o.Secrets[name].validate(name); err != nil {
			return err
		}
	}
	return nil
}
