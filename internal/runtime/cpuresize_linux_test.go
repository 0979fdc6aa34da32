package runtime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/launch"
)

// fakeProcessors are a guest's files about its processors.
type fakeProcessors struct {
	online  []int
	refuses bool // to switch any
	keeps   bool // say yes, and do nothing
	text    string
	open    int
	writes  []string
}

func (f *fakeProcessors) ReadFile(_ context.Context, path string) ([]byte, error) {
	if path != cpuFiles+"online" {
		return nil, errors.New("no such file")
	}
	if f.text != "" {
		return []byte(f.text), nil
	}
	var list []string
	for _, id := range f.online {
		list = append(list, fmt.Sprint(id))
	}
	return []byte(strings.Join(list, ",") + "\n"), nil
}

func (f *fakeProcessors) WriteFile(_ context.Context, path string, data []byte, _ *uint32) error {
	if f.refuses {
		return errors.New("device or resource busy")
	}
	var id int
	if _, err := fmt.Sscanf(filepath.Base(filepath.Dir(path)), "cpu%d", &id); err != nil {
		return err
	}
	f.writes = append(f.writes, fmt.Sprintf("%d=%s", id, data))
	switch {
	case f.keeps:
	case string(data) == "1":
		f.online = append(f.online, id)
	default:
		f.online = slices.DeleteFunc(f.online, func(o int) bool { return o == id })
	}
	return nil
}

func (f *fakeProcessors) Close() error {
	f.open--
	return nil
}

func newProcessors(f *fakeProcessors, allowed *[]int) *processors {
	return &processors{
		possible: 4, requested: 1, allowed: 1,
		allow: func(n int) error {
			*allowed = append(*allowed, n)
			return nil
		},
		guest: func(context.Context) (guestFiles, error) {
			f.open++
			return f, nil
		},
	}
}

func TestProcessors(t *testing.T) {
	f := &fakeProcessors{online: []int{0}}
	var allowed []int
	p := newProcessors(f, &allowed)
	for _, c := range []struct {
		n      int
		writes string
	}{{3, "1=1 2=1"}, {3, ""}, {4, "3=1"}, {1, "3=0 2=0 1=0"}} {
		f.writes = nil
		s, err := p.setOnline(t.Context(), c.n)
		require.NoError(t, err)
		assert.Equal(t, &launch.CPUState{Possible: 4, RequestedOnline: uint8(c.n), ActualOnline: uint8(c.n), Enforced: uint8(c.n)}, s)
		assert.Equal(t, c.writes, strings.Join(f.writes, " "))
	}
	assert.Equal(t, []int{3, 4, 1}, allowed, "processors run before they are used, and stop afterwards")
	for _, n := range []int{-1, 0, 5} {
		_, err := p.setOnline(t.Context(), n)
		assert.ErrorContains(t, err, "choose 1 to 4")
	}
	assert.Zero(t, f.open)
}

func TestProcessorsOfAGuestThatRefuses(t *testing.T) {
	f := &fakeProcessors{online: []int{0, 1, 2, 3}, keeps: true}
	var allowed []int
	p := newProcessors(f, &allowed)
	p.requested, p.allowed = 4, 4
	s, err := p.setOnline(t.Context(), 2)
	require.NoError(t, err)
	assert.Equal(t, &launch.CPUState{Possible: 4, RequestedOnline: 2, ActualOnline: 4, Enforced: 4}, s)
	assert.Empty(t, allowed, "what is in use goes on: the guest would stand still")
	f.online = []int{0, 1}
	s, err = p.state(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 2, s.Enforced, "it came round")
	assert.Equal(t, []int{2}, allowed)

	f.refuses = true
	_, err = p.setOnline(t.Context(), 3)
	assert.ErrorContains(t, err, "does not switch processor 2: device or resource busy")
	for _, text := range []string{"0-9999999", "x", "2-1", "-", "1,,2", "0-8192"} {
		f.text = text
		_, err = p.state(t.Context())
		assert.ErrorContains(t, err, "damaged", text)
	}
	assert.Zero(t, f.open)
}

func TestControlSocketResizes(t *testing.T) {
	sock, err := listenAt(filepath.Join(socketDir(t), "control.sock"))
	require.NoError(t, err)
	c := serveChanges(sock, nil, room{processors: true}, quietLog)
	defer c.close()
	ask := func(line string) string { return askControl(t, sock.path, line+"\n") }
	assert.JSONEq(t, `{"ok":true,"capabilities":{"checkpoint":true,"cpu_resize":true,"memory_resize":false,"secrets_update":false}}`, ask(`{"op":"capabilities"}`))
	assert.Contains(t, ask(`{"op":"cpu_state"}`), "not ready yet")
	var allowed []int
	c.serveGuest(&guestResources{processors: newProcessors(&fakeProcessors{online: []int{0}}, &allowed)})
	assert.JSONEq(t, `{"ok":true,"cpu":{"possible":4,"requested_online":2,"actual_online":2,"enforced":2}}`, ask(`{"op":"cpu_target","online":2}`))
	assert.JSONEq(t, `{"ok":true,"cpu":{"possible":4,"requested_online":2,"actual_online":2,"enforced":2}}`, ask(`{"op":"cpu_state"}`))
	for _, bad := range []string{`{"op":"cpu_target"}`, `{"op":"cpu_target","online":5}`, `{"op":"cpu_target","online":"2"}`, `{"op":"memory_target","total_mib":1024}`, `{"op":"secrets_update","changes":[]}`} {
		assert.Contains(t, ask(bad), `"ok":false`, bad)
	}
}
