package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/netstack/secrets"
)

const (
	// maxRequest bounds a request to the control socket, bytes.
	maxRequest = 4 << 20
	// requestTime is how long a client of the control socket may take.
	requestTime = 10 * time.Second
	// changeTime is how long a guest may take to switch processors, under load and
	// emulated. Nobody waits here until it has plugged memory.
	changeTime = 2 * time.Minute
	// maxClients bounds the clients of the control socket at a time.
	maxClients = 16
)

// changes serves the control socket, by which a sandbox is changed while it runs: one line of
// JSON asks, one answers.
type changes struct {
	sock    *socket
	secrets *secrets.Store // nil: none
	room    room
	log     *slog.Logger

	guest  atomic.Pointer[guestResources] // nil until the guest is ready
	ctx    context.Context                // of requests
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	clients map[net.Conn]struct{} // protected by mu, as closed
	wg      sync.WaitGroup
}

// room is what a guest can have more of than it starts with.
type room struct{ processors, memory bool }

// guestResources are what a running guest can have more or less of.
type guestResources struct {
	processors *processors
	memory     *pluggedMemory
	pauser     *pauser
	captures   *capturer
}

// changeRequest is what a client asks.
type changeRequest struct {
	Op       string         `json:"op"`
	Changes  []secretChange `json:"changes"`   // of secrets_update
	Online   int            `json:"online"`    // of cpu_target
	TotalMiB uint32         `json:"total_mib"` // of memory_target
	Dir      string         `json:"dir"`       // of checkpoint
	Passing  bool           `json:"passing"`   // the checkpoint: it is for copies at once
}

// secretChange is a change of a secret.
type secretChange struct {
	Change secrets.ChangeKind `json:"change"`
	Name   string             `json:"name"`
	Value  launch.SecretValue `json:"value"`
	Hosts  []changedHost      `json:"hosts"`
}

// changedHost is a host as text or as in a configuration.
type changedHost struct{ secrets.HostPattern }

// UnmarshalJSON reads "*", "*.example.com", "example.com", or what a configuration has.
func (h *changedHost) UnmarshalJSON(b []byte) (err error) {
	var text string
	if json.Unmarshal(b, &text) != nil || text == "any" {
		return h.HostPattern.UnmarshalJSON(b)
	}
	h.HostPattern, err = secrets.ParseHost(text)
	return err
}

// openChanges opens the control socket. Clients of old releases find it only if there is
// something to change that they know of.
func (s *sandbox) openChanges() {
	path, link := launch.ControlSocket(s.cfg.AgentSock), launch.ControlLink(s.inv.Config.Run(), s.inv.Name)
	room := room{processors: s.config.MaxVCPUs > s.config.VCPUs, memory: s.config.MaxMemoryMiB > s.config.MemoryMiB}
	var secrets *secrets.Store
	if s.network != nil {
		secrets = s.network.secrets
	}
	sock, err := listenAt(path)
	if err != nil {
		s.log.Warn("no control socket: the sandbox cannot be changed while it runs", "err", err)
		return
	}
	if secrets == nil && !room.processors && !room.memory {
		_ = os.Remove(link) // of a run that was killed
	} else if err := sock.publish(link, s.log); err != nil {
		s.log.Warn("cannot link the control socket for clients of old releases", "err", err)
	}
	s.changes = serveChanges(sock, secrets, room, s.log)
}

func serveChanges(sock *socket, store *secrets.Store, room room, log *slog.Logger) *changes {
	l := &changes{sock: sock, secrets: store, room: room, log: log, clients: make(map[net.Conn]struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(l.serve)
	return l
}

func (l *changes) serve() {
	for {
		c, err := l.sock.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, a client that went away: not the end
			l.log.Warn("cannot accept a client of the control socket", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !l.enter(c) {
			_ = c.Close()
			continue
		}
		l.wg.Go(func() {
			defer l.leave(c)
			l.answer(c)
		})
	}
}

// enter notes a client, unless there are too many.
func (l *changes) enter(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.clients) >= maxClients {
		return false
	}
	l.clients[c] = struct{}{}
	return true
}

func (l *changes) leave(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.clients, c)
}

// answer serves one client.
func (l *changes) answer(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(requestTime))
	in := bufio.NewReader(io.LimitReader(c, maxRequest))
	line, err := in.ReadBytes('\n')
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return
	}
	reply := launch.ControlReply{OK: true}
	if err := l.do(c, in, line, &reply); err != nil {
		reply = launch.ControlReply{Error: err.Error()}
	}
	_ = c.SetDeadline(time.Now().Add(requestTime))
	text, err := json.Marshal(reply)
	if err == nil {
		_, _ = c.Write(append(text, '\n'))
	}
}

// do does what the line asks; in is what else the client says. No error has a value in it.
func (l *changes) do(c net.Conn, in *bufio.Reader, line []byte, reply *launch.ControlReply) error {
	var r changeRequest
	if err := json.Unmarshal(line, &r); err != nil {
		return errors.New("the request is not the JSON that it should be")
	}
	if r.Op == "checkpoint" {
		return l.checkpoint(c, in, r)
	}
	ctx, cancel := context.WithTimeout(l.ctx, changeTime)
	defer cancel()
	switch {
	case r.Op == "capabilities":
		g := l.guest.Load()
		reply.Capabilities = &launch.Capabilities{
			SecretsUpdate: l.secrets != nil, Checkpoint: true, CPUResize: l.room.processors, MemoryResize: l.room.memory && (g == nil || g.memory.driven()),
		}
		return nil
	case r.Op == "secrets_update" && l.secrets != nil:
		return l.update(r.Changes)
	case (r.Op == "cpu_target" || r.Op == "cpu_state") && l.room.processors,
		(r.Op == "memory_target" || r.Op == "memory_state") && l.room.memory:
		g := l.guest.Load()
		switch {
		case g == nil:
			return errNotReadyYet
		case g.pauser.isPaused():
			return errors.New("it is paused: resume it first")
		}
		return l.resize(ctx, g, r, reply)
	case r.Op == "pause" || r.Op == "resume":
		return l.pause(r.Op == "pause")
	}
	return fmt.Errorf("this runtime cannot do %q", r.Op)
}

// errNotReadyYet refuses what needs a guest that serves.
var errNotReadyYet = errors.New("the guest is not ready yet")

// pause stops the guest, or lets it go on.
func (l *changes) pause(stop bool) error {
	g := l.guest.Load()
	switch {
	case g == nil:
		return errNotReadyYet
	case stop:
		return g.pauser.pause()
	}
	return g.pauser.resume()
}

// resize changes or tells what the guest has.
func (l *changes) resize(ctx context.Context, g *guestResources, r changeRequest, reply *launch.ControlReply) (err error) {
	switch r.Op {
	case "cpu_state":
		reply.CPU, err = g.processors.state(ctx)
	case "cpu_target":
		if reply.CPU, err = g.processors.setOnline(ctx, r.Online); err == nil {
			l.log.Info("the number of processors was changed", "requested", r.Online, "online", reply.CPU.ActualOnline)
		}
	case "memory_state":
		reply.Memory = g.memory.state()
	case "memory_target":
		if reply.Memory, err = g.memory.setTarget(r.TotalMiB); err == nil {
			l.log.Info("the guest was asked to have other memory", "target_mib", reply.Memory.TargetMiB, "current_mib", reply.Memory.CurrentMiB)
		}
	}
	return err
}

// serveGuest takes requests for other resources of the guest from now on.
func (l *changes) serveGuest(g *guestResources) {
	if l != nil {
		l.guest.Store(g)
	}
}

func (l *changes) update(list []secretChange) error {
	var all []secrets.Change
	for _, c := range list {
		change := secrets.Change{Kind: c.Change, Name: c.Name, Value: secrets.NewValue(string(c.Value))}
		for _, h := range c.Hosts {
			change.Hosts = append(change.Hosts, h.HostPattern)
		}
		all = append(all, change)
	}
	if err := l.secrets.Update(all...); err != nil {
		return err
	}
	for _, c := range all {
		l.log.Info("a secret was changed", "secret_env_var", c.Name, "change", string(c.Kind))
	}
	return nil
}

// close ends the control socket and its clients.
func (l *changes) close() {
	if l == nil {
		return
	}
	if err := l.sock.remove(); err != nil {
		l.log.Warn("cannot remove the control socket", "err", err)
	}
	l.cancel()
	l.mu.Lock()
	l.closed = true
	for c := range l.clients {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}
