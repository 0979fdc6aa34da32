package launch

// The messages of the control socket, by which a sandbox is changed while it runs: one
// line of JSON asks, one answers.

// ControlReply is an answer. What it has beside OK depends on the request.
type ControlReply struct {
	OK           bool          `json:"ok"`
	Error        string        `json:"error,omitempty"` // unless OK
	Capabilities *Capabilities `json:"capabilities,omitempty"`
	Memory       *MemoryState  `json:"memory,omitempty"`
	CPU          *CPUState     `json:"cpu,omitempty"`
}

// Capabilities say what of a running sandbox can be changed, or done with it.
type Capabilities struct {
	CPUResize     bool `json:"cpu_resize"`
	MemoryResize  bool `json:"memory_resize"`
	SecretsUpdate bool `json:"secrets_update"`
	Checkpoint    bool `json:"checkpoint"` // it can be saved; of gomsb only
}

// MemoryState is the guest's memory in MiB.
type MemoryState struct {
	BootMiB    uint32 `json:"boot_mib"`    // what it has at least
	TargetMiB  uint32 `json:"target_mib"`  // what it should have
	CurrentMiB uint32 `json:"current_mib"` // what it uses
	MaxMiB     uint32 `json:"max_mib"`
}

// CPUState is the guest's processors.
type CPUState struct {
	Possible        uint8 `json:"possible"`
	RequestedOnline uint8 `json:"requested_online"`
	ActualOnline    uint8 `json:"actual_online"`
	Enforced        uint8 `json:"enforced"` // more cannot run, whatever the guest does
}

// SecretChange is a change of a secret: rotate with a Value, remove, or set_allowed_hosts
// with Hosts.
type SecretChange struct {
	Change string   `json:"change"`
	Name   string   `json:"name"`
	Value  string   `json:"value,omitempty"`
	Hosts  []string `json:"hosts,omitempty"`
}

// String is without the value.
func (c SecretChange) String() string { return c.Change + " secret " + c.Name }

// GoString is String.
func (c SecretChange) GoString() string { return c.String() }
