package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestProgress(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	at := time.Unix(0, 0)
	width := 110
	p := &Progress{w: &b, width: func() int { return width }, now: func() time.Time { return at }}
	p.Clear()
	assert.Empty(t, b.String(), "what was not drawn is not removed")
	last := func() string {
		parts := strings.Split(b.String(), "\r\x1b[2K")
		return parts[len(parts)-1]
	}
	p.Draw("Resolving", "reg.example/x", 0, 0)
	assert.Equal(t, "   ⠙ Resolving    reg.example/x", last())
	p.Draw("Pulling", "too soon", 0, 0)
	assert.NotContains(t, b.String(), "too soon")
	for i := range 12 {
		at = at.Add(redraw)
		p.Draw("Pulling", "reg.example/x\x1b[31m", int64(i)<<20, 10<<20)
	}
	assert.Contains(t, b.String(), strings.Repeat("━", 20)+strings.Repeat("╌", 20)+" 5.0 MiB/10.0 MiB")
	assert.Contains(t, last(), strings.Repeat("━", 40)+" 10.0 MiB/10.0 MiB", "never more than all")
	assert.NotContains(t, b.String(), "\x1b[31m")
	for _, width = range []int{60, 30, 5, 1} {
		at = at.Add(redraw)
		p.Draw("Pulling", "reg.example/x", 5<<20, 10<<20)
		assert.Less(t, utf8.RuneCountInString(last()), max(width, 2), "a line that wraps cannot be removed")
	}
	p.Clear()
	assert.True(t, strings.HasSuffix(b.String(), "\r\x1b[2K"))

	var none bytes.Buffer
	q := NewProgress(&none)
	q.Draw("Pulling", "x", 1, 2)
	q.Clear()
	assert.Empty(t, none.String(), "no terminal, no progress")
}
