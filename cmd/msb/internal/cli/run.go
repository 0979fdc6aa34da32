package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func generatedName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return "msb-" + hex.EncodeToString(b[:])
}

// splitImage separates IMAGE from the command after --.
func splitImage(cmd *cobra.Command, args []string) (image string, command []string, err error) {
	dash := cmd.ArgsLenAtDash()
	before := args
	if dash >= 0 {
		before, command = args[:dash], args[dash:]
	}
	if len(before) > 1 {
		return "", nil, unexpected(before[1])
	}
	if len(before) == 1 {
		image = before[0]
	}
	return image, command, nil
}

func (a *app) createCmd() *cobra.Command {
	c := &creation{}
	cmd := &cobra.Command{
		Use: "create [IMAGE]", Short: "Create a sandbox and leave it running",
		RunE: func(cmd *cobra.Command, args []string) error {
			image, command, err := splitImage(cmd, args)
			if err != nil {
				return err
			}
			if len(command) > 0 {
				return unexpected(command[0])
			}
			opts, err := c.options(cmd, a, image)
			if err != nil {
				return err
			}
			name := c.name
			if name == "" {
				name = generatedName()
			}
			begin := time.Now()
			sb, err := msb.CreateSandbox(cmd.Context(), name, append(opts, msb.WithDetached())...)
			if err != nil {
				return advise(err, msb.ErrSandboxAlreadyExists, "choose another name, or remove that sandbox first with --replace")
			}
			if err := sb.Detach(cmd.Context()); err != nil {
				return err
			}
			if c.name == "" {
				fmt.Fprintln(a.Out, name)
			}
			if !c.quiet {
				ui.Done(a.Err, "Created", name, time.Since(begin))
			}
			return nil
		},
	}
	c.flags(cmd.Flags())
	return cmd
}

// running is one invocation of msb run.
type running struct {
	creation
	execution
	detach bool
}

func (a *app) runCmd() *cobra.Command {
	r := &running{}
	cmd := &cobra.Command{
		Use: "run [IMAGE] [-- COMMAND...]", Short: "Create a sandbox, run a command in it, stop it",
		RunE: func(cmd *cobra.Command, args []string) error {
			image, command, err := splitImage(cmd, args)
			if err != nil {
				return err
			}
			execOpts, err := r.execution.options()
			if err != nil {
				return err
			}
			h, err := r.existing(cmd.Context())
			if err != nil {
				return err
			}
			if h == nil {
				return a.runNew(cmd, r, image, execOpts, command)
			}
			if ignored := overridden(cmd.Flags()); len(ignored) > 0 {
				ui.Warn(a.Err, fmt.Sprintf("sandbox %s exists: %s ignored", h.Name(), strings.Join(ignored, ", ")), "remove it first, or use --replace")
			}
			if r.detach {
				return a.runDetached(cmd.Context(), h, command)
			}
			return a.runIn(cmd.Context(), h, r, execOpts, command)
		},
	}
	r.creation.flags(cmd.Flags())
	r.execution.flags(cmd)
	cmd.Flags().StringVar(&r.detachKeys, "detach-keys", "ctrl-]", "keys that leave an interactive command's sandbox running")
	cmd.Flags().BoolVarP(&r.detach, "detach", "d", false, "run the command in the background and print the sandbox's name")
	for _, flag := range []string{"tty", "timeout", "rlimit"} {
		exclusive(cmd.Flags(), "detach", flag)
	}
	return cmd
}

// existing returns the sandbox that --name means, nil if there is none or it is to be
// replaced.
func (r *running) existing(ctx context.Context) (*msb.SandboxHandle, error) {
	if r.name == "" || r.replace || r.replaceTimeout != "" {
		return nil, nil
	}
	h, err := msb.GetSandbox(ctx, r.name)
	if msb.IsKind(err, msb.ErrSandboxNotFound) {
		return nil, nil
	}
	return h, err
}

func (a *app) runNew(cmd *cobra.Command, r *running, image string, execOpts []msb.ExecOption, command []string) error {
	ctx := cmd.Context()
	opts, err := r.creation.options(cmd, a, image)
	if err != nil {
		return err
	}
	name := r.name
	if name == "" {
		name = generatedName()
		opts = append(opts, msb.WithEphemeral(true))
	}
	if r.detach {
		if len(command) > 0 {
			opts = append(opts, msb.WithCmd(command...))
		}
		sb, err := msb.CreateSandbox(ctx, name, append(opts, msb.WithDetached(), msb.WithStartupDefault())...)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Out, name)
		return sb.Detach(ctx)
	}
	sb, err := msb.CreateSandbox(ctx, name, opts...)
	if err != nil {
		return err
	}
	return a.runCommand(ctx, &session{Sandbox: sb, started: true}, r, execOpts, command)
}

// runIn runs a command in an existing sandbox, which is stopped afterwards only if it
// was started for the purpose.
func (a *app) runIn(ctx context.Context, h *msb.SandboxHandle, r *running, execOpts []msb.ExecOption, command []string) error {
	s, err := connect(ctx, h)
	if err != nil {
		return err
	}
	return a.runCommand(ctx, s, r, execOpts, command)
}

// runCommand runs the sandbox's own command; one that is given replaces its CMD.
func (a *app) runCommand(ctx context.Context, s *session, r *running, execOpts []msb.ExecOption, command []string) error {
	var argv []string
	var err error
	if len(command) > 0 {
		argv, err = s.CommandFor(command...)
	} else {
		argv, err = a.defaultCommand(s.Sandbox, &r.execution)
	}
	code := 0
	if err == nil && len(argv) > 0 {
		code, err = a.execute(ctx, s.Sandbox, &r.execution, execOpts, argv)
	}
	return s.finish(ctx, a, code, err)
}

// runDetached lets an existing sandbox run a command in the background.
func (a *app) runDetached(ctx context.Context, h *msb.SandboxHandle, command []string) error {
	if h.Live() {
		return errors.New("sandbox " + h.Name() + " is running: a command ends with the msb that started it; stop the sandbox first, or use msb exec in the background")
	}
	c, err := h.Config()
	if err != nil {
		return err
	}
	argv := c.DefaultCommand()
	if len(command) > 0 {
		argv = slices.Concat(c.Entrypoint, command)
	}
	if len(argv) == 0 {
		return errors.New("no command provided, and sandbox " + h.Name() + " has none of its own")
	}
	sb, err := h.StartCommand(ctx, argv[0], argv[1:]...)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Out, h.Name())
	return sb.Detach(ctx)
}
