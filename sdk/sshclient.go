//go:build unix

package microsandbox

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/sshd"
)

// SSHClientOption changes an SSH client.
type SSHClientOption func(*sshClientConfig)

type sshClientConfig struct {
	user, term string
	sftp       bool
	inactivity *time.Duration
}

// WithSSHUser sets the guest's user to log in as, by default root.
func WithSSHUser(user string) SSHClientOption { return func(c *sshClientConfig) { c.user = user } }

// WithSSHTerm sets the type of terminals that are asked for, by default this process's.
func WithSSHTerm(term string) SSHClientOption { return func(c *sshClientConfig) { c.term = term } }

// WithSSHClientSFTP enables or disables SFTP, by default enabled.
func WithSSHClientSFTP(on bool) SSHClientOption { return func(c *sshClientConfig) { c.sftp = on } }

// WithSSHClientInactivityTimeout ends the connection when nothing is sent for this long; 0
// never does. The default is config.json's ssh.inactivity_timeout_secs, else 10 minutes.
func WithSSHClientInactivityTimeout(d time.Duration) SSHClientOption {
	return func(c *sshClientConfig) { c.inactivity = &d }
}

// SSHClient is an SSH connection to a sandbox within this process. It is safe for
// concurrent use.
type SSHClient struct {
	client *ssh.Client
	term   string
	server *SSHServer
	served chan struct{} // closed when the server's side has ended
}

// OpenClient connects to the sandbox, with keys that live as long as the connection. A
// negative timeout is a plain error.
func (o *SandboxSSHOps) OpenClient(ctx context.Context, opts ...SSHClientOption) (*SSHClient, error) {
	c := &sshClientConfig{user: "root", term: terminalName(), sftp: true}
	for _, opt := range opts {
		opt(c)
	}
	cfg, err := o.sshConfig(c.sftp, c.inactivity)
	if err != nil {
		return nil, err
	}
	own, err := sshd.NewKey()
	if err == nil {
		cfg.HostKey, err = sshd.NewKey()
	}
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	cfg.Authorized = []ssh.PublicKey{own.PublicKey()}
	agent, err := cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	cfg.Dial = func(context.Context) (*client.Client, error) { return agent, nil }
	near, far, err := connPair()
	if err != nil {
		return nil, wrap(ErrIO, errors.Join(err, agent.Close()))
	}
	s := &SSHClient{term: c.term, server: newSSHServer(cfg), served: make(chan struct{})}
	go func() {
		defer close(s.served)
		defer func() { _ = agent.Close() }() // the server has it only after the handshake
		_ = s.server.ServeConn(context.Background(), far)
	}()
	stop := context.AfterFunc(ctx, func() { _ = near.Close() })
	conn, channels, requests, err := ssh.NewClientConn(near, o.s.name, &ssh.ClientConfig{
		User: c.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(own)}, HostKeyCallback: ssh.FixedHostKey(cfg.HostKey.PublicKey()),
	})
	if !stop() && err == nil {
		err = errors.Join(ctx.Err(), conn.Close())
	}
	if err != nil {
		_ = near.Close()
		<-s.served
		if ctx.Err() != nil {
			return nil, cancelled(ctx)
		}
		return nil, wrap(ErrInternal, err)
	}
	s.client = ssh.NewClient(conn, channels, requests)
	return s, nil
}

// connPair returns the two ends of a connection within this process. Unlike net.Pipe it
// has buffers, which both sides of SSH need to greet each other at once.
func connPair() (near, far net.Conn, err error) {
	syscall.ForkLock.RLock() // a child forked in between must not inherit them
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	a, b := os.NewFile(uintptr(fds[0]), "ssh"), os.NewFile(uintptr(fds[1]), "ssh")
	near, err = net.FileConn(a)
	if err == nil {
		if far, err = net.FileConn(b); err != nil {
			_ = near.Close()
		}
	}
	return near, far, errors.Join(err, a.Close(), b.Close())
}

// Close ends the connection with everything that runs on it.
func (c *SSHClient) Close(context.Context) error {
	err := c.client.Close()
	<-c.served
	c.server.close()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return wrap(ErrIO, err)
	}
	return nil
}
