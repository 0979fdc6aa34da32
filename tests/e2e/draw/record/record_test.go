package record

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecords(t *testing.T) {
	t.Parallel()
	want := []Record{{Began: 1, Value: [16]byte{2, 15: 3}, Wall: 1 << 60}, {Began: -1}}
	var b []byte
	for i := range want {
		b = Append(b, &want[i])
	}
	require.Len(t, b, 2*Size)
	got, err := Parse(b)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	_, err = Parse(b[:Size+1])
	assert.ErrorIs(t, err, ErrSize)
}
