package blob

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAheadDeliversEverythingThenTheError(t *testing.T) {
	t.Parallel()
	broken := errors.New("cable pulled")
	for _, size := range []int{0, 1, aheadBuffer - 1, aheadBuffer, 3*aheadBuffer + 7, 20 * aheadBuffer} {
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for _, want := range []error{io.EOF, broken} {
			a := NewAhead(io.MultiReader(iotest.HalfReader(bytes.NewReader(data)), iotest.ErrReader(want)))
			got, err := io.ReadAll(a)
			if want == broken {
				assert.ErrorIs(t, err, broken)
			} else {
				assert.NoError(t, err)
			}
			assert.True(t, bytes.Equal(data, got), size)
			_, err = a.Read(make([]byte, 1))
			assert.ErrorIs(t, err, want, "an error stays")
			require.NoError(t, a.Close())
		}
	}
}

func TestAheadReadsNoFurtherThanItsBuffers(t *testing.T) {
	t.Parallel()
	var source counter
	source.r = endless{}
	a := NewAhead(&source)
	_, err := io.ReadFull(a, make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close(), "closing twice is closing once")
	assert.LessOrEqual(t, source.n, int64((aheadBuffers+1)*aheadBuffer))
	_, err = io.Copy(io.Discard, a)
	assert.ErrorIs(t, err, io.ErrClosedPipe, "a closed reader ends, whatever it still held")
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAheadReusesItsBuffers(t *testing.T) {
	a := NewAhead(endless{})
	defer func() { require.NoError(t, a.Close()) }()
	p := make([]byte, aheadBuffer)
	_, err := io.ReadFull(a, make([]byte, 8*aheadBuffer))
	require.NoError(t, err)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := io.ReadFull(a, p); err != nil {
			t.Fatal(err)
		}
	}))
}
