package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) execCmd() *cobra.Command {
	x := &execution{}
	var env []string
	var workdir, user string
	var stream, quiet bool
	cmd := &cobra.Command{
		Use: "exec <NAME> [-- COMMAND...]", Short: "Run a command in a sandbox",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := x.options()
			if err != nil {
				return err
			}
			vars := map[string]string{}
			for _, e := range env {
				k, v, err := flagtype.Env(e)
				if err != nil {
					return err
				}
				vars[k] = v
			}
			opts = append(opts, msb.WithExecEnv(vars), msb.WithExecCwd(workdir), msb.WithExecUser(user))
			if _, tty := ui.Terminal(a.In); stream && tty {
				return errors.New("--stream requires piped stdin; for an interactive command use `--tty`")
			}
			return a.exec(cmd.Context(), args[0], x, opts, args[1:])
		},
	}
	x.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&env, "env", "e", nil, "set a variable, KEY=VALUE, or KEY to copy it from here (repeatable)")
	f.StringVarP(&workdir, "workdir", "w", "", "working directory")
	f.StringVarP(&user, "user", "u", "", "user, NAME|UID[:GROUP|GID]")
	f.BoolVar(&stream, "stream", false, "pass piped input and output on as they come")
	f.BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	exclusive(f, "stream", "tty")
	return cmd
}

// exec runs a command in an existing sandbox. A running one is reached without a look
// into the catalogue; anything else goes the long way, which also knows what to say.
func (a *app) exec(ctx context.Context, name string, x *execution, opts []msb.ExecOption, argv []string) error {
	var s *session
	sb, err := msb.ConnectSandbox(ctx, name)
	switch {
	case err == nil:
		s = &session{Sandbox: sb}
	case ctx.Err() != nil:
		return err
	default:
		h, err := msb.GetSandbox(ctx, name)
		if err != nil {
			return err
		}
		if s, err = connect(ctx, h); err != nil {
			return err
		}
	}
	code := 0
	err = nil
	if len(argv) == 0 {
		argv, err = a.defaultCommand(s.Sandbox, x)
	}
	if len(argv) > 0 {
		code, err = a.execute(ctx, s.Sandbox, x, opts, argv)
	}
	return s.finish(ctx, a, code, err)
}
