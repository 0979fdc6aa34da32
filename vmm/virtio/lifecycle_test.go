package virtio

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

type recorded struct{ calls *[]string }

func (r recorded) Pause()  { *r.calls = append(*r.calls, "pause") }
func (r recorded) Resume() { *r.calls = append(*r.calls, "resume") }
func (r recorded) End()    { *r.calls = append(*r.calls, "end") }

func TestLifecycle(t *testing.T) {
	t.Parallel()
	var l Lifecycle[recorded]
	var calls []string
	note := func(what string) func() { return func() { calls = append(calls, what) } }
	start := func() (recorded, error) { return recorded{&calls}, nil }
	failed := errors.New("failed")

	l.Pause()
	l.Resume()
	l.Reset(note("forget"))
	assert.Equal(t, []string{"forget"}, calls, "nothing runs")
	assert.ErrorIs(t, l.Start(func() (recorded, error) { return recorded{}, failed }), failed)
	l.Pause()

	calls = nil
	assert.NoError(t, l.Start(start))
	l.Pause()
	l.Resume()
	l.With(func(_ recorded, ok bool) { assert.True(t, ok) })
	l.Reset(note("forget"))
	l.Reset(nil)
	assert.Equal(t, []string{"pause", "resume", "end", "forget"}, calls)

	calls = nil
	assert.NoError(t, l.Start(start))
	free := func() error { calls = append(calls, "free"); return failed }
	assert.ErrorIs(t, l.Close(free), failed)
	assert.NoError(t, l.Close(free))
	assert.ErrorIs(t, l.Start(start), ErrClosed)
	l.Reset(note("forget"))
	l.With(func(_ recorded, ok bool) { assert.False(t, ok) })
	assert.Equal(t, []string{"end", "free"}, calls)
}
