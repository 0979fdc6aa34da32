package runtime

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/gomsb/gomsb/internal/launch"
)

// switchboard decides on connections that the guest opens to the host.
type switchboard struct {
	agent, heartbeat chan net.Conn     // capacity 1: each is taken once per boot
	agentTaken       bool              // protected by mu
	heartbeatTaken   bool              // protected by mu
	routes           map[uint32]string // port to path of a Unix socket
	log              *slog.Logger
	ctx              context.Context // of the routed connections
	cancel           context.CancelFunc

	mu     sync.Mutex
	closed bool // takes no more connections; protected by mu
	wg     sync.WaitGroup
}

func newSwitchboard(ctx context.Context, routes []launch.VsockRoute, log *slog.Logger) *switchboard {
	s := &switchboard{
		agent: make(chan net.Conn, 1), heartbeat: make(chan net.Conn, 1),
		routes: make(map[uint32]string, len(routes)), log: log,
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for _, r := range routes {
		s.routes[r.Port] = r.HostSocket
	}
	return s
}

// connect implements MachineConfig.Listen. The agent connects before anything else runs
// in the guest, so a second connection to its ports is not the agent's.
func (s *switchboard) connect(port uint32, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	switch port {
	case AgentPort:
		return take(&s.agentTaken, s.agent, c)
	case HeartbeatPort:
		return take(&s.heartbeatTaken, s.heartbeat, c)
	}
	path, ok := s.routes[port]
	if ok {
		s.wg.Go(func() { s.splice(path, port, c) })
	}
	return ok
}

func take(taken *bool, to chan<- net.Conn, c net.Conn) bool {
	if *taken {
		return false
	}
	*taken = true
	to <- c
	return true
}

// splice joins a guest connection to a host socket until both directions have ended.
func (s *switchboard) splice(path string, port uint32, guest net.Conn) {
	defer func() { _ = guest.Close() }()
	var dialer net.Dialer
	host, err := dialer.DialContext(s.ctx, "unix", path)
	if err != nil {
		s.log.Warn("a vsock route cannot be reached", "port", port, "err", err)
		return
	}
	defer func() { _ = host.Close() }()
	stop := context.AfterFunc(s.ctx, func() {
		_ = guest.Close()
		_ = host.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { oneWay(host, guest) })
	wg.Go(func() { oneWay(guest, host) })
	wg.Wait()
}

// oneWay copies until src ends, and passes the end on. Any other error ends both ways.
func oneWay(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return
		}
	}
	_ = dst.Close()
	_ = src.Close()
}

// stopAll ends what connect took and nobody else did, and takes nothing more.
func (s *switchboard) stopAll() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	for _, c := range []chan net.Conn{s.agent, s.heartbeat} {
		select {
		case conn := <-c:
			_ = conn.Close()
		default:
		}
	}
}
