package sshd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/gomsb/gomsb/guestagent/client"
)

// Limits on one connection; beyond them channels are refused.
const (
	handshakeLimit = 2 * time.Minute // until the client has authenticated
	maxChannels    = 64
)

// Config says what to serve and to whom.
type Config struct {
	HostKey    ssh.Signer
	Authorized []ssh.PublicKey // who may connect, under any user name
	// Dial connects to the guest's agent. Each SSH connection has one of its own, whose
	// end ends what runs on it.
	Dial  func(context.Context) (*client.Client, error)
	Shell string // runs commands with -c, and is the shell
	Dir   string // where SFTP starts; "" is /
	User  string // of commands; "" is the one the client logs in as
	SFTP  bool
	// Inactivity ends a connection on which nothing was sent for this long; 0 never does.
	Inactivity time.Duration
}

// Server serves any number of connections.
type Server struct {
	cfg Config
	ssh *ssh.ServerConfig
}

// ErrInactive reports a connection that ended because nothing happened on it.
var ErrInactive = errors.New("no SSH traffic for too long")

// New returns a server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, ssh: &ssh.ServerConfig{ServerVersion: "SSH-2.0-gomsb", MaxAuthTries: 6, PublicKeyCallback: cfg.authenticate}}
	s.ssh.AddHostKey(cfg.HostKey)
	return s
}

func (c *Config) authenticate(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	offered := key.Marshal()
	for _, k := range c.Authorized {
		if bytes.Equal(k.Marshal(), offered) {
			return &ssh.Permissions{}, nil
		}
	}
	return nil, errors.New("key is not authorized")
}

// Serve serves one connection, which it closes, until the client leaves, the sandbox ends
// or ctx does. A client that leaves in good order is no error.
func (s *Server) Serve(ctx context.Context, conn net.Conn) error {
	watched := watch(conn, s.cfg.Inactivity)
	defer watched.stop()
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	// Not by a deadline: standard input and output know none.
	limit := time.AfterFunc(handshakeLimit, func() { _ = conn.Close() })
	sc, channels, requests, err := ssh.NewServerConn(watched, s.ssh)
	if !limit.Stop() {
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		return cause(ctx, watched, fmt.Errorf("SSH handshake: %w", err))
	}
	agent, err := s.cfg.Dial(ctx)
	if err != nil {
		return err
	}
	// Not under ctx's name: why the connection ended is asked of ctx, which is over before
	// what was derived from it, and before what it lets close the connection.
	inside, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer func() {
		cancel()
		_ = conn.Close()
		_ = agent.Close() // what waits for the guest does not any more
		work.Wait()
	}()
	// The guest's end ends the connection.
	work.Go(func() {
		select {
		case <-agent.Done():
		case <-inside.Done():
		}
		_ = conn.Close()
	})
	work.Go(func() { ssh.DiscardRequests(requests) })
	c := &connection{cfg: &s.cfg, agent: agent, user: sc.User(), work: &work, open: make(chan struct{}, maxChannels)}
	for ch := range channels {
		c.accept(inside, ch)
	}
	return cause(ctx, watched, agent.Err())
}

// cause is why a connection ended, if this side ended it, else err.
func cause(ctx context.Context, w *watched, err error) error {
	switch {
	case w.expired():
		return ErrInactive
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// connection is one authenticated client.
type connection struct {
	cfg   *Config
	agent *client.Client
	user  string          // that the client named
	work  *sync.WaitGroup // everything that runs for the connection
	open  chan struct{}   // holds one element for each channel
}

// accept opens or refuses a channel, without waiting for the guest.
func (c *connection) accept(ctx context.Context, ch ssh.NewChannel) {
	var serve func(context.Context, ssh.NewChannel)
	switch ch.ChannelType() {
	case "session":
		serve = c.session
	case "direct-tcpip":
		serve = c.forward
	default:
		_ = ch.Reject(ssh.UnknownChannelType, "not supported: "+ch.ChannelType())
		return
	}
	select {
	case c.open <- struct{}{}:
	default:
		_ = ch.Reject(ssh.ResourceShortage, "too many channels")
		return
	}
	c.work.Go(func() {
		defer func() { <-c.open }()
		serve(ctx, ch)
	})
}
