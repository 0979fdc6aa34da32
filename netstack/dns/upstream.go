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
)

// Port is that of the protocol.
const Port = 53

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

// Resolve turns name servers, host:port, into addresses; hosts are looked up, and the
// first address of each counts. What cannot be looked up is left out and reported.
func Resolve(ctx context.Context, servers []string) (list []netip.AddrPort, err error) {
	for _, s := range servers {
		a, e := resolve(ctx, s)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("name server %s: %w", s, e))
			continue
		}
		list = append(list, a)
	}
	return list, err
}

func resolve(ctx context.Context, s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)), nil
}

// HostServers are the name servers of the host, in their order, from /etc/resolv.conf.
func HostServers() ([]netip.AddrPort, error) {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return parseResolvConf(io.LimitReader(f, 1<<20))
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
