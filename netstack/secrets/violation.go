package secrets

import (
	"fmt"
	"log/slog"
	"net/netip"
)

// Message is how a violation is logged.
const Message = "secret violation: placeholder detected for disallowed host"

// Violation is a placeholder on its way to a host that may not have the secret. It holds
// no value.
type Violation struct {
	Action      Kind           // what becomes of it; not KindPassthrough
	EnvVar      string         // of the secret
	Placeholder string         // of the secret
	Protocol    string         // http/1.1, http/2 or "" for another
	SNI         string         // "" without TLS
	Host        string         // that the request names, if there is one
	Method      string         // of the request, if there is one
	Path        string         // likewise, without query
	Location    string         // header, query, authorization_basic, body or unknown
	Form        string         // raw, percent_decoded, json_unescaped or basic_auth_decoded
	Dst         netip.AddrPort // where the guest has dialled
	Stream      uint32         // of HTTP/2, else 0
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%s (secret %s, %s in %s)", Message, v.EnvVar, v.Form, v.Location)
}

// LogValue implements slog.LogValuer with the fields that are known.
func (v *Violation) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("action", string(v.Action)), slog.String("secret_env_var", v.EnvVar), slog.String("placeholder", v.Placeholder)}
	for _, a := range []struct{ key, value string }{
		{"protocol", v.Protocol}, {"sni", v.SNI}, {"host", v.Host}, {"method", v.Method}, {"path", v.Path}, {"location", v.Location}, {"match_form", v.Form},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	attrs = append(attrs, slog.String("guest_dst", v.Dst.String()))
	if v.Stream != 0 {
		attrs = append(attrs, slog.Uint64("http2_stream_id", uint64(v.Stream)))
	}
	return slog.GroupValue(attrs...)
}

// Malformed is a request that cannot be carried: it is not sure what the server would
// make of it, or it exceeds a limit.
type Malformed struct{ Reason string }

func (m *Malformed) Error() string { return "request cannot be carried: " + m.Reason }

// malformed is an error whose reason is for a log, however much of it the guest has chosen.
func malformed(format string, args ...any) error {
	return &Malformed{clip(fmt.Sprintf(format, args...))}
}
