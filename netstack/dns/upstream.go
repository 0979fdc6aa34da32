package dns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Port is that of the protocol, TLSPort that of the protocol over TLS (RFC 7858).
const (
	Port    = 53
	TLSPort = 853
)

// ErrNameserver is wrapped by errors about a name server that was configured.
var ErrNameserver = errors.New("invalid name server")

// ParseNameserver reads IP, IP:PORT, [IPv6]:PORT, HOST or HOST:PORT, with port 53 by
// default, and returns it as host:port. The error wraps ErrNameserver.
func ParseNameserver(s string) (string, error) {
	s = strings.TrimSpace(s)
	bare := s
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		bare = strings.TrimSuffix(inner, "]")
	}
	if a, err := netip.ParseAddr(bare); err == nil {
		return netip.AddrPortFrom(a, Port).String(), nil
	}
	host, port, found := strings.Cut(s, ":")
	if !found {
		port = strconv.Itoa(Port)
	}
	if strings.HasPrefix(s, "[") || strings.Contains(port, ":") {
		a, err := netip.ParseAddrPort(s)
		if err != nil || a.Port() == 0 {
			return "", fmt.Errorf("%w %q: write an address, HOST or HOST:PORT", ErrNameserver, s)
		}
		return a.String(), nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%w %q: %q is no port", ErrNameserver, s, port)
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n/@?#%\\\"'") {
		return "", fmt.Errorf("%w %q: %q is no host", ErrNameserver, s, host)
	}
	return net.JoinHostPort(host, port), nil
}

// Servers tells whom to ask.
type Servers interface {
	// List is the servers in the order of preference, none if there are none.
	List(ctx context.Context) []netip.AddrPort
}

// Fixed are servers that do not change.
type Fixed []netip.AddrPort

// List is f.
func (f Fixed) List(context.Context) []netip.AddrPort { return f }

// HostServers are the name servers in a file like the host's /etc/resolv.conf, which is
// read again whenever it has changed: a laptop changes its network while a sandbox runs.
type HostServers struct {
	Path string

	mu   sync.Mutex
	seen os.FileInfo // of the version that list is of; protected by mu, as list
	list []netip.AddrPort
}

// List is the servers that the file names now.
func (h *HostServers) List(context.Context) []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := os.Stat(h.Path)
	if err != nil {
		return h.list
	}
	if h.seen != nil && os.SameFile(h.seen, info) && h.seen.ModTime().Equal(info.ModTime()) && h.seen.Size() == info.Size() {
		return h.list
	}
	f, err := os.Open(h.Path)
	if err != nil {
		return h.list
	}
	defer func() { _ = f.Close() }()
	if list, err := parseResolvConf(io.LimitReader(f, 1<<20)); err == nil {
		h.seen, h.list = info, list
	}
	return h.list
}

// parseResolvConf reads the nameserver lines of resolv.conf(5).
func parseResolvConf(r io.Reader) (list []netip.AddrPort, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		text, _, _ = strings.Cut(text, ";")
		fields := strings.Fields(text)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			list = append(list, netip.AddrPortFrom(a, Port))
		}
	}
	return list, lines.Err()
}
