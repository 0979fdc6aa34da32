//go:build unix

package microsandbox

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/gomsb/gomsb/guestagent/client"
	"github.com/gomsb/gomsb/internal/sshd"
)

// SandboxSSHOps reaches a running sandbox over SSH. The server runs in this process, not
// in the guest, which needs neither sshd nor a network for it.
type SandboxSSHOps struct{ s *Sandbox }

// SSH gives access to the sandbox over SSH.
func (s *Sandbox) SSH() *SandboxSSHOps { return &SandboxSSHOps{s} }

// defaultSSHInactivity ends SSH connections unless config.json or an option says
// otherwise.
const defaultSSHInactivity = 600 * time.Second

// inactivity is an option's timeout, nil if it was not given, else config.json's.
func (s *settings) inactivity(option *time.Duration) (time.Duration, error) {
	switch {
	case option != nil && *option < 0:
		return 0, errors.New("SSH inactivity timeout must not be negative; 0 disables it")
	case option != nil:
		return *option, nil
	case s.SSH.InactivitySeconds != nil:
		return time.Duration(*s.SSH.InactivitySeconds) * time.Second, nil
	}
	return defaultSSHInactivity, nil
}

func (h home) authorizedKeys() string { return h.path("ssh", "authorized_keys") }

func (h home) sshHostKey(name string) string {
	return filepath.Join(h.sandbox(name), "ssh", "host_ed25519")
}

// AuthorizeSSHKey lets the owner of a public key, a line as in a .pub file, connect to
// the SSH servers of all sandboxes. It returns the file with such keys, and false if the
// key was in it.
func AuthorizeSSHKey(key string) (file string, added bool, err error) {
	h, err := openHome()
	if err != nil {
		return "", false, err
	}
	file = h.authorizedKeys()
	added, err = sshd.Authorize(file, key)
	if errors.Is(err, sshd.ErrInvalidKey) {
		return file, false, wrap(ErrInvalidArgument, err)
	}
	return file, added, wrap(ErrIO, err)
}

// sshConfig is what every server of the sandbox has in common.
func (o *SandboxSSHOps) sshConfig(sftp bool, timeout *time.Duration) (sshd.Config, error) {
	inactivity, err := o.s.home.settings.inactivity(timeout)
	if err != nil {
		return sshd.Config{}, err
	}
	if _, err := o.s.agent(); err != nil {
		return sshd.Config{}, err
	}
	c, err := o.s.config()
	if err != nil {
		return sshd.Config{}, err
	}
	cfg := sshd.Config{Shell: o.s.DefaultShell(), SFTP: sftp, Inactivity: inactivity}
	if c.Runtime.Workdir != nil {
		cfg.Dir = *c.Runtime.Workdir
	}
	cfg.Dial = func(ctx context.Context) (*client.Client, error) {
		return connectAgent(ctx, o.s.home, o.s.name, client.Options{})
	}
	return cfg, nil
}

// SSHServerOption changes an SSH server.
type SSHServerOption func(*sshServerConfig)

type sshServerConfig struct {
	hostKey, authorized, user string
	sftp                      bool
	inactivity                *time.Duration
}

// WithSSHHostKeyPath sets the file with the server's private key, which is made if it
// does not exist; by default each sandbox has one.
func WithSSHHostKeyPath(path string) SSHServerOption {
	return func(c *sshServerConfig) { c.hostKey = path }
}

// WithSSHAuthorizedKeysPath sets the file with the public keys that may connect, by
// default the one that AuthorizeSSHKey writes.
func WithSSHAuthorizedKeysPath(path string) SSHServerOption {
	return func(c *sshServerConfig) { c.authorized = path }
}

// WithSSHServerUser runs commands as this user whoever the client logs in as.
func WithSSHServerUser(user string) SSHServerOption {
	return func(c *sshServerConfig) { c.user = user }
}

// WithSSHServerSFTP enables or disables SFTP, by default enabled.
func WithSSHServerSFTP(on bool) SSHServerOption { return func(c *sshServerConfig) { c.sftp = on } }

// WithSSHServerInactivityTimeout ends connections on which nothing is sent for this long;
// 0 never does. The default is config.json's ssh.inactivity_timeout_secs, else 10 minutes.
func WithSSHServerInactivityTimeout(d time.Duration) SSHServerOption {
	return func(c *sshServerConfig) { c.inactivity = &d }
}

// SSHServer serves a sandbox to SSH clients that own an authorized key, any number at a
// time. They log in with the name of a user of the guest.
type SSHServer struct {
	server *sshd.Server
	ctx    context.Context // ends with Close
	close  context.CancelFunc
}

// PrepareServer reads the keys for a server, and makes the server's own if it has none. A
// negative timeout is a plain error.
func (o *SandboxSSHOps) PrepareServer(_ context.Context, opts ...SSHServerOption) (*SSHServer, error) {
	c := &sshServerConfig{hostKey: o.s.home.sshHostKey(o.s.name), authorized: o.s.home.authorizedKeys(), sftp: true}
	for _, opt := range opts {
		opt(c)
	}
	cfg, err := o.sshConfig(c.sftp, c.inactivity)
	if err != nil {
		return nil, err
	}
	cfg.User = c.user
	if cfg.Authorized, err = sshd.AuthorizedKeys(c.authorized); err != nil {
		return nil, wrap(ErrInvalidConfig, err)
	}
	if cfg.HostKey, err = sshd.HostKey(c.hostKey); err != nil {
		return nil, wrap(ErrIO, err)
	}
	return newSSHServer(cfg), nil
}

func newSSHServer(cfg sshd.Config) *SSHServer {
	ctx, cancel := context.WithCancel(context.Background())
	return &SSHServer{server: sshd.New(cfg), ctx: ctx, close: cancel}
}

// Close ends all connections.
func (s *SSHServer) Close(context.Context) error {
	s.close()
	return nil
}
