package secrets

import (
	"bytes"
	"strings"
)

// protocol is what a connection speaks once that is certain.
type protocol interface {
	// write is Rewriter.Rewrite, end is Rewriter.End.
	write(dst, p []byte) ([]byte, error)
	end(dst []byte) ([]byte, error)
}

// engine is the Rewriter of one connection.
type engine struct {
	c      Connection
	store  *Store
	config *Config
	view   *view // nil: the first request decides

	held   []byte // the first bytes, as long as they do not tell the protocol
	proto  protocol
	err    error // of Rewrite; sticky
	bodies int64 // bytes of Store.bodies that are this connection's
}

// preface begins every connection of HTTP/2, RFC 9113 §3.4.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// tlsHandshake is the first byte of TLS.
const tlsHandshake = 0x16

// Rewrite implements Rewriter.
func (e *engine) Rewrite(dst, p []byte) (out []byte, err error) {
	if e.err != nil {
		return dst, e.err
	}
	if e.proto == nil {
		if p = e.choose(p); e.proto == nil {
			return dst, nil
		}
	}
	if len(p) == 0 {
		return dst, nil
	}
	out, e.err = e.proto.write(dst, p)
	return out, e.err
}

// choose finds out what the guest speaks, and returns what is to be written then.
func (e *engine) choose(p []byte) []byte {
	if len(e.held) == 0 && len(p) > 0 && p[0] == tlsHandshake && !e.c.Intercepted {
		e.proto = plaintext{} // not to be read here
		return p
	}
	e.held = append(e.held, p...)
	n := min(len(e.held), len(preface))
	switch {
	case string(e.held[:n]) != preface[:n]:
		e.proto = &http1{engine: e}
	case n == len(preface):
		if e.view == nil {
			e.view = e.config.view(e.c, &e.store.where, nameless)
		}
		e.proto = newHTTP2(e)
	default:
		return nil
	}
	p, e.held = e.held, nil
	return p
}

// End implements Rewriter.
func (e *engine) End(dst []byte) (out []byte, err error) {
	if e.err != nil {
		return dst, e.err
	}
	if e.proto == nil {
		if len(e.held) == 0 {
			return dst, nil
		}
		h := &http1{engine: e}
		e.proto = h
		if dst, e.err = h.write(dst, e.held); e.err != nil {
			return dst, e.err
		}
	}
	out, e.err = e.proto.end(dst)
	return out, e.err
}

// Close implements Rewriter.
func (e *engine) Close() {
	_ = e.keep(-e.bodies)
	e.held, e.proto = nil, nil
	if e.err == nil {
		e.err = &Malformed{"the connection is closed"}
	}
}

// keep counts n more bytes of bodies as held, or -n fewer. It fails if that is too much
// for all connections together.
func (e *engine) keep(n int64) error {
	if e.store.bodies.Add(n) > maxBodies && n > 0 {
		e.store.bodies.Add(-n)
		return malformed("all connections together hold more than %d bytes of bodies", maxBodies)
	}
	e.bodies += n
	return nil
}

// identify decides what the connection may have by the host that its first request names,
// "" if it names none for certain.
func (e *engine) identify(host string) {
	if e.view != nil {
		return
	}
	e.c.Host = host
	id := named
	if host == "" {
		id = nameless
	}
	e.view = e.config.view(e.c, &e.store.where, id)
}

// identified reports that every request must name Connection.Host.
func (e *engine) identified() bool { return e.c.Host != "" && !e.c.Connect }

// where is the place of a violation.
type where struct {
	protocol, host, method, path, location string
	stream                                 uint32
}

// maxText bounds each text for a log, bytes: the streams of HTTP/2 keep theirs.
const maxText = 1 << 10

// clip is the beginning of a text, without what it was cut from.
func clip(s string) string { return strings.Clone(s[:min(len(s), maxText)]) }

// refuse is the error for what was found.
func (e *engine) refuse(f *found, w where) error {
	if f.word.use != violate {
		return malformed("the placeholder of secret %s is in a body that cannot be rewritten", f.word.secret.EnvVar)
	}
	v := &Violation{
		Action: f.word.action, EnvVar: f.word.secret.EnvVar, Placeholder: f.word.secret.Placeholder, Protocol: w.protocol, Host: w.host,
		Method: w.method, Path: pathOnly(w.path), Location: w.location, Form: f.form, Dst: e.c.Dst, Stream: w.stream,
	}
	if e.c.Intercepted {
		v.SNI = e.c.Host
	}
	if v.Location == "" {
		v.Location = "unknown"
	}
	return v
}

// pathOnly is the path of a request target.
func pathOnly(target string) string {
	target, _, _ = strings.Cut(target, "?")
	if _, rest, ok := strings.Cut(target, "://"); ok {
		_, path, _ := strings.Cut(rest, "/")
		return "/" + path
	}
	return target
}

// injected is value with v's placeholders replaced where in says so; a value that cannot be
// there is an error.
func (e *engine) injected(v *view, value []byte, in func(Injection) bool, encode func(dst []byte, text string) []byte) ([]byte, error) {
	var bad *Secret
	out, _, err := v.replace(nil, value, true, func(w *word) ([]byte, bool) {
		if w.use != substitute || !in(w.secret.Injection) {
			return nil, false
		}
		b := encode(nil, w.secret.Value.Reveal())
		if bytes.ContainsAny(b, "\x00\r\n") {
			bad = w.secret
		}
		return b, true
	})
	if err == nil && bad != nil {
		err = malformed("the value of secret %s has a NUL, CR or LF, which a header cannot carry", bad.EnvVar)
	}
	return out, err
}

func verbatim(dst []byte, text string) []byte { return append(dst, text...) }

// headerValue is the value of a field of a request with placeholders replaced.
func (e *engine) headerValue(name string, value []byte) ([]byte, error) {
	if name == "authorization" && e.view.injects.BasicAuth {
		if plain, ok := basic(value); ok {
			out, _, err := e.view.replace(nil, plain, true, func(w *word) ([]byte, bool) {
				return []byte(w.secret.Value.Reveal()), w.use == substitute && w.secret.Injection.BasicAuth
			})
			if err != nil || !bytes.Equal(out, plain) {
				return basicValue(out), err
			}
		}
	}
	if !e.view.injects.Headers {
		return value, nil
	}
	return e.injected(e.view, value, func(in Injection) bool { return in.Headers }, verbatim)
}

// target is a request target with placeholders in its query replaced. There a placeholder
// may be percent-encoded, and the value is.
func (e *engine) target(target string) (string, error) {
	path, query, ok := strings.Cut(target, "?")
	if !ok || !e.view.injects.QueryParams {
		return target, nil
	}
	out, err := e.injected(e.view.encoded(), []byte(query), func(in Injection) bool { return in.QueryParams }, percentEncode)
	return path + "?" + string(out), err
}

// headerViolation looks for violations in a field of a request.
func (e *engine) headerViolation(name string, value []byte) (*found, string) {
	if !e.view.violates {
		return nil, ""
	}
	hit, location := e.view.findIn(name), "header"
	hit = stricter(hit, e.view.find(value))
	if strings.EqualFold(name, "authorization") || strings.EqualFold(name, "proxy-authorization") {
		if plain, ok := basic(value); ok {
			if in := e.view.find(plain); stricter(hit, in) == in && in != nil {
				hit, location = &found{in.word, formBasic}, "authorization_basic"
			}
		}
	}
	return hit, location
}

// targetViolation looks for violations in a request target.
func (e *engine) targetViolation(target string) (*found, string) {
	if !e.view.violates {
		return nil, ""
	}
	path, query, _ := strings.Cut(target, "?")
	hit, location := e.view.findIn(path), "unknown"
	if in := e.view.findIn(query); in != nil && stricter(hit, in) == in {
		hit, location = in, "query"
	}
	return hit, location
}

// plaintext carries bytes as they are.
type plaintext struct{}

func (plaintext) write(dst, p []byte) ([]byte, error) { return append(dst, p...), nil }
func (plaintext) end(dst []byte) ([]byte, error)      { return dst, nil }
