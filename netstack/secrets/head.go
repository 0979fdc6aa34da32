package secrets

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxHead   = 64 << 10 // of a request: its line and fields, or its trailer section
	maxMethod = 32
)

// start says what the first bytes of a request are.
type start uint8

const (
	startMore  start = iota // not known yet
	startHTTP               // a request line
	startOther              // no HTTP
	startBad                // HTTP, but not in order
)

// firstLine looks at the line that begins b. It decides at the first byte at which that
// is possible, however much follows.
func firstLine(b []byte) start {
	sp := -1
	for i, c := range b {
		switch {
		case c == '\n':
			if sp < 0 {
				return startOther
			}
			line, crlf := strings.CutSuffix(string(b[:i]), "\r")
			if s := classify(line); s != startHTTP || crlf {
				return s
			}
			return startBad
		case i > 0 && b[i-1] == '\r':
			return startOther
		case sp < 0 && c == ' ' && i > 0:
			sp = i
		case sp < 0 && (!isToken(c) || i >= maxMethod), sp >= 0 && c < ' ' && c != '\r' || c == 0x7f:
			return startOther
		}
	}
	return startMore
}

// classify tells a request line from a line that only looks like one.
func classify(line string) start {
	parts := strings.Split(line, " ")
	switch {
	case len(parts) == 3 && parts[1] != "" && (parts[2] == "HTTP/1.1" || parts[2] == "HTTP/1.0"):
		return startHTTP
	case strings.Contains(line, " HTTP/"), isMethod(parts[0]):
		return startBad
	}
	return startOther
}

// isMethod reports a method of RFC 9110 §9 or RFC 5789.
func isMethod(s string) bool {
	switch s {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return false
}

func isToken(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// field is a line of a head.
type field struct {
	name  string // lower case
	line  []byte // without CRLF
	value int    // where it begins in line, with what precedes it of blanks
}

// request is the head of a request.
type request struct {
	method, target, version string
	fields                  []field

	length   int64 // of the body; -1: there is no Content-Length
	chunked  bool
	encoded  bool // the body has a coding that hides what it says
	upgrades bool // another protocol may follow
}

// parseRequest reads a head, which ends in an empty line. It fails with a *Malformed for
// all that two readers might read differently.
func parseRequest(head []byte) (*request, error) {
	if !utf8.Valid(head) {
		return nil, malformed("its head is not UTF-8")
	}
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 {
		return nil, malformed("its request line is malformed")
	}
	r := &request{method: parts[0], target: parts[1], version: parts[2], length: -1}
	var err error
	if r.fields, err = parseFields(rest); err != nil {
		return nil, err
	}
	return r, r.framing()
}

// parseFields reads fields up to an empty line.
func parseFields(b []byte) (fields []field, err error) {
	for {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if len(line) == 0 && ok {
			return fields, nil
		}
		colon := bytes.IndexByte(line, ':')
		if !ok || colon <= 0 {
			return nil, malformed("a header line has no name")
		}
		for _, c := range line[:colon] {
			if !isToken(c) {
				return nil, malformed("the name of a header has a byte %#x", c)
			}
		}
		for _, c := range line[colon:] {
			if c < ' ' && c != '\t' || c == 0x7f {
				return nil, malformed("the value of a header has a byte %#x", c)
			}
		}
		fields = append(fields, field{name: strings.ToLower(string(line[:colon])), line: line, value: colon + 1})
		b = rest
	}
}

// text is the value of a field without blanks around it.
func (f field) text() string { return strings.Trim(string(f.line[f.value:]), " \t") }

// values are the values of all fields of a name.
func (r *request) values(name string) (list []string) {
	for _, f := range r.fields {
		if f.name == name {
			list = append(list, f.text())
		}
	}
	return list
}

// framing finds out where the body ends, RFC 9112 §6.
func (r *request) framing() error {
	lengths, codings := r.values("content-length"), r.values("transfer-encoding")
	switch {
	case len(lengths) > 0 && len(codings) > 0:
		return malformed("it has both Content-Length and Transfer-Encoding")
	case len(codings) > 1 || len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return malformed("its Transfer-Encoding is %q, not chunked", strings.Join(codings, ", "))
	case len(codings) == 1 && r.version == "HTTP/1.0":
		return malformed("it is HTTP/1.0 with a Transfer-Encoding")
	}
	r.chunked = len(codings) == 1
	for _, text := range lengths {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil || r.length >= 0 && r.length != int64(n) {
			return malformed("its Content-Length is malformed or has two values")
		}
		r.length = int64(n)
	}
	for _, text := range r.values("content-encoding") {
		r.encoded = r.encoded || text != "" && !strings.EqualFold(text, "identity")
	}
	r.upgrades = len(r.values("upgrade")) > 0 || r.method == "CONNECT"
	return nil
}

// authority is the host that the request is for. It fails unless the request names one
// host, and nothing else.
func (r *request) authority() (string, error) {
	hosts := r.values("host")
	if len(hosts) != 1 {
		return "", malformed("it has %d Host headers, not one", len(hosts))
	}
	host, ok := hostOf(hosts[0])
	if !ok {
		return "", malformed("its Host header is malformed")
	}
	target := ""
	switch scheme, rest, absolute := strings.Cut(r.target, "://"); {
	case r.method == "CONNECT":
		target = r.target
	case r.target[0] == '/', r.target == "*":
		return host, nil
	case absolute && isScheme(scheme):
		target = rest[:strings.IndexAny(rest+"/", "/?#")]
	default:
		return "", malformed("its target is neither a path nor an address")
	}
	if other, ok := hostOf(target); !ok || other != host {
		return "", malformed("its target is for another host than its Host header")
	}
	return host, nil
}

func isScheme(s string) bool { return strings.EqualFold(s, "http") || strings.EqualFold(s, "https") }

// hostOf is the host of an authority without user, in lower case and without port or the
// dot at its end.
func hostOf(authority string) (string, bool) {
	host := authority
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		if _, err := strconv.ParseUint(authority[i+1:], 10, 16); err != nil {
			return "", false
		}
		host = authority[:i]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	inner := host
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		inner = strings.ReplaceAll(host[1:len(host)-1], ":", "")
	}
	for _, c := range []byte(inner) {
		if !isAlnum(c) && c != '-' && c != '_' && c != '.' {
			return "", false
		}
	}
	return host, inner != ""
}
