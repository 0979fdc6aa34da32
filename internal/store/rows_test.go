package store

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func fresh(t *testing.T) *Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "msb.db"))
}

func insert(t *testing.T, s *Store, name string, st Status) Sandbox {
	t.Helper()
	b, err := s.InsertSandbox(t.Context(), NewSandbox{Name: name, Config: `{"name":"` + name + `"}`, ActiveConfig: "{}", Status: st})
	require.NoError(t, err)
	return b
}

func TestSandboxRows(t *testing.T) {
	s := fresh(t)
	now := time.Date(2026, 4, 30, 20, 32, 59, 688000001, time.UTC)
	s.now = func() time.Time { return now }
	b, err := s.InsertSandbox(t.Context(), NewSandbox{
		Name: "a", Config: "{}", ActiveConfig: "{1}", Status: Running, Ephemeral: true, Labels: map[string]string{"team": "x", "env": "y"},
		Rootfs: &Rootfs{Mode: "bind"},
	})
	require.NoError(t, err)
	assert.Equal(t, Sandbox{ID: 1, Name: "a", Config: "{}", ActiveConfig: "{1}", Status: Running, Ephemeral: true, NetworkSlot: 1, CreatedAt: now, UpdatedAt: now}, b)
	got, err := s.Sandbox(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, b, got)
	var text string
	require.NoError(t, s.db.QueryRow(`SELECT created_at || '' FROM sandbox`).Scan(&text))
	assert.Equal(t, "2026-04-30 20:32:59.688000001", text)
	require.NoError(t, s.db.QueryRow(`SELECT mode || ' ' || root_disk_kind FROM sandbox_rootfs`).Scan(&text))
	assert.Equal(t, "bind managed", text)
	labels, err := s.Labels(t.Context(), b.ID)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"team": "x", "env": "y"}, labels)

	_, err = s.InsertSandbox(t.Context(), NewSandbox{Name: "a", Config: "{}", Status: Running})
	assert.ErrorIs(t, err, ErrExists)
	_, err = s.Sandbox(t.Context(), "b")
	assert.ErrorIs(t, err, ErrNotFound)
	_, err = s.InsertSandbox(t.Context(), NewSandbox{Name: "c", Config: "{}", Status: Running, Rootfs: &Rootfs{ManifestDigest: "sha256:none", Mode: "erofs"}})
	assert.ErrorIs(t, err, ErrNotFound)
	_, err = s.Sandbox(t.Context(), "c")
	assert.ErrorIs(t, err, ErrNotFound, "nothing of it stays")

	require.NoError(t, s.SetConfig(t.Context(), b.ID, `{"new":1}`, map[string]string{"only": "one"}))
	labels, err = s.Labels(t.Context(), b.ID)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"only": "one"}, labels)
	assert.ErrorIs(t, s.SetConfig(t.Context(), 99, "{}", nil), ErrNotFound)

	gone, err := s.DeleteSandbox(t.Context(), b.ID)
	require.NoError(t, err)
	assert.True(t, gone)
	var n int
	require.NoError(t, s.db.QueryRow(`SELECT (SELECT count(*) FROM sandbox_labels) + (SELECT count(*) FROM sandbox_rootfs)`).Scan(&n))
	assert.Zero(t, n, "rows of a deleted sandbox go with it")
}

func TestNetworkSlotsAreReused(t *testing.T) {
	s := fresh(t)
	for i := 1; i <= 4; i++ {
		assert.Equal(t, uint16(i), insert(t, s, fmt.Sprint("s", i), Stopped).NetworkSlot)
	}
	two, err := s.Sandbox(t.Context(), "s2")
	require.NoError(t, err)
	_, err = s.DeleteSandbox(t.Context(), two.ID)
	require.NoError(t, err)
	assert.Equal(t, uint16(2), insert(t, s, "again", Stopped).NetworkSlot)
	assert.Equal(t, uint16(5), insert(t, s, "more", Stopped).NetworkSlot)
}

func TestNetworkSlotsRunOut(t *testing.T) {
	s := fresh(t)
	_, err := s.db.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 65535)
		INSERT INTO sandbox(name, config, status, network_slot) SELECT 's' || i, '{}', 'Stopped', i FROM n`)
	require.NoError(t, err)
	_, err = s.InsertSandbox(t.Context(), NewSandbox{Name: "one too many", Config: "{}", Status: Running})
	assert.ErrorIs(t, err, ErrNoSlot)
}

// TestStoppedSandboxKeepsTheSlotOfAnOlderRelease until it has run again.
func TestStoppedSandboxKeepsTheSlotOfAnOlderRelease(t *testing.T) {
	s := fresh(t)
	b := insert(t, s, "a", Stopped)
	started, ok, err := s.StartSandbox(t.Context(), b.ID, "{}")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, uint16(1), started.NetworkSlot)
}

func TestStatusTransitions(t *testing.T) {
	s := fresh(t)
	b := insert(t, s, "a", Running)
	ok, err := s.SetStatus(t.Context(), b.ID, Draining, Running, Paused)
	require.NoError(t, err)
	assert.True(t, ok)
	ok, err = s.SetStatus(t.Context(), b.ID, Draining, Running)
	require.NoError(t, err)
	assert.False(t, ok)
	_, ok, err = s.StartSandbox(t.Context(), b.ID, "{}")
	require.NoError(t, err)
	assert.False(t, ok, "a draining sandbox cannot start")
	assert.Equal(t, uint16(1), slotOf(t, s, b.ID), "it still has its network")
	_, err = s.SetStatus(t.Context(), b.ID, Crashed)
	require.NoError(t, err)
	assert.Zero(t, slotOf(t, s, b.ID))
	assert.Equal(t, uint16(1), insert(t, s, "other", Running).NetworkSlot)
	started, ok, err := s.StartSandbox(t.Context(), b.ID, `{"x":1}`)
	require.NoError(t, err)
	assert.True(t, ok)
	got, err := s.SandboxByID(t.Context(), b.ID)
	require.NoError(t, err)
	assert.Equal(t, got, started)
	assert.Equal(t, Running, got.Status)
	assert.Equal(t, uint16(2), got.NetworkSlot)
	assert.Equal(t, `{"x":1}`, got.ActiveConfig)
}

func TestSetEphemeral(t *testing.T) {
	s := fresh(t)
	b := insert(t, s, "a", Running)
	for _, on := range []bool{true, false} {
		ok, err := s.SetEphemeral(t.Context(), b.ID, on)
		require.NoError(t, err)
		assert.True(t, ok)
		got, err := s.SandboxByID(t.Context(), b.ID)
		require.NoError(t, err)
		assert.Equal(t, on, got.Ephemeral)
	}
	ok, err := s.SetEphemeral(t.Context(), b.ID+1, true)
	require.NoError(t, err)
	assert.False(t, ok)
}

func slotOf(t *testing.T, s *Store, id int32) uint16 {
	t.Helper()
	b, err := s.SandboxByID(t.Context(), id)
	require.NoError(t, err)
	return b.NetworkSlot
}

func TestActivePorts(t *testing.T) {
	s := fresh(t)
	for before, after := range map[string]string{
		`{"name":"a","network":{"enabled":true,"ports":[{"host_port":0}]},"z":1}`: `{"name":"a","network":{"enabled":true,"ports":[{"host_port":40000}]},"z":1}`,
		`{"network":{}}`:   `{"network":{"ports":[{"host_port":40000}]}}`,
		`{"network":null}`: `{"network":null}`,
		`{}`:               `{}`,
		``:                 ``,
	} {
		b, err := s.InsertSandbox(t.Context(), NewSandbox{Name: "s" + before, Config: "{}", ActiveConfig: before, Status: Running})
		require.NoError(t, err)
		require.NoError(t, s.SetActivePorts(t.Context(), b.ID, `[{"host_port":40000}]`))
		got, err := s.SandboxByID(t.Context(), b.ID)
		require.NoError(t, err)
		assert.Equal(t, after, got.ActiveConfig)
		assert.Equal(t, "{}", got.Config, "what was asked for")
	}
	b, err := s.InsertSandbox(t.Context(), NewSandbox{Name: "b", Config: "{}", ActiveConfig: `{"network":{}}`, Status: Running})
	require.NoError(t, err)
	assert.Error(t, s.SetActivePorts(t.Context(), b.ID, "no JSON"))
}

func TestFilter(t *testing.T) {
	s := fresh(t)
	for i, st := range []Status{Running, Stopped, Running, Crashed} {
		_, err := s.InsertSandbox(t.Context(), NewSandbox{Name: fmt.Sprint(i), Config: "{}", Status: st, Labels: map[string]string{"odd": fmt.Sprint(i%2 == 1), "all": "yes"}})
		require.NoError(t, err)
	}
	names := func(f Filter) (names []string) {
		all, err := s.Sandboxes(t.Context(), f)
		require.NoError(t, err)
		for _, b := range all {
			names = append(names, b.Name)
		}
		return names
	}
	assert.Equal(t, []string{"3", "2", "1", "0"}, names(Filter{}))
	assert.Equal(t, []string{"2", "0"}, names(Filter{Statuses: []Status{Running}}))
	assert.Equal(t, []string{"3", "1"}, names(Filter{Labels: map[string]string{"odd": "true", "all": "yes"}}))
	assert.Equal(t, []string{"3", "2"}, names(Filter{Limit: 2}))
	assert.Equal(t, []string{"1", "0"}, names(Filter{BeforeID: 3, Limit: 5}))
	assert.Empty(t, names(Filter{Labels: map[string]string{"odd": "true", "none": ""}}))
}

func TestRuns(t *testing.T) {
	s := fresh(t)
	b := insert(t, s, "a", Running)
	_, err := s.ActiveRun(t.Context(), b.ID)
	assert.ErrorIs(t, err, ErrNotFound)
	_, err = s.BeginRun(t.Context(), 99, 1)
	assert.ErrorIs(t, err, ErrNotFound)
	id, err := s.BeginRun(t.Context(), b.ID, os.Getpid())
	require.NoError(t, err)
	run, err := s.ActiveRun(t.Context(), b.ID)
	require.NoError(t, err)
	assert.Equal(t, os.Getpid(), run.PID)
	assert.True(t, run.Active)
	zero := 0
	require.NoError(t, s.FinishRun(t.Context(), Ending{RunID: id, SandboxID: b.ID, Reason: ShutdownRequested, ExitCode: &zero, Status: Stopped}))
	assert.Zero(t, slotOf(t, s, b.ID))
	run, err = s.LastRun(t.Context(), b.ID)
	require.NoError(t, err)
	assert.False(t, run.Active)
	assert.Equal(t, ShutdownRequested, run.Reason)
	assert.Equal(t, 0, *run.ExitCode)
	assert.False(t, run.TerminatedAt.IsZero())
	got, err := s.SandboxByID(t.Context(), b.ID)
	require.NoError(t, err)
	assert.Equal(t, Stopped, got.Status)
	assert.Empty(t, got.ActiveConfig)
	_, err = s.DeleteSandbox(t.Context(), b.ID)
	require.NoError(t, err)
	require.NoError(t, s.FinishRun(t.Context(), Ending{RunID: id, SandboxID: b.ID, Reason: Completed, Status: Stopped}), "removed rows are no error")
}

func TestReconcile(t *testing.T) {
	dead := func(int) bool { return false }
	alive := func(int) bool { return true }
	for name, c := range map[string]struct {
		status Status
		run    bool
		alive  func(int) bool
		want   Status
		reason Reason
	}{
		"crashed":            {Running, true, dead, Crashed, InternalError},
		"asked to stop":      {Draining, true, dead, Stopped, ShutdownRequested},
		"runs":               {Running, true, alive, Running, ""},
		"starting":           {Running, false, dead, Running, ""},
		"stopped already":    {Stopped, true, dead, Stopped, ""},
		"paused is not ours": {Paused, true, dead, Paused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := fresh(t)
			b := insert(t, s, "a", c.status)
			if c.run {
				_, err := s.BeginRun(t.Context(), b.ID, 4711)
				require.NoError(t, err)
			}
			got, err := s.Reconcile(t.Context(), b.ID, c.alive)
			require.NoError(t, err)
			assert.Equal(t, c.want, got.Status)
			if c.run {
				run, err := s.LastRun(t.Context(), b.ID)
				require.NoError(t, err)
				assert.Equal(t, c.reason, run.Reason)
			}
		})
	}
	assert.True(t, ProcessAlive(os.Getpid()))
	assert.True(t, ProcessAlive(1))
	assert.False(t, ProcessAlive(0))
	cmd := exec.Command("true")
	require.NoError(t, cmd.Run())
	assert.False(t, ProcessAlive(cmd.Process.Pid))
}

func image(ref, digest string, layers ...string) Image {
	img := Image{
		Reference: ref, Digest: digest, ConfigDigest: "sha256:c" + digest, MediaType: "m", Architecture: "amd64", OS: "linux", LayerCount: len(layers), TotalSize: 5,
		Config: ImageConfig{Env: []string{"A=b"}, Cmd: []string{"/bin/sh"}, Labels: map[string]string{"l": "1"}, WorkingDir: "/w", User: "u", StopSignal: "SIGTERM"},
	}
	for _, l := range layers {
		img.Layers = append(img.Layers, Layer{DiffID: l, BlobDigest: "blob" + l, MediaType: "tar", CompressedSize: 3, ErofsSize: 4096})
	}
	return img
}

func TestImages(t *testing.T) {
	s := fresh(t)
	one := image("docker.io/library/a:1", "d1", "base", "top1")
	require.NoError(t, s.SaveImage(t.Context(), one))
	require.NoError(t, s.SaveImage(t.Context(), one), "saving twice changes nothing")
	require.NoError(t, s.SaveImage(t.Context(), image("docker.io/library/b:1", "d2", "base", "top2")))
	require.NoError(t, s.SaveImage(t.Context(), image("docker.io/library/b:old", "d2", "base", "top2")))
	got, err := s.Image(t.Context(), one.Reference)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), got.CreatedAt, time.Minute)
	got.CreatedAt, got.UpdatedAt = time.Time{}, time.Time{}
	assert.Equal(t, one, got)
	all, err := s.Images(t.Context())
	require.NoError(t, err)
	assert.Len(t, all, 3)

	_, err = s.InsertSandbox(t.Context(), NewSandbox{Name: "user", Config: "{}", Status: Stopped, Rootfs: &Rootfs{Reference: "a:1", ManifestDigest: "d1", Mode: "erofs", UpperFSType: "ext4"}})
	require.NoError(t, err)
	got, err = s.Image(t.Context(), "a:1")
	require.NoError(t, err, "a reference that was used is known")
	assert.Equal(t, "d1", got.Digest)
	_, err = s.RemoveImage(t.Context(), one.Reference, false)
	var use *InUseError
	require.ErrorAs(t, err, &use)
	assert.ErrorIs(t, err, ErrInUse)
	assert.Equal(t, []string{"user"}, use.Sandboxes)
	_, err = s.RemoveImage(t.Context(), "nothing", false)
	assert.ErrorIs(t, err, ErrNotFound)

	gone, err := s.RemoveImage(t.Context(), "docker.io/library/b:old", false)
	require.NoError(t, err)
	assert.Equal(t, Removed{References: []string{"docker.io/library/b:old"}}, gone, "another reference keeps the manifest")
	gone, err = s.PruneImages(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Removed{References: []string{"docker.io/library/b:1"}, Manifests: []string{"d2"}, Layers: []string{"top2"}}, gone)
	_, err = s.RemoveImage(t.Context(), "a:1", true)
	require.NoError(t, err)
	gone, err = s.RemoveImage(t.Context(), one.Reference, true)
	require.NoError(t, err)
	assert.Equal(t, Removed{References: []string{one.Reference}}, gone, "the sandbox still pins its layers")
	_, err = s.Image(t.Context(), one.Reference)
	assert.ErrorIs(t, err, ErrNotFound)
}

func TestTimestampsOfOtherPrograms(t *testing.T) {
	want := time.Date(2026, 11, 24, 0, 2, 10, 0, time.UTC)
	for _, text := range []string{"2026-11-24 00:02:10", "2026-11-24 00:02:10.000000", "2026-11-24T00:02:10Z", "2026-11-24T01:02:10+01:00", "2026-11-24 00:02:10+00:00"} {
		got, err := parseTime(nullString(text))
		require.NoError(t, err)
		assert.Equal(t, want, got, text)
	}
	_, err := parseTime(nullString("yesterday"))
	assert.ErrorIs(t, err, ErrCorrupt)
}

func TestConcurrentWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "msb.db")
	open(t, path)
	var wg sync.WaitGroup
	for w := range 4 {
		s := open(t, path)
		wg.Go(func() {
			for i := range 20 {
				_, err := s.InsertSandbox(t.Context(), NewSandbox{Name: fmt.Sprint(w, "-", i), Config: "{}", Status: Running})
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	all, err := open(t, path).Sandboxes(t.Context(), Filter{})
	require.NoError(t, err)
	slots := make(map[uint16]bool)
	for _, b := range all {
		slots[b.NetworkSlot] = true
	}
	assert.Len(t, slots, 80, "no slot was given twice")
}

func TestBusyIsTyped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "msb.db")
	holder := open(t, path)
	s, err := Open(t.Context(), path, Options{BusyTimeout: time.Millisecond})
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	tx, err := holder.db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`UPDATE sandbox SET status = 'Running'`)
	require.NoError(t, err)
	_, err = s.SetStatus(t.Context(), 1, Stopped)
	assert.ErrorIs(t, err, ErrBusy)
	require.NoError(t, tx.Rollback())
	_, err = s.SetStatus(t.Context(), 1, Stopped)
	assert.NoError(t, err)
}

// P28: a full disk is an error of its own and leaves the database usable.
func TestFull(t *testing.T) {
	s := fresh(t)
	_, err := s.db.Exec(`PRAGMA max_page_count = 80`)
	require.NoError(t, err)
	for i := 0; err == nil && i < 1000; i++ {
		_, err = s.InsertSandbox(t.Context(), NewSandbox{Name: fmt.Sprint(i), Config: string(make([]byte, 4000)), Status: Running})
	}
	require.ErrorIs(t, err, ErrFull)
	all, err := s.Sandboxes(t.Context(), Filter{})
	require.NoError(t, err)
	require.NotEmpty(t, all)
	_, err = s.DeleteSandbox(t.Context(), all[0].ID)
	assert.NoError(t, err)
	_, err = s.SetStatus(t.Context(), all[1].ID, Stopped)
	assert.NoError(t, err)
	assert.NotErrorIs(t, errors.New("x"), ErrFull)
}

func nullString(s string) sql.NullString { return sql.NullString{String: s, Valid: true} }
