package microsandbox

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// Cases of the behaviour that docs/sdk.md lists and no other test has.

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken writer") }

func TestExecWithReadersAndWriters(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	var out, errOut bytes.Buffer
	got, err := sb.Exec(ctx, "cat", nil, WithExecStdin(strings.NewReader(strings.Repeat("x", 1<<20))), WithExecStdout(&out))
	require.NoError(t, err)
	assert.Equal(t, 1<<20, out.Len())
	assert.Empty(t, got.Stdout(), "it went to the writer")
	h, err := sb.ExecStream(ctx, "warn", []string{"oops"}, WithExecStdin(strings.NewReader("")), WithExecStderr(&errOut))
	require.NoError(t, err)
	assert.Nil(t, h.TakeStdin(), "the reader has it")
	code, err := h.Wait(ctx)
	require.NoError(t, err)
	assert.Zero(t, code)
	assert.Equal(t, "oops\n", errOut.String())
	require.NoError(t, h.Close())
	_, err = sb.Exec(ctx, "echo", []string{"x"}, WithExecStdout(brokenWriter{}))
	require.True(t, IsKind(err, ErrIO), "%v", err)
	require.ErrorContains(t, err, "broken writer")
}

func TestIterators(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	create(t, "b")
	h, err := sb.ExecStream(ctx, "echo", []string{"x"})
	require.NoError(t, err)
	var kinds []ExecEventKind
	for e, err := range h.Events(ctx) {
		require.NoError(t, err)
		kinds = append(kinds, e.Kind)
	}
	assert.Equal(t, []ExecEventKind{ExecEventStarted, ExecEventStdout, ExecEventExited}, kinds)
	require.NoError(t, h.Close())

	stream, err := sb.LogStream(ctx, LogStreamOptions{})
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	text := ""
	for e, err := range stream.Entries(ctx) {
		require.NoError(t, err)
		text += e.Text()
	}
	assert.Equal(t, "x\n", text)

	var names []string
	for s, err := range AllSandboxes(ctx, WithListLimit(1)) {
		require.NoError(t, err)
		names = append(names, s.Name())
	}
	assert.ElementsMatch(t, []string{"a", "b"}, names)

	gone, cancel := context.WithCancel(ctx)
	cancel()
	n := 0
	for _, err := range AllSandboxes(gone) {
		n++
		assert.Error(t, err)
	}
	assert.Equal(t, 1, n, "an error is the last element")
}

func TestStoppedSandboxIsNotTouched(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	require.NoError(t, sb.Stop(ctx))
	h, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	_, err = h.Ping(ctx)
	assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	_, err = h.Touch(ctx)
	assert.True(t, IsKind(err, ErrSandboxNotRunning), "%v", err)
	h, err = h.Refresh(ctx)
	require.NoError(t, err)
	assert.Equal(t, SandboxStatusStopped, h.Status())
}

func TestStopWhileWaiting(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	sb := create(t, "a")
	asked := make(chan error, 1)
	go func() { asked <- sb.RequestStop(ctx) }()
	r, err := sb.WaitUntilStopped(ctx)
	require.NoError(t, err)
	require.NoError(t, <-asked)
	assert.Equal(t, SandboxStatusStopped, r.Status)
	assert.Equal(t, "a", r.Name)
	assert.False(t, r.ObservedAt.IsZero())
}

// What options say is in the row, and read back from there.
func TestOptionsInTheRow(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	ctx := testContext(t)
	create(t, "a", WithMaxDuration(2*time.Hour), WithIdleTimeout(30*time.Minute), WithShell("/bin/sh"), WithEntrypoint("/entry"), WithScripts(map[string]string{"go.sh": "#!/bin/sh\n"}),
		WithLogLevel(LogLevelInfo), WithCPUPlacement(CPUPlacementSpread), WithPorts(map[uint16]uint16{0: 7777}))
	h, err := GetSandbox(ctx, "a")
	require.NoError(t, err)
	for _, part := range []string{`"max_duration_secs":7200`, `"idle_timeout_secs":1800`, `"shell":"/bin/sh"`, `"entrypoint":["/entry"]`, `"go.sh"`, `"log_level":"info"`, `"cpu_placement":"spread"`} {
		assert.Contains(t, h.ConfigJSON(), part)
	}
	c, err := h.Config()
	require.NoError(t, err)
	assert.Equal(t, 2*time.Hour, c.MaxDuration)
	assert.Equal(t, CPUPlacementSpread, c.CPUPlacement)
	create(t, "quiet", WithQuietLogs())
	h, err = GetSandbox(ctx, "quiet")
	require.NoError(t, err)
	assert.Contains(t, h.ConfigJSON(), `"log_level":null`)
}

func TestPlacementIsChecked(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	_, err := CreateSandbox(testContext(t), "a", WithImage(testImage), WithCPUPlacement("everywhere"))
	assert.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
	_, err = CreateSandbox(testContext(t), "a", WithImage(testImage), WithPlacementProfile("p"))
	assert.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
}

func TestPortsMerge(t *testing.T) {
	t.Parallel()
	_, n := networkOf(t, WithPorts(map[uint16]uint16{8080: 80, 443: 443}), WithPorts(map[uint16]uint16{8080: 81}))
	require.Len(t, n.Ports, 2, "the later key wins")
	assert.EqualValues(t, 81, n.Ports[1].GuestPort)
	no := false
	_, n = networkOf(t, WithNetwork(&NetworkConfig{DNSRebindProtection: &no}))
	assert.False(t, n.DNS.RebindProtection)
	yes := true
	_, n = networkOf(t, WithNetwork(&NetworkConfig{DNSRebindProtection: &no, DNS: &DNSConfig{RebindProtection: &yes}}))
	assert.True(t, n.DNS.RebindProtection, "DNS wins")
}

func TestUpperSize(t *testing.T) {
	t.Parallel()
	var c SandboxConfig
	WithOCIUpperSize(128)(&c)
	c.sizeUpper()
	require.NotNil(t, c.RootDisk)
	assert.Equal(t, RootDiskKindManaged, c.RootDisk.Kind())
	assert.EqualValues(t, 128, c.RootDisk.SizeMiB)
}

func TestUnknownProfiles(t *testing.T) {
	t.Parallel()
	_, err := NetworkPolicy.FromProfilesChecked("moon")
	require.Error(t, err)
	assert.Panics(t, func() { NetworkPolicy.FromProfiles("moon") })
	all := NetworkPolicy.FromProfiles(NetworkProfileHost, NetworkProfilePublic, NetworkProfilePrivate, NetworkProfilePublic)
	var to []string
	for _, r := range all.Rules[1:] {
		to = append(to, r.Destination)
	}
	assert.Equal(t, []string{"public", "private", "host"}, to)
	assert.Empty(t, NetworkPolicy.FromProfiles().Rules)
}

func TestInstalled(t *testing.T) {
	h := newHome(t)
	t.Setenv("MSB_PATH", "")
	require.NoError(t, EnsureInstalled(testContext(t), WithSkipDownload()), "a program is its own runtime")
	assert.True(t, IsInstalled())
	t.Setenv("MSB_PATH", filepath.Join(h.root, "nowhere"))
	assert.True(t, IsKind(EnsureInstalled(testContext(t)), ErrLibraryNotLoaded))
	assert.False(t, IsInstalled())
}

func TestAttachOptions(t *testing.T) {
	t.Parallel()
	c := &AttachConfig{}
	for _, o := range []AttachOption{WithAttachCwd("/w"), WithAttachUser("u"), WithAttachEnv(map[string]string{"A": "1"}), WithAttachEnv(map[string]string{"TERM": "dumb"}), WithAttachDetachKeys("ctrl-a")} {
		o(c)
	}
	e := execOptions(c.command())
	assert.Equal(t, "/w", e.Cwd)
	assert.Equal(t, "u", e.User)
	assert.Equal(t, map[string]string{"A": "1", "TERM": "dumb"}, e.Env, "the caller's TERM counts")
	assert.Equal(t, "ctrl-a", c.DetachKeys)
}
