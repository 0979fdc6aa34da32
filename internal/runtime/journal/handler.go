package journal

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// Handler is a slog handler whose lines begin with an RFC 3339 timestamp, which is what
// readers of runtime.log order them by: "TIME LEVEL message key=value".
type Handler struct {
	w      io.Writer // one Write per line
	level  slog.Leveler
	prefix string // attributes of WithAttrs, ready to append
	group  string // "a.b." of WithGroup
}

// NewHandler returns a handler that writes records of at least level to w.
func NewHandler(w io.Writer, level slog.Leveler) *Handler { return &Handler{w: w, level: level} }

// Level translates a level of the command line; anything unknown is info.
func Level(name string) slog.Level {
	switch name {
	case "error":
		return slog.LevelError
	case "warn":
		return slog.LevelWarn
	case "debug":
		return slog.LevelDebug
	case "trace":
		return slog.LevelDebug - 4
	}
	return slog.LevelInfo
}

// Enabled reports whether records of that level are written.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

// Handle writes one line.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Time.UTC().Format(timeLayout))
	b.WriteString(" " + r.Level.String() + " ")
	b.WriteString(strings.ReplaceAll(r.Message, "\n", " "))
	b.WriteString(h.prefix)
	r.Attrs(func(a slog.Attr) bool {
		appendAttr(&b, h.group, a)
		return true
	})
	b.WriteByte('\n')
	_, err := io.WriteString(h.w, b.String())
	return err
}

// WithAttrs returns a handler that adds attrs to each line.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		appendAttr(&b, h.group, a)
	}
	next := *h
	next.prefix += b.String()
	return &next
}

// WithGroup returns a handler that qualifies keys with name.
func (h *Handler) WithGroup(name string) slog.Handler {
	next := *h
	next.group += name + "."
	return &next
}

func appendAttr(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range v.Group() {
			appendAttr(b, group, inner)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	b.WriteString(" " + group + a.Key + "=")
	text := v.String()
	if text == "" || strings.ContainsAny(text, " \t\r\n\"=") || !strconv.CanBackquote(text) {
		text = strconv.Quote(text)
	}
	b.WriteString(text)
}
