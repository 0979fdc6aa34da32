package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	msb "github.com/gomsb/gomsb/sdk"
)

// printed is what the flags make of entries.
func printed(l logFlags, coloured bool, entries ...msb.LogEntry) string {
	var out bytes.Buffer
	p := &logPrinter{&app{Streams: ui.Streams{Out: &out}}, &l, coloured}
	for _, e := range entries {
		p.print(e)
	}
	return out.String()
}

func TestLogPrinter(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 0, 2, 16, 100_000_000, time.UTC)
	entry := func(id uint64, data string) msb.LogEntry {
		return msb.LogEntry{Source: msb.LogSourceStdout, SessionID: &id, Timestamp: at, Data: []byte(data)}
	}
	two, partial := entry(2, "a\nb\n"), entry(3, "c")
	system := msb.LogEntry{Source: msb.LogSourceSystem, Timestamp: at, Data: []byte("boot\r\n")}
	assert.Equal(t, "a\nb\ncboot\n", printed(logFlags{}, false, two, partial, system))
	assert.Equal(t, "2026-11-24T00:02:16.100Z\ta\n                        \tb\n2026-11-24T00:02:16.100Z\tc\n", printed(logFlags{stamps: true}, false, two, partial))
	assert.Equal(t, "[id:  2] a\n[id:  2] b\n[id:  3] c\n[id:sys] boot\n", printed(logFlags{showID: true}, false, two, partial, system))
	assert.Equal(t, "[id:  2] a\n[id:  2] b\n[id:sys] boot\n", printed(logFlags{colorBySess: true}, false, two, system))
	assert.Equal(t, "2026-11-24T00:02:16.100Z\t\x1b[34m[id:  3]\x1b[0m \x1b[34mc\x1b[0m\n", printed(logFlags{stamps: true, colorBySess: true}, true, partial))
	assert.Equal(t, `{"d":"c","e":null,"id":3,"s":"stdout","t":"2026-11-24T00:02:16.100Z"}`+"\n", printed(logFlags{asJSON: true}, false, partial))
	assert.Equal(t, `{"d":"gAA=","e":"b64","id":4,"s":"stdout","t":"2026-11-24T00:02:16.100Z"}`+"\n", printed(logFlags{asJSON: true}, false, entry(4, "\x80\x00")))

	// What terminals take for commands stays only where colours are wanted.
	for text, plain := range map[string]string{
		"a\x1b[31mb\x1b[0m\n": "ab\n", "a\x1b]0;title\x07b": "ab", "a\x1b]0;t\x1b\\b": "ab", "a\x1b[2Jb\x1b[?25lc": "abc", "a\x1b(Bb\x1b=c": "abc",
		"a\x1b[38;5;": "a", "a\x1b]0;t": "a", "a\x1b": "a", "a\tb\x07\r\n": "a\tb\x07\r\n", "\x80\x1b[mé": "\x80é",
	} {
		assert.Equal(t, plain, printed(logFlags{}, false, entry(1, text)), "%q", text)
		assert.Equal(t, text, printed(logFlags{}, true, entry(1, text)), "%q", text)
	}
}
