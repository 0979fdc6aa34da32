package client

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/gomsb/gomsb/guestagent/proto"
)

// Errors that calls wrap.
var (
	// ErrDisconnected reports that the connection ended: the sandbox stopped, the relay
	// closed it, or the stream broke the frame format. All sessions end with it.
	ErrDisconnected = errors.New("connection to the guest agent ended")
	// ErrClosed reports use of a client or session after Close.
	ErrClosed = errors.New("agent client closed")
	// ErrProtocol reports a reply that makes no sense for its session.
	ErrProtocol = errors.New("guest agent broke the protocol")
	// ErrTooOld reports a message the guest's generation does not know.
	ErrTooOld = errors.New("sandbox runtime is too old")
	// ErrStalled reports a session ended because nobody read its output while other
	// sessions of the connection were waiting behind it.
	ErrStalled = errors.New("session output was not read in time; use a connection of its own")
	// ErrTooLarge reports output or a file beyond Options.MaxCollect; use the streaming
	// call instead.
	ErrTooLarge = errors.New("too large to collect in memory")
	// ErrNoIDs reports that all ids of the connection are in use.
	ErrNoIDs = errors.New("no free session id on this connection")
)

// GenerationError says which message the guest is too old for. It is [ErrTooOld].
type GenerationError struct {
	Type   proto.Type
	Needs  uint8
	Speaks uint8
}

func (e *GenerationError) Error() string {
	return fmt.Sprintf("the sandbox runtime is too old for '%s' (needs protocol generation %d, the sandbox speaks %d); restart the sandbox to update its runtime",
		e.Type, e.Needs, e.Speaks)
}

// Is makes the error an ErrTooOld.
func (e *GenerationError) Is(target error) bool { return target == ErrTooOld }

// RemoteError is a core.error: the guest refused a message.
type RemoteError struct {
	Kind          proto.ErrorKind
	Message       string
	OffendingType proto.Type // "" if the guest did not say
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("guest agent: %s: %s", e.Kind, e.Message)
}

// KindPaused is the kind of a [RemoteError] of the host's runtime: the guest stands still,
// and takes nothing new until the sandbox is resumed.
const KindPaused proto.ErrorKind = "sandbox_paused"

// ExecError says why a command did not start. It is fs.ErrNotExist for kind not_found and
// fs.ErrPermission for kind permission_denied.
type ExecError struct {
	Command   string
	Kind      proto.ExecFailureKind
	Errno     int // Linux error number, 0 if there is none
	ErrnoName string
	Message   string
	Stage     string
}

func (e *ExecError) Error() string { return fmt.Sprintf("exec failed: %s", e.Message) }

// Is matches the fs errors that the kind corresponds to.
func (e *ExecError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Kind == proto.FailNotFound
	case fs.ErrPermission:
		return e.Kind == proto.FailPermissionDenied
	}
	return false
}

// StdinError says that a write to a command's stdin failed in the guest, usually because
// the command closed it.
type StdinError struct {
	Errno     int // Linux error number, 0 if there is none
	ErrnoName string
	Message   string
}

func (e *StdinError) Error() string { return "stdin of the command: " + e.Message }

// FSError is a failed file operation. It is fs.ErrNotExist, fs.ErrPermission or
// fs.ErrExist according to its error number, or to its text if that has none.
type FSError struct {
	Op      string // the operation's name on the wire
	Path    string // the first path of the request; "" for operations on handles
	Errno   int    // Linux error number, 0 if the message has none
	Message string // the guest's text
}

func (e *FSError) Error() string {
	if e.Path == "" {
		return "guest file: " + e.Message
	}
	return fmt.Sprintf("guest file %q: %s", e.Path, e.Message)
}

// Linux error numbers that have an fs error; the host may be another system.
const (
	linuxEPERM  = 1
	linuxENOENT = 2
	linuxEACCES = 13
	linuxEEXIST = 17
)

// Is matches the fs errors.
func (e *FSError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Errno == linuxENOENT ||
			e.Errno == 0 && (strings.Contains(e.Message, "No such file") || strings.Contains(e.Message, "not found"))
	case fs.ErrPermission:
		return e.Errno == linuxEACCES || e.Errno == linuxEPERM ||
			e.Errno == 0 && strings.Contains(strings.ToLower(e.Message), "permission denied")
	case fs.ErrExist:
		return e.Errno == linuxEEXIST
	}
	return false
}

// TCPError is a failed TCP session in the guest.
type TCPError struct {
	Errno   int // Linux error number, 0 if the message has none
	Message string
}

func (e *TCPError) Error() string { return "guest tcp: " + e.Message }

func remoteError(payload []byte) error {
	var p proto.CoreError
	if err := proto.Unmarshal(payload, &p); err != nil {
		return protocolError(proto.TypeError, err)
	}
	e := &RemoteError{Kind: p.Kind, Message: p.Message}
	if p.OffendingType != nil {
		e.OffendingType = *p.OffendingType
	}
	return e
}

func protocolError(t proto.Type, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrProtocol, t, err)
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
