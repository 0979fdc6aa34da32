package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) copyCmd() *cobra.Command {
	quiet := false
	cmd := &cobra.Command{
		Use: "copy <SOURCE> <DESTINATION>", Aliases: []string{"cp"}, Short: "Copy files into, out of and between sandboxes",
		RunE: func(cmd *cobra.Command, args []string) error {
			begin := time.Now()
			if err := copyEndpoints(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			if !quiet {
				ui.Done(a.Err, "Copied", args[0]+" to "+args[1], time.Since(begin))
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

// endpoint splits NAME:/path; anything else is a local path.
func endpoint(s string) (name, path string) {
	name, path, ok := strings.Cut(s, ":")
	if !ok || name == "" || strings.ContainsAny(name, "/\\") || !strings.HasPrefix(path, "/") {
		return "", s
	}
	return name, path
}

// ambiguous reports that a local path looks like one of a sandbox.
func ambiguous(s string) bool {
	name, _, ok := strings.Cut(s, ":")
	return ok && name != "" && !strings.ContainsAny(name, "/\\")
}

func copyEndpoints(ctx context.Context, src, dst string) error {
	fromName, from := endpoint(src)
	toName, to := endpoint(dst)
	for i, s := range [...]string{src, dst} {
		if name := [...]string{fromName, toName}[i]; name == "" && ambiguous(s) {
			return fmt.Errorf("ambiguous copy endpoint `%s`; use SANDBOX:/absolute/path for sandbox paths or prefix local paths with ./", s)
		}
	}
	if fromName == "" && toName == "" {
		return errors.New("msb copy requires at least one sandbox endpoint (SANDBOX:/path)")
	}
	open := func(name string) (*msb.Sandbox, error) {
		if name == "" {
			return nil, nil
		}
		h, err := msb.GetSandbox(ctx, name)
		if err != nil {
			return nil, err
		}
		return h.Connect(ctx)
	}
	source, err := open(fromName)
	if err != nil {
		return err
	}
	if source != nil {
		defer func() { _ = source.Close() }()
	}
	target, err := open(toName)
	if err != nil {
		return err
	}
	if target != nil {
		defer func() { _ = target.Close() }()
	}
	switch {
	case target == nil:
		return source.FS().CopyToHost(ctx, from, to)
	case source == nil:
		return target.FS().CopyFromHost(ctx, from, to)
	}
	tmp, err := os.MkdirTemp("", "msb-copy-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := source.FS().CopyToHost(ctx, from, tmp); err != nil {
		return err
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := target.FS().CopyFromHost(ctx, filepath.Join(tmp, e.Name()), to); err != nil {
			return err
		}
	}
	return nil
}
