package secrets

import "bytes"

// RequestHost is the host that the request of HTTP/1 which begins b is for, "" if that is
// not certain. more reports that it may be with more bytes; it is false once b has a
// complete head, or as much as any may have.
func RequestHost(b []byte) (host string, more bool) {
	switch firstLine(b) {
	case startBad, startOther:
		return "", false
	}
	i := bytes.Index(b, []byte(headEnd))
	if i < 0 || i+len(headEnd) > maxHead {
		return "", i < 0 && len(b) < maxHead
	}
	r, err := parseRequest(b[:i+len(headEnd)])
	if err != nil {
		return "", false
	}
	if host, err = r.authority(); err != nil {
		return "", false
	}
	return host, false
}
