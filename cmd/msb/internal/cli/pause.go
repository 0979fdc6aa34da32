package cli

import (
	"context"

	"github.com/spf13/cobra"

	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) pauseCmd() *cobra.Command {
	t := &targets{}
	cmd := &cobra.Command{
		Use: "pause [NAMES]...", Short: "Make running sandboxes stand still",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.each(cmd.Context(), a, args, "Paused", t.quiet, func(ctx context.Context, name string) error {
				h, err := msb.GetSandbox(ctx, name)
				if err != nil {
					return err
				}
				return h.Pause(ctx)
			})
		},
	}
	t.flags(cmd, "print nothing")
	return cmd
}

func (a *app) resumeCmd() *cobra.Command {
	t := &targets{}
	cmd := &cobra.Command{
		Use: "resume [NAMES]...", Short: "Let paused sandboxes go on",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.each(cmd.Context(), a, args, "Resumed", t.quiet, func(ctx context.Context, name string) error {
				h, err := msb.GetSandbox(ctx, name)
				if err != nil {
					return err
				}
				return h.Resume(ctx)
			})
		},
	}
	t.flags(cmd, "print nothing")
	return cmd
}
