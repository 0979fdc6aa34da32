package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// report prints one error the way msb does and returns its exit code. Nothing is said
// about what the user interrupted.
func (a *app) report(err error) int {
	var exec *msb.ExecFailure
	var boot *msb.StartError
	var gone lost
	switch {
	case errors.As(err, &exec):
		return a.reportExec(exec)
	case errors.As(err, &boot):
		a.reportBoot(boot)
		return exitError
	case errors.As(err, &gone):
		ui.Error(a.Err, gone.Error(), gone.cause.Error(), "unless it was ephemeral, msb logs --source system "+gone.name+" says why")
		return exitError
	case errors.Is(err, context.Canceled) && a.sig != nil && a.sig.caught() != 0:
		return exitBySig + int(a.sig.caught())
	}
	var lines []string
	if h, ok := err.(advised); ok { //nolint:errorlint // the outermost alone
		err, lines = h.error, []string{h.advice}
	}
	text := err.Error()
	if e, ok := err.(*msb.Error); ok && e.Kind == msb.ErrInvalidConfig { //nolint:errorlint // not if it is part of a longer text
		text = "invalid config: " + text
	}
	ui.Error(a.Err, text, lines...)
	return exitError
}

// advised is an error with what its reader may do about it.
type advised struct {
	error
	advice string
}

func (a advised) Unwrap() error { return a.error }

// advise adds to an error of a kind what its reader may do about it.
func advise(err error, kind msb.ErrorKind, advice string) error {
	if msb.IsKind(err, kind) {
		return advised{err, advice}
	}
	return err
}

func (a *app) reportBoot(e *msb.StartError) {
	var lines []string
	if f := e.Failure; f != nil {
		lines = append(lines, f.Stage+": "+f.Message)
		if hint := bootHint(f); hint != "" {
			lines = append(lines, hint)
		}
		if e.Removed {
			for _, l := range f.KernelLog {
				lines = append(lines, "guest: "+l)
			}
		}
	} else if e.Cause != nil {
		lines = append(lines, e.Cause.Error())
	}
	switch {
	case e.FromSnapshot && e.Restored:
		lines = append(lines, "to boot from the snapshot's disk, without its memory, add --disk-only")
	case e.Restored:
		lines = append(lines, "nothing is left of the copy")
	case e.Removed:
		lines = append(lines, "give the sandbox a --name to keep its logs")
	default:
		lines = append(lines, "run `msb logs --source system "+e.Name+"` for full diagnostics")
	}
	ui.Error(a.Err, fmt.Sprintf("failed to start %q", e.Name), lines...)
}

func bootHint(f *msb.BootFailure) string {
	if f.Errno == nil {
		return ""
	}
	e := syscall.Errno(*f.Errno)
	switch {
	case f.Stage == "mount" && e == syscall.ENOENT:
		return "a host path of a mount does not exist"
	case f.Stage == "mount" && e == syscall.EACCES:
		return "a host path of a mount is not readable for this user"
	case f.Stage == "image" && e == syscall.ENOENT:
		return "the image's files are missing; load or pull it again"
	case f.Stage == "network" && e == syscall.EADDRINUSE:
		return "a published port is already in use on this host"
	}
	return ""
}

// execFailures say, for each kind of a command that could not be started, how it is
// called, what code msb ends with and what may help.
var execFailures = map[string]struct {
	label string
	code  int
	hint  string
}{
	"not_found":         {"not found", 127, "the program is not in the sandbox's PATH; check the spelling or give its full path"},
	"permission_denied": {"permission denied", 126, "the file exists but this user must not run it; check its mode and the user"},
	"not_executable":    {"not executable", 126, "the file is no program for this sandbox; check its mode, format and interpreter line"},
	"bad_cwd":           {"bad cwd", exitError, "the working directory does not exist in the sandbox; choose another with -w"},
	"bad_args":          {"bad args", exitError, ""},
	"resource_limit":    {"resource limit", exitError, "a limit of the sandbox or of --rlimit is in the way"},
	"user_setup_failed": {"user setup", exitError, "the sandbox has no such user or group; check the spelling or give numbers, UID[:GID]"},
	"out_of_memory":     {"out of memory", exitError, "give the sandbox more with --memory"},
	"pty_setup_failed":  {"pty setup", exitError, "try --no-tty"},
}

func (a *app) reportExec(f *msb.ExecFailure) int {
	kind, ok := execFailures[f.Kind]
	if !ok {
		kind.label, kind.code = "exec", exitError
	}
	line := kind.label + ": " + f.Message
	if f.ErrnoName != "" {
		line += " (" + f.ErrnoName + ")"
	}
	lines := []string{line}
	if kind.hint != "" {
		lines = append(lines, kind.hint)
	}
	ui.Error(a.Err, fmt.Sprintf("failed to exec %q", f.Command), lines...)
	return kind.code
}
