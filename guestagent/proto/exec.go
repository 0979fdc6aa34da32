package proto

// Terminal size of an exec request that gives none, in character cells.
const (
	DefaultRows = 24
	DefaultCols = 80
)

// ExecRequest is the payload of core.exec.request. Cmd is looked up in PATH and run
// without a shell; Args are argv[1:]. Env entries are "K=V" and overlay the agent's
// environment. Cwd and User fall back to the sandbox's defaults when nil. Rows and Cols
// matter only with TTY.
type ExecRequest struct {
	Cmd     string   `cbor:"cmd"`
	Args    []string `cbor:"args" wire:"default"`
	Env     []string `cbor:"env" wire:"default"`
	Cwd     *string  `cbor:"cwd"`
	User    *string  `cbor:"user"`
	TTY     bool     `cbor:"tty" wire:"default"`
	Rows    uint16   `cbor:"rows" wire:"default"`
	Cols    uint16   `cbor:"cols" wire:"default"`
	Rlimits []Rlimit `cbor:"rlimits" wire:"default"`
}

func (r *ExecRequest) setDefaults() { r.Rows, r.Cols = DefaultRows, DefaultCols }

// Rlimit is one resource limit. Resource is the lower-case Linux name without RLIMIT_.
type Rlimit struct {
	Resource string `cbor:"resource" json:"resource"`
	Soft     uint64 `cbor:"soft" json:"soft"`
	Hard     uint64 `cbor:"hard" json:"hard"`
}

// ExecStarted is the payload of core.exec.started; PID is a guest process id.
type ExecStarted struct {
	PID uint32 `cbor:"pid"`
}

// ExecStdinError is the payload of core.exec.stdin.error: a write to the command's stdin
// failed. The session goes on.
type ExecStdinError struct {
	Errno     *int32  `cbor:"errno"`
	ErrnoName *string `cbor:"errno_name"`
	Message   string  `cbor:"message"`
}

// ExecExited is the payload of core.exec.exited. Code is 0-255, or -1 when a signal ended
// the command; a hostile guest may send any value.
type ExecExited struct {
	Code int32 `cbor:"code"`
}

// ExecFailureKind classifies why a command did not start.
type ExecFailureKind string

// The kinds of core.exec.failed.
const (
	FailNotFound         ExecFailureKind = "not_found"
	FailPermissionDenied ExecFailureKind = "permission_denied"
	FailNotExecutable    ExecFailureKind = "not_executable"
	FailBadCwd           ExecFailureKind = "bad_cwd"
	FailBadArgs          ExecFailureKind = "bad_args"
	FailResourceLimit    ExecFailureKind = "resource_limit"
	FailUserSetup        ExecFailureKind = "user_setup_failed"
	FailOutOfMemory      ExecFailureKind = "out_of_memory"
	FailPtySetup         ExecFailureKind = "pty_setup_failed"
	FailOther            ExecFailureKind = "other"
)

// ExecFailed is the payload of core.exec.failed. Errno is a Linux error number.
type ExecFailed struct {
	Kind      ExecFailureKind `cbor:"kind"`
	Errno     *int32          `cbor:"errno"`
	ErrnoName *string         `cbor:"errno_name"`
	Message   string          `cbor:"message"`
	Stage     *string         `cbor:"stage"`
}

// ExecResize is the payload of core.exec.resize, in character cells.
type ExecResize struct {
	Rows uint16 `cbor:"rows"`
	Cols uint16 `cbor:"cols"`
}

// ExecSignal is the payload of core.exec.signal: a Linux signal number; the agent acts on
// 1-31 only.
type ExecSignal struct {
	Signal int32 `cbor:"signal"`
}
