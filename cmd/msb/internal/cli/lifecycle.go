package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) startCmd() *cobra.Command {
	t := &targets{}
	cmd := &cobra.Command{
		Use: "start [NAMES]...", Short: "Start stopped sandboxes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.each(cmd.Context(), a, args, "Started", t.quiet, func(ctx context.Context, name string) error {
				sb, err := msb.StartSandboxDetached(ctx, name)
				if err != nil {
					return err
				}
				return sb.Detach(ctx)
			})
		},
	}
	t.flags(cmd, "print nothing")
	return cmd
}

// stopFlags are those of stop and restart.
type stopFlags struct {
	targets
	force   bool
	timeout uint64
}

func (f *stopFlags) flags(cmd *cobra.Command) {
	f.targets.flags(cmd, "print errors only")
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "kill instead of asking the guest")
	cmd.Flags().Uint64VarP(&f.timeout, "timeout", "t", 10, "seconds to wait before killing")
}

func (f *stopFlags) stop(ctx context.Context, name string) error {
	h, err := msb.GetSandbox(ctx, name)
	if err != nil {
		return err
	}
	if f.force {
		return h.Kill(ctx)
	}
	return h.Stop(ctx, msb.WithStopTimeout(time.Duration(min(f.timeout, 1<<31))*time.Second))
}

func (a *app) stopCmd() *cobra.Command {
	f := &stopFlags{}
	cmd := &cobra.Command{
		Use: "stop [NAMES]...", Short: "Stop running sandboxes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.each(cmd.Context(), a, args, "Stopped", false, f.stop)
		},
	}
	f.flags(cmd)
	return cmd
}

func (a *app) restartCmd() *cobra.Command {
	f := &stopFlags{}
	cmd := &cobra.Command{
		Use: "restart [NAMES]...", Short: "Stop sandboxes and start them again",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.each(cmd.Context(), a, args, "Restarted", f.quiet, func(ctx context.Context, name string) error {
				h, err := msb.GetSandbox(ctx, name)
				if err != nil {
					return err
				}
				if s := h.Status(); s != msb.SandboxStatusStopped && s != msb.SandboxStatusCrashed && s != msb.SandboxStatusCreated {
					if err := f.stop(ctx, name); err != nil {
						return err
					}
				}
				sb, err := msb.StartSandboxDetached(ctx, name)
				if err != nil {
					return err
				}
				return sb.Detach(ctx)
			})
		},
	}
	f.flags(cmd)
	return cmd
}

func (a *app) pingCmd() *cobra.Command {
	t := &targets{}
	touch := false
	cmd := &cobra.Command{
		Use: "ping [NAMES]...", Short: "Check that the agents of sandboxes answer",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.each(cmd.Context(), a, args, "", t.quiet, func(ctx context.Context, name string) error {
				h, err := msb.GetSandbox(ctx, name)
				if err != nil {
					return err
				}
				r, err := h.Ping(ctx)
				if err == nil && touch {
					_, err = h.Touch(ctx)
				}
				if err == nil && !t.quiet {
					ui.Done(a.Err, "Reachable", fmt.Sprintf("%s (%s)", name, ui.Short(r.Latency)), 0)
				}
				return err
			})
		},
	}
	t.flags(cmd, "print nothing")
	cmd.Flags().BoolVar(&touch, "touch", false, "refresh the idle timer too")
	return cmd
}

func (a *app) touchCmd() *cobra.Command {
	t := &targets{}
	cmd := &cobra.Command{
		Use: "touch [NAMES]...", Short: "Refresh the idle timers of sandboxes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.each(cmd.Context(), a, args, "Touched", t.quiet, func(ctx context.Context, name string) error {
				h, err := msb.GetSandbox(ctx, name)
				if err != nil {
					return err
				}
				_, err = h.Touch(ctx)
				return err
			})
		},
	}
	t.flags(cmd, "print nothing")
	return cmd
}

func (a *app) removeCmd() *cobra.Command {
	t := &targets{}
	force := false
	cmd := &cobra.Command{
		Use: "remove [NAMES]...", Aliases: []string{"rm"}, Short: "Remove sandboxes and all they wrote",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.each(cmd.Context(), a, args, "Removed", t.quiet, func(ctx context.Context, name string) error {
				h, err := msb.GetSandbox(ctx, name)
				if err != nil {
					return err
				}
				if force {
					if err := h.Kill(ctx); err != nil {
						return err
					}
				}
				err = h.Remove(ctx)
				if force && msb.IsKind(err, msb.ErrSandboxNotFound) {
					return nil // an ephemeral one is removed by its end
				}
				return advise(err, msb.ErrSandboxStillRunning, "stop it first, or remove it all the same with --force")
			})
		},
	}
	t.flags(cmd, "print nothing")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill running ones first")
	return cmd
}
