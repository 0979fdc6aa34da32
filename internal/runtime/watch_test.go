package runtime

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
)

func TestWatchPipe(t *testing.T) {
	for name, c := range map[string]struct {
		pipe io.Reader
		kind eventKind
		ends bool
	}{
		"parent ends":                 {strings.NewReader(""), stop, true},
		"other bytes, then end":       {strings.NewReader("\x00\x02\xff"), stop, true},
		"detach":                      {strings.NewReader("\x01"), 0, false},
		"detach among others":         {strings.NewReader(strings.Repeat("x", 40) + "\x01y"), 0, false},
		"detach byte by byte":         {iotest.OneByteReader(strings.NewReader("xx\x01")), 0, false},
		"broken":                      {iotest.ErrReader(errors.New("broken")), force, true},
		"detach with the end at once": {iotest.DataErrReader(strings.NewReader("\x01")), 0, false},
	} {
		kind, ends := watchPipe(c.pipe)
		assert.Equal(t, c.ends, ends, name)
		assert.Equal(t, c.kind, kind, name)
	}
}
