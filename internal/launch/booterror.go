package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Stage says which part of a boot failed.
type Stage string

// The stages of a boot.
const (
	StageMount   Stage = "mount"
	StageBuildVM Stage = "build_vm"
	StageConfig  Stage = "config"
	StageNetwork Stage = "network"
	StageImage   Stage = "image"
	StageOther   Stage = "other"
)

// BootError is why a sandbox did not become ready. It is an error, and the content of
// boot-error.json, which the official clients read too; KernelLog is our addition.
type BootError struct {
	Time      time.Time
	Stage     Stage
	Errno     *int // host error number, nil if none was involved
	Message   string
	KernelLog []string // last lines of the guest's console
}

// Error is the message with its stage.
func (e *BootError) Error() string { return string(e.Stage) + ": " + e.Message }

// NewBootError describes err as a failure of stage at time now. An error that already is
// a BootError keeps its own stage.
func NewBootError(stage Stage, now time.Time, err error) *BootError {
	var boot *BootError
	if errors.As(err, &boot) {
		kept := *boot
		if kept.Time.IsZero() {
			kept.Time = now
		}
		return &kept
	}
	e := &BootError{Time: now, Stage: stage, Message: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		n := int(errno)
		e.Errno = &n
		// Official clients look for this suffix to choose a hint.
		e.Message += fmt.Sprintf(" (os error %d)", n)
	}
	return e
}

type bootErrorJSON struct {
	T         string   `json:"t"`
	Stage     Stage    `json:"stage"`
	Errno     *int     `json:"errno"`
	Message   string   `json:"message"`
	KernelLog []string `json:"kernel_log,omitempty"`
}

const bootErrorName = "boot-error.json"

// bootErrorTime is RFC 3339 in UTC with milliseconds.
const bootErrorTime = "2006-01-02T15:04:05.000Z"

// Write puts the boot error into logDir, replacing an older one atomically.
func (e *BootError) Write(logDir string) error {
	b, err := json.MarshalIndent(bootErrorJSON{
		T: e.Time.UTC().Format(bootErrorTime), Stage: e.Stage, Errno: e.Errno,
		Message: e.Message, KernelLog: e.KernelLog,
	}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(logDir, bootErrorName)
	if err := os.WriteFile(path+".tmp", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// ReadBootError reads what a runtime left in logDir: fs.ErrNotExist if nothing.
func ReadBootError(logDir string) (*BootError, error) {
	b, err := os.ReadFile(filepath.Join(logDir, bootErrorName))
	if err != nil {
		return nil, err
	}
	return parseBootError(b)
}

func parseBootError(b []byte) (*BootError, error) {
	var j bootErrorJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("%s: %w", bootErrorName, err)
	}
	t, err := time.Parse(time.RFC3339, j.T)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bootErrorName, err)
	}
	return &BootError{Time: t, Stage: j.Stage, Errno: j.Errno, Message: j.Message, KernelLog: j.KernelLog}, nil
}

// RemoveBootError deletes the boot error of an earlier start, if there is one.
func RemoveBootError(logDir string) error {
	err := os.Remove(filepath.Join(logDir, bootErrorName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
