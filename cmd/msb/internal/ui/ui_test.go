package ui

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestMessages(t *testing.T) {
	var b bytes.Buffer
	Warn(&b, "careful", "really")
	Error(&b, "bad\x1b[2J", "because\x00")
	Done(&b, "Created", "box", 0)
	Done(&b, "Created", "box", 1500*time.Millisecond)
	assert.Equal(t, "warn: careful\n  → really\nerror: bad\\x1b[2J\n  → because\\x00\n   ✓ Created      box\n   ✓ Created      box (1.5s)\n", b.String())
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	Table(&b, []string{"NAME", "WHAT"}, [][]string{{"a", "x\ny"}, {"longer", "\x1b[31m"}, {"ünï", ""}, {"short"}})
	assert.Equal(t, "NAME      WHAT\na         x\\ny\nlonger    \\x1b[31m\nünï\nshort\n", b.String())
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain\ttext\n": "plain\ttext\n", "\x1b]0;title\a": `\x1b]0;title\x07`, "\r": `\x0d`, "\x7f": `\x7f`, "\u009b31m": `\x9b31m`, "ünï…": "ünï…", "bad\xff": "bad\uFFFD",
	} {
		assert.Equal(t, want, Plain(in), "%q", in)
	}
}

func TestRendering(t *testing.T) {
	for d, want := range map[time.Duration]string{850 * time.Microsecond: "850µs", 12 * time.Millisecond: "12ms", 1500 * time.Millisecond: "1.5s", 90 * time.Second: "1m30s"} {
		assert.Equal(t, want, Short(d))
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 2_000_000: "1.9 MiB", 5 << 30: "5.0 GiB", 1 << 62: "4096.0 PiB"} {
		assert.Equal(t, want, Size(n))
	}
	assert.Equal(t, "abc", Clip("abc", 3))
	assert.Equal(t, "äb...", Clip("äbcdef", 5))
	assert.Equal(t, "äb", Clip("äbcd", 2))
	assert.Equal(t, "-", Time(time.Time{}))
	assert.Regexp(t, `^2026-11-2\d \d\d:00:00$`, Time(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)))
}
