package flagtype

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port parses [BIND:]HOST:GUEST[/tcp|/udp]; an IPv6 address goes in brackets. Without BIND
// it returns the empty string. Port 0 of the host is its choice.
func Port(s string) (bind string, host, guest uint16, udp bool, err error) {
	ports, proto, _ := strings.Cut(s, "/")
	switch proto {
	case "", "tcp":
	case "udp":
		udp = true
	default:
		return "", 0, 0, false, fmt.Errorf("invalid guest port: %s: its protocol is tcp or udp", s[strings.LastIndex(ports, ":")+1:])
	}
	left, last, ok := cutLast(ports, ":")
	if !ok {
		return "", 0, 0, false, fmt.Errorf("port must be in format HOST:GUEST[/udp] or BIND_ADDR:HOST:GUEST[/udp]: %s", s)
	}
	first := left
	if b, h, ok := cutLast(left, ":"); ok {
		bind, first = b, h
		if strings.HasPrefix(b, "[") && strings.HasSuffix(b, "]") {
			bind = b[1 : len(b)-1]
		} else if strings.Contains(b, ":") {
			return "", 0, 0, false, fmt.Errorf("invalid bind address: %s: an IPv6 address goes in brackets", b)
		}
		if _, err := netip.ParseAddr(bind); err != nil {
			return "", 0, 0, false, fmt.Errorf("invalid bind address: %s", b)
		}
	}
	if host, err = port("host", first); err == nil {
		guest, err = port("guest", last)
	}
	if err == nil && guest == 0 {
		err = fmt.Errorf("invalid guest port: 0")
	}
	return bind, host, guest, udp, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func port(whose, s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("invalid %s port: %s", whose, s)
	}
	return uint16(n), nil
}
