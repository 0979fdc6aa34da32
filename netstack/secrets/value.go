package secrets

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Value is the value of a secret. However it is printed, logged or encoded, it does not
// show; Reveal gives it.
type Value struct{ text string }

// NewValue makes a value.
func NewValue(text string) Value { return Value{text} }

// Reveal is what the secret is.
func (v Value) Reveal() string { return v.text }

// IsEmpty reports that there is none.
func (v Value) IsEmpty() bool { return v.text == "" }

// String implements fmt.Stringer.
func (Value) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Value) GoString() string { return redacted }

// Format implements fmt.Formatter, for all verbs.
func (Value) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON too.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
