package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

func (a *app) registryCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "Manage registry credentials", RunE: group}
	cmd.AddCommand(a.registryLoginCmd(), a.registryLogoutCmd(), a.registryListCmd("list"))
	return cmd
}

// maxPassword bounds what is read from standard input.
const maxPassword = 64 << 10

func (a *app) registryLoginCmd() *cobra.Command {
	var user string
	var stdin bool
	cmd := &cobra.Command{
		Use: "login <REGISTRY>", Short: "Keep credentials for a registry in the system's credential store",
		RunE: func(cmd *cobra.Command, args []string) error {
			if user == "" {
				return errors.New("the user name is empty")
			}
			password, err := a.password(stdin)
			if err != nil {
				return err
			}
			if err := msb.Registry.Login(cmd.Context(), args[0], user, password); err != nil {
				return err
			}
			ui.Done(a.Err, "Logged in", args[0], 0)
			return nil
		},
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "user name (required)")
	_ = cmd.MarkFlagRequired("username") // it was defined the line before
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password or token from standard input")
	return cmd
}

// password reads a password from standard input, whole, or asks for it.
func (a *app) password(stdin bool) (string, error) {
	fd, terminal := ui.Terminal(a.In)
	if !stdin {
		if !terminal {
			return "", usage("standard input is no terminal; use --password-stdin")
		}
		fmt.Fprint(a.Err, "Password: ")
		text, err := term.ReadPassword(fd)
		fmt.Fprintln(a.Err)
		return string(text), err
	}
	text, err := io.ReadAll(io.LimitReader(a.In, maxPassword+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxPassword {
		return "", errors.New("the password is too long")
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

func (a *app) registryLogoutCmd() *cobra.Command {
	return &cobra.Command{
		Use: "logout <REGISTRY>", Short: "Forget the credentials for a registry",
		RunE: func(cmd *cobra.Command, args []string) error {
			there, err := msb.Registry.Logout(cmd.Context(), args[0])
			if err != nil && !msb.IsKind(err, msb.ErrInvalidArgument) { // of what is no host, nothing is stored
				return err
			}
			if !there {
				ui.Warn(a.Err, fmt.Sprintf("no stored registry credentials found for `%s`", args[0]))
				return nil
			}
			ui.Done(a.Err, "Logged out", args[0], 0)
			return nil
		},
	}
}

func (a *app) registryListCmd(use string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: "List registries with credentials, without these",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := msb.Registry.List(cmd.Context())
			if err != nil {
				return err
			}
			if len(all) == 0 {
				fmt.Fprintln(a.Out, "No registries configured.")
				return nil
			}
			var rows [][]string
			for _, e := range all {
				rows = append(rows, []string{e.Host, e.Username, e.Source})
			}
			ui.Table(a.Out, []string{"REGISTRY", "USERNAME", "SOURCE"}, rows)
			return nil
		},
	}
	switch use {
	case "list":
		cmd.Aliases = []string{"ls"}
	case "registries":
		cmd.Aliases = []string{"regs"}
	}
	return cmd
}
