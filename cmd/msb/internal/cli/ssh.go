package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// inactivity holds the flags about SSH connections on which nothing happens.
type inactivity struct {
	timeout string
	none    bool
}

func (i *inactivity) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&i.timeout, "inactivity-timeout", "", "disconnect after this time without SSH traffic; 0 never does (default 10m)")
	cmd.Flags().BoolVar(&i.none, "no-inactivity-timeout", false, "never disconnect for inactivity")
	exclusive(cmd.Flags(), "inactivity-timeout", "no-inactivity-timeout")
}

// limit is the timeout that the flags choose, nil if they leave it to config.json.
func (i *inactivity) limit() (*time.Duration, error) {
	if i.none {
		return new(time.Duration), nil
	}
	if i.timeout == "" {
		return nil, nil
	}
	d, err := flagtype.Seconds(i.timeout)
	if err != nil {
		return nil, fmt.Errorf("--inactivity-timeout: %w", err)
	}
	return &d, nil
}

func (a *app) sshCmd() *cobra.Command {
	cmd := a.sshConnectCmd("ssh")
	cmd.AddCommand(a.sshConnectCmd("connect"), a.sshServeCmd(), a.sshAuthorizeCmd())
	return cmd
}

// sshConnectCmd is msb ssh itself and its explicit form.
func (a *app) sshConnectCmd(use string) *cobra.Command {
	var name string
	var idle inactivity
	cmd := &cobra.Command{
		Use: use + " [SANDBOX] [-- REMOTE_COMMAND...]", Short: "Connect to a sandbox over SSH",
		RunE: func(cmd *cobra.Command, args []string) error {
			sandbox, command, err := splitImage(cmd, args)
			if err != nil {
				return err
			}
			switch {
			case name != "" && sandbox != "":
				return errors.New("use either --name or the sandbox positional, not both")
			case name == "" && sandbox == "":
				return errors.New("missing sandbox name")
			case name == "":
				name = sandbox
			}
			limit, err := idle.limit()
			if err != nil {
				return err
			}
			return a.sshConnect(cmd.Context(), name, limit, strings.Join(command, " "))
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the sandbox's name, for one that is named like a subcommand")
	idle.flags(cmd)
	return cmd
}

// reach connects to a sandbox and starts it for the time being if it does not run.
func reach(ctx context.Context, name string) (*session, error) {
	h, err := msb.GetSandbox(ctx, name)
	if err != nil {
		return nil, err
	}
	return connect(ctx, h)
}

// sshConnect runs a command line, or a shell, over SSH.
func (a *app) sshConnect(ctx context.Context, name string, limit *time.Duration, command string) error {
	s, err := reach(ctx, name)
	if err != nil {
		return err
	}
	code, err := a.sshRun(ctx, s.Sandbox, limit, command)
	return s.finish(ctx, a, code, err)
}

func (a *app) sshRun(ctx context.Context, sb *msb.Sandbox, limit *time.Duration, command string) (int, error) {
	var opts []msb.SSHClientOption
	if limit != nil {
		opts = append(opts, msb.WithSSHClientInactivityTimeout(*limit))
	}
	c, err := sb.SSH().OpenClient(ctx, opts...)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close(ctx) }()
	if _, tty := ui.Terminal(a.In); command == "" && tty {
		return c.Attach(ctx)
	}
	return c.Run(ctx, command, msb.SSHStreams{Stdin: a.pipedStdin(), Stdout: a.Out, Stderr: a.Err})
}

// serving is one invocation of msb ssh serve.
type serving struct {
	inactivity
	host  string
	port  uint16
	stdio bool
}

func (a *app) sshServeCmd() *cobra.Command {
	s := &serving{}
	cmd := &cobra.Command{
		Use: "serve <SANDBOX>", Short: "Serve a sandbox over SSH to the owners of authorized keys",
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := s.limit()
			if err != nil {
				return err
			}
			sb, err := reach(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return sb.finish(cmd.Context(), a, 0, a.sshServe(cmd.Context(), sb.Sandbox, s, limit))
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.host, "host", "127.0.0.1", "address to listen on")
	f.Uint16Var(&s.port, "port", 2222, "port to listen on; 0 takes any")
	f.BoolVar(&s.stdio, "stdio", false, "serve one client on stdin and stdout, as for ProxyCommand")
	s.inactivity.flags(cmd)
	exclusive(f, "stdio", "host")
	exclusive(f, "stdio", "port")
	return cmd
}

func (a *app) sshServe(ctx context.Context, sb *msb.Sandbox, s *serving, limit *time.Duration) error {
	var opts []msb.SSHServerOption
	if limit != nil {
		opts = append(opts, msb.WithSSHServerInactivityTimeout(*limit))
	}
	server, err := sb.SSH().PrepareServer(ctx, opts...)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close(ctx) }()
	if s.stdio {
		return server.ServeConnection(ctx)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(s.host, strconv.Itoa(int(s.port))))
	if err != nil {
		return err
	}
	ui.Done(a.Err, "SSH listening", l.Addr().String(), 0)
	return a.sshAccept(ctx, l, server)
}

// maxSSHConnections is how many clients msb ssh serve has at a time; others wait.
const maxSSHConnections = 64

// sshAccept serves whoever connects until an interrupt, which is its orderly end.
func (a *app) sshAccept(ctx context.Context, l net.Listener, server *msb.SSHServer) error {
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	free := make(chan struct{}, maxSSHConnections)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return errors.Join(err, l.Close())
		}
		clients.Go(func() {
			defer func() { <-free }()
			if err := server.ServeConn(ctx, conn); err != nil && ctx.Err() == nil && a.verbose() {
				ui.Warn(a.Err, fmt.Sprintf("SSH connection from %s: %v", conn.RemoteAddr(), err))
			}
		})
	}
}

// verbose reports that diagnostics of an everyday kind are wanted.
func (a *app) verbose() bool { return a.level == "debug" || a.level == "trace" }

func (a *app) sshAuthorizeCmd() *cobra.Command {
	var file, key string
	var stdin bool
	cmd := &cobra.Command{
		Use: "authorize", Short: "Let the owner of a public key connect to msb ssh serve",
		RunE: func(*cobra.Command, []string) error {
			text, err := key, error(nil)
			switch {
			case file == "" && key == "" && !stdin:
				return lacking("<--file <FILE>|--key <KEY>|--stdin>")
			case file != "":
				text, err = readKey(file)
			case stdin:
				text, err = readAllOf(a.In)
			}
			if err != nil {
				return err
			}
			path, added, err := msb.AuthorizeSSHKey(text)
			if err != nil {
				return err
			}
			verb := "Authorized key"
			if !added {
				verb = "Already authorized"
			}
			ui.Done(a.Err, verb, path, 0)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "file with the public key")
	f.StringVar(&key, "key", "", "the public key itself")
	f.BoolVar(&stdin, "stdin", false, "read the public key from stdin")
	exclusive(f, "file", "key", "stdin")
	return cmd
}

// maxKey bounds a public key's text, bytes.
const maxKey = 64 << 10

func readKey(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return readAllOf(f)
}

func readAllOf(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKey))
	return string(b), err
}
