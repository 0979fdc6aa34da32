package netstack

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLimitedLog(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := Limited(slog.New(slog.NewTextHandler(&b, nil))).With("a", 1).WithGroup("g")
	for range logBurst + 7 {
		l.Info("line")
	}
	assert.Equal(t, logBurst, strings.Count(b.String(), "a=1"))
	assert.NotContains(t, b.String(), "left_out")
	l.Handler().(limited).last = time.Now().Add(-logInterval)
	l.Info("later")
	assert.Contains(t, b.String(), "lines_left_out=7")
	l.Handler().(limited).last = time.Now().Add(-time.Hour)
	for range logBurst + 7 {
		l.Info("more")
	}
	assert.Equal(t, logBurst, strings.Count(b.String(), "more"))
}
