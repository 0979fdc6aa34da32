package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
)

// Exit codes besides a guest command's own.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
	exitBySig = 128 // plus the signal's number
)

// app is one invocation.
type app struct {
	ui.Streams
	level string // chosen with --error ... --trace, "" for none
	sig   *signals
	line  *ui.Progress // that is to vanish before an error is printed; nil for none
}

// exitStatus ends the program with a code and without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a mistake in the command line, exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs msb with the arguments after the program's name and returns its exit code.
func Main(args []string, s ui.Streams) int {
	ctx, sig := catchSignals(context.Background())
	defer sig.release()
	a := &app{Streams: s, sig: sig}
	root := a.root(args)
	root.SetArgs(append([]string{}, args...)) // never nil, which means os.Args
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(ctx)
	return a.finish(cmd, err)
}

// finish renders err and chooses the exit code.
func (a *app) finish(cmd *cobra.Command, err error) int {
	if a.line != nil {
		a.line.Clear()
	}
	var status exitStatus
	var bad usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &bad):
		fmt.Fprintf(a.Err, "error: %s\n\n", ui.Plain(bad.Error()))
		if cmd != nil {
			fmt.Fprintf(a.Err, "Usage: %s\n\n", cmd.UseLine())
		}
		fmt.Fprintln(a.Err, "For more information, try '--help'.")
		return exitUsage
	}
	return a.report(err)
}
