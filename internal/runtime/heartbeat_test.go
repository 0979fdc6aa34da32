package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// observedBeat is a heartbeat.json of the official 0.6.18.
const observedBeat = `{"heartbeat_seq":6,"activity_seq":69,"timestamp":"2026-11-24T00:02:16.959746500Z",` +
	`"last_activity":"2026-11-24T00:02:16.959746500Z","active_exec_sessions":0,"active_fs_streams":0,"active_tcp_streams":0,` +
	`"activity_counters":{"host_messages":33,"guest_messages":36,"exec_output_bytes":33,"fs_bytes":11,"tcp_bytes":0}}`

func TestHeartbeatIsWrittenAsObserved(t *testing.T) {
	dir := t.TempDir()
	p := &pulse{dir: dir, now: time.Now}
	require.NoError(t, p.follow(strings.NewReader(observedBeat+"\n")))
	assert.Nil(t, p.upper())
	b, err := os.ReadFile(filepath.Join(dir, "heartbeat.json"))
	require.NoError(t, err)
	assert.Equal(t, observedBeat, string(b))
	assert.NoFileExists(t, filepath.Join(dir, "heartbeat.tmp"))
	require.NoError(t, clearHeartbeat(dir))
	require.NoError(t, clearHeartbeat(dir))
	assert.NoFileExists(t, filepath.Join(dir, "heartbeat.json"))
}

// TestRuntimeDirOfAnEarlierGuest gets it ready, whatever a guest left there.
func TestRuntimeDirOfAnEarlierGuest(t *testing.T) {
	outside := t.TempDir()
	kept := filepath.Join(outside, "kept")
	require.NoError(t, os.WriteFile(kept, []byte("kept"), 0o600))
	for name, leave := range map[string]func(dir string) error{
		"nothing": func(dir string) error { return os.Remove(dir) },
		"files": func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "scripts"), nil, 0o600), os.MkdirAll(filepath.Join(dir, heartbeatName, "d"), 0o700), os.MkdirAll(filepath.Join(dir, heartbeatTemp, "d"), 0o700))
		},
		"links": func(dir string) error {
			return errors.Join(os.Symlink(outside, filepath.Join(dir, "scripts")), os.Symlink(kept, filepath.Join(dir, heartbeatName)), os.Symlink("nowhere", filepath.Join(dir, heartbeatTemp)))
		},
	} {
		dir := filepath.Join(t.TempDir(), "runtime")
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, leave(dir))
		require.NoError(t, prepareRuntimeDir(dir), name)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, name)
		assert.True(t, entries[0].IsDir(), name)
		assert.FileExists(t, kept)
	}
}

// TestHeartbeatTellsOfTheWritableLayer, in which case the file is the same.
func TestHeartbeatTellsOfTheWritableLayer(t *testing.T) {
	dir := t.TempDir()
	p := &pulse{dir: dir, now: time.Now}
	more := strings.TrimSuffix(observedBeat, "}") + `,"gomsb_upper":{"used_bytes":5,"free_bytes":7}}`
	require.NoError(t, p.follow(strings.NewReader(more+"\n")))
	assert.Equal(t, &upperSpace{Used: 5, Free: 7}, p.upper())
	b, err := os.ReadFile(filepath.Join(dir, "heartbeat.json"))
	require.NoError(t, err)
	assert.Equal(t, observedBeat, string(b))
}

func TestStampDigits(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-02T03:04:05Z": "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1Z": "2026-01-02T03:04:05.100Z",
		"2026-01-02T03:04:05.120000Z": "2026-01-02T03:04:05.120Z", "2026-01-02T03:04:05.1234Z": "2026-01-02T03:04:05.123400Z",
		"2026-01-02T03:04:05.1234567Z": "2026-01-02T03:04:05.123456700Z", "2026-01-02T03:04:05+01:00": "2026-01-02T02:04:05Z",
	} {
		var s stamp
		require.NoError(t, json.Unmarshal([]byte(`"`+text+`"`), &s))
		b, err := json.Marshal(s)
		require.NoError(t, err)
		assert.Equal(t, `"`+want+`"`, string(b))
	}
}

// A guest decides how often it beats, not how often the host writes.
func TestHeartbeatFileIsWrittenAtMostTwiceASecond(t *testing.T) {
	now := time.Unix(1000, 0)
	dir := t.TempDir()
	p := &pulse{dir: dir, now: func() time.Time { return now }}
	seq := func() (b beat) {
		text, err := os.ReadFile(filepath.Join(dir, "heartbeat.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &b))
		return b
	}
	beatAt := func(n uint64) {
		b := beat{Seq: n, ActivitySeq: n}
		p.note(b)
		require.NoError(t, p.save(b))
	}
	for n := uint64(1); n <= 1000; n++ {
		beatAt(n)
	}
	assert.Equal(t, uint64(1), seq().Seq)
	assert.Equal(t, uint64(1000), p.last.ActivitySeq, "but all count")
	now = now.Add(writeEvery)
	beatAt(1001)
	assert.Equal(t, uint64(1001), seq().Seq)
}

func TestHostileHeartbeats(t *testing.T) {
	for name, text := range map[string]string{
		"garbage": "hello\n", "long": strings.Repeat(" ", maxBeat+1), "negative": `{"heartbeat_seq":-1}` + "\n",
		"huge": `{"active_exec_sessions":99999999999}` + "\n", "time": `{"timestamp":"yesterday"}` + "\n", "array": "[]\n",
	} {
		p := &pulse{dir: t.TempDir(), now: time.Now}
		assert.Error(t, p.follow(strings.NewReader(text)), name)
		assert.Zero(t, p.idle(), name)
	}
}

// A link that the guest put in the way is replaced, not followed.
func TestHeartbeatFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o644))
	for _, name := range []string{heartbeatTemp, heartbeatName} {
		require.NoError(t, os.Symlink(victim, filepath.Join(dir, name)))
	}
	p := &pulse{dir: dir, now: time.Now}
	require.NoError(t, p.follow(strings.NewReader("{}\n")))
	b, err := os.ReadFile(victim)
	require.NoError(t, err)
	assert.Equal(t, "precious", string(b))
}

// A folder that cannot be written to costs the file, not what is known.
func TestHeartbeatWithoutFolder(t *testing.T) {
	now := time.Unix(1000, 0)
	p := &pulse{dir: "/does/not/exist", now: func() time.Time { return now }}
	assert.ErrorIs(t, p.follow(strings.NewReader("{}\n{}\n")), os.ErrNotExist)
	now = now.Add(time.Minute)
	assert.Equal(t, time.Minute, p.idle())
}

func TestIdle(t *testing.T) {
	now := time.Unix(1000, 0)
	p := &pulse{now: func() time.Time { return now }}
	step := func(d time.Duration) { now = now.Add(d) }
	assert.Zero(t, p.idle(), "nothing is known yet")
	step(time.Hour)
	assert.Zero(t, p.idle())
	p.note(beat{ActivitySeq: 1})
	step(3 * time.Second)
	p.note(beat{ActivitySeq: 1})
	assert.Equal(t, 3*time.Second, p.idle())
	p.note(beat{ActivitySeq: 2, ExecCount: 1})
	step(time.Hour)
	assert.Zero(t, p.idle(), "a command runs")
	p.note(beat{ActivitySeq: 3})
	assert.Zero(t, p.idle())
	step(time.Second)
	p.note(beat{ActivitySeq: 3, FSCount: 1, TCPCount: 1, Timestamp: stamp{now.Add(-time.Hour)}})
	assert.Equal(t, time.Second, p.idle(), "streams without traffic, and the guest's clock, do not count")
}

func FuzzHeartbeat(f *testing.F) {
	f.Add([]byte(observedBeat + "\n"))
	f.Add([]byte("{}\n{\"active_exec_sessions\":1}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, stream []byte) {
		p := &pulse{dir: dir, now: time.Now}
		if p.follow(strings.NewReader(string(stream))) == nil && p.known {
			b, err := os.ReadFile(filepath.Join(dir, "heartbeat.json"))
			require.NoError(t, err)
			require.True(t, json.Valid(b), "%q", b)
		}
	})
}

func TestPausesAreNotIdle(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	p := &pulse{now: func() time.Time { return now }}
	p.note(beat{Seq: 1, ActivitySeq: 1})
	now = now.Add(2 * time.Second)
	p.hold()
	now = now.Add(time.Hour)
	assert.Equal(t, 2*time.Second, p.idle())
	p.release()
	assert.Equal(t, 2*time.Second, p.idle())
	now = now.Add(time.Second)
	assert.Equal(t, 3*time.Second, p.idle())
	p.hold()
	now = now.Add(time.Hour)
	p.note(beat{Seq: 2, ActivitySeq: 2}) // it was on its way
	assert.Zero(t, p.idle())
	p.release()
	assert.Zero(t, p.idle())
}
