package microsandbox

import (
	"context"
	"errors"
	"fmt"
)

// ErrorKind classifies an Error.
type ErrorKind int

// The kinds of Error. Their order carries no meaning.
const (
	ErrUnknown ErrorKind = iota
	ErrSandboxNotFound
	ErrSandboxNotRunning
	ErrSandboxAlreadyExists
	ErrSandboxStillRunning
	ErrVolumeNotFound
	ErrVolumeAlreadyExists
	ErrExecTimeout
	ErrExecFailed
	ErrFilesystem
	ErrPathNotFound
	ErrImageNotFound
	ErrImageInUse
	ErrImagePullFailed
	ErrSnapshotNotFound
	ErrSnapshotAlreadyExists
	ErrSnapshotSandboxRunning
	ErrSnapshotImageMissing
	ErrSnapshotIntegrity
	ErrSnapshotMigration
	ErrPatchFailed
	ErrNetworkPolicy
	ErrSecretViolation
	ErrTLS
	ErrIO
	ErrInvalidConfig
	ErrInvalidArgument
	ErrInvalidHandle
	ErrBufferTooSmall
	ErrCancelled
	ErrLibraryNotLoaded
	ErrMetricsDisabled
	ErrMetricsUnavailable
	ErrUnsupportedOperation
	ErrInternal
	ErrNoDefaultCommand
	// ErrSandboxPaused is of gomsb only: the sandbox takes nothing new until Resume.
	ErrSandboxPaused
)

var kindNames = [...]string{
	ErrUnknown:                "Unknown",
	ErrSandboxNotFound:        "SandboxNotFound",
	ErrSandboxNotRunning:      "SandboxNotRunning",
	ErrSandboxAlreadyExists:   "SandboxAlreadyExists",
	ErrSandboxStillRunning:    "SandboxStillRunning",
	ErrVolumeNotFound:         "VolumeNotFound",
	ErrVolumeAlreadyExists:    "VolumeAlreadyExists",
	ErrExecTimeout:            "ExecTimeout",
	ErrExecFailed:             "ExecFailed",
	ErrFilesystem:             "Filesystem",
	ErrPathNotFound:           "PathNotFound",
	ErrImageNotFound:          "ImageNotFound",
	ErrImageInUse:             "ImageInUse",
	ErrImagePullFailed:        "ImagePullFailed",
	ErrSnapshotNotFound:       "SnapshotNotFound",
	ErrSnapshotAlreadyExists:  "SnapshotAlreadyExists",
	ErrSnapshotSandboxRunning: "SnapshotSandboxRunning",
	ErrSnapshotImageMissing:   "SnapshotImageMissing",
	ErrSnapshotIntegrity:      "SnapshotIntegrity",
	ErrSnapshotMigration:      "SnapshotMigration",
	ErrPatchFailed:            "PatchFailed",
	ErrNetworkPolicy:          "NetworkPolicy",
	ErrSecretViolation:        "SecretViolation",
	ErrTLS:                    "TLS",
	ErrIO:                     "IO",
	ErrInvalidConfig:          "InvalidConfig",
	ErrInvalidArgument:        "InvalidArgument",
	ErrInvalidHandle:          "InvalidHandle",
	ErrBufferTooSmall:         "BufferTooSmall",
	ErrCancelled:              "Cancelled",
	ErrLibraryNotLoaded:       "LibraryNotLoaded",
	ErrMetricsDisabled:        "MetricsDisabled",
	ErrMetricsUnavailable:     "MetricsUnavailable",
	ErrUnsupportedOperation:   "UnsupportedOperation",
	ErrInternal:               "Internal",
	ErrNoDefaultCommand:       "NoDefaultCommand",
	ErrSandboxPaused:          "SandboxPaused",
}

// String is the kind's name without the Err prefix.
func (k ErrorKind) String() string {
	if k >= 0 && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[ErrUnknown]
}

// Error is the error of every function in this package, except those that say
// otherwise.
type Error struct {
	Kind    ErrorKind
	Message string
	Cause   error
}

// Error is the message, the cause, both, or the name of the kind, as far as set.
func (e *Error) Error() string {
	switch {
	case e.Message != "" && e.Cause != nil:
		return e.Message + ": " + e.Cause.Error()
	case e.Message != "":
		return e.Message
	case e.Cause != nil:
		return e.Cause.Error()
	}
	return e.Kind.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// IsKind reports whether err is, or wraps, an Error of the given kind.
func IsKind(err error, kind ErrorKind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

func fail(kind ErrorKind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// wrap gives err a kind unless it has one. The end of a context is always
// ErrCancelled.
func wrap(kind ErrorKind, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		kind = ErrCancelled
	}
	return &Error{Kind: kind, Cause: err}
}

// cancelled is the error of a call whose context has ended.
func cancelled(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(cause, err) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return &Error{Kind: ErrCancelled, Cause: err}
}
