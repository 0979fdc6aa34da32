package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) copyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "copy <SOURCE> <DESTINATION>", Aliases: []string{"cp"}, Short: "Copy files into, out of and between sandboxes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.copyEndpoints(cmd.Context(), args[0], args[1])
		},
	}
	cmd.Flags().BoolP("quiet", "q", false, "print no progress")
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

// copyEndpoints copies; a sandbox that is stopped runs for the time being.
func (a *app) copyEndpoints(ctx context.Context, src, dst string) (err error) {
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
	if fromName == "" {
		if _, err := os.Lstat(from); err != nil {
			return err // before anything is started
		}
	}
	source, err := openEndpoint(ctx, fromName)
	if err != nil {
		return err
	}
	if source != nil {
		defer func() { err = source.finish(ctx, a, 0, err) }()
	}
	target, err := openEndpoint(ctx, toName)
	if err != nil {
		return err
	}
	if target != nil {
		defer func() { err = target.finish(ctx, a, 0, err) }()
	}
	switch {
	case target == nil:
		return source.FS().CopyToHost(ctx, from, to)
	case source == nil:
		return target.FS().CopyFromHost(ctx, from, to)
	}
	return copyBetween(ctx, source.FS(), target.FS(), from, to)
}

// openEndpoint connects to a sandbox, which it starts if need be; nil if the name is empty.
func openEndpoint(ctx context.Context, name string) (*session, error) {
	if name == "" {
		return nil, nil
	}
	h, err := msb.GetSandbox(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := connect(ctx, h)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// copyBetween copies from one guest to another by way of this host.
func copyBetween(ctx context.Context, source, target *msb.SandboxFSOps, from, to string) error {
	tmp, err := os.MkdirTemp("", "msb-copy-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := source.CopyToHost(ctx, from, tmp); err != nil {
		return err
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := target.CopyFromHost(ctx, filepath.Join(tmp, e.Name()), to); err != nil {
			return err
		}
	}
	return nil
}
