package flagtype

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMiB(t *testing.T) {
	for s, want := range map[string]uint32{
		"0": 0, "1": 1, "512": 512, "512M": 512, "512m": 512, "1G": 1024, "1g": 1024, "1.5G": 1536, "0.5g": 512, ".5G": 512, "4294967295": math.MaxUint32, "4194303G": 4194303 * 1024,
	} {
		got, err := MiB(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "M", "G", "-1", "-1G", "1.5M", "1.5", "1K", "1T", "4294967296", "4194304G", "NaNG", "InfG", "1 G", "0x10", "1GB", "+1", "1e3G", "0x1p3G", "1_0G", "."} {
		_, err := MiB(s)
		assert.Error(t, err, s)
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[string]time.Duration{"0": 0, "5": 5 * time.Second, "5s": 5 * time.Second, "2m": 2 * time.Minute, "3h": 3 * time.Hour} {
		for _, parse := range []func(string) (time.Duration, error){Seconds, SubSeconds} {
			got, err := parse(s)
			require.NoError(t, err, s)
			assert.Equal(t, want, got, s)
		}
	}
	got, err := SubSeconds("250ms")
	require.NoError(t, err)
	assert.Equal(t, 250*time.Millisecond, got)
	for _, s := range []string{"", "s", "5d", "5ms", "1h30m", "1.5s", "-1", "x", "99999999999999999999", "5 s"} {
		_, err := Seconds(s)
		assert.EqualError(t, err, "invalid digit found in string", s)
	}
	_, err = Seconds("9223372036854775807h")
	assert.ErrorContains(t, err, "too long")
}

func TestLogTime(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"30s": now.Add(-30 * time.Second), "5m": now.Add(-5 * time.Minute), "2h": now.Add(-2 * time.Hour), "1d": now.Add(-24 * time.Hour),
		"2026-11-24T10:00:00Z": now.Add(-2 * time.Hour), "2026-11-24T12:00:00+02:00": now.Add(-2 * time.Hour), "2026-11-24T11:59:59.5Z": now.Add(-500 * time.Millisecond),
	} {
		got, err := LogTime(s, now)
		require.NoError(t, err, s)
		assert.True(t, want.Equal(got), "%s: %s", s, got)
	}
	for _, s := range []string{"", "zz", "5", "5ms", "yesterday", "2026-11-24"} {
		_, err := LogTime(s, now)
		assert.EqualError(t, err, "could not parse time \""+s+"\" (expected RFC 3339 or `5m` etc.)")
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("GOMSB_TEST_ENV", "from here")
	for s, want := range map[string][2]string{"A=b": {"A", "b"}, "A=": {"A", ""}, "A=b=c": {"A", "b=c"}, "GOMSB_TEST_ENV": {"GOMSB_TEST_ENV", "from here"}} {
		k, v, err := Env(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, [2]string{k, v}, s)
	}
	for _, s := range []string{"", "=x", "GOMSB_TEST_UNSET"} {
		_, _, err := Env(s)
		assert.Error(t, err, s)
	}
}

func TestLabel(t *testing.T) {
	for s, want := range map[string][2]string{"a": {"a", ""}, "a=": {"a", ""}, "a=b=c": {"a", "b=c"}} {
		k, v, err := Label(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, [2]string{k, v}, s)
	}
	_, _, err := Label("=b")
	assert.Error(t, err)
}

func TestRlimit(t *testing.T) {
	for s, want := range map[string][2]uint64{"nofile=5": {5, 5}, "NOFILE=5:10": {5, 10}, "nofile=0": {0, 0}} {
		name, soft, hard, err := Rlimit(s)
		require.NoError(t, err, s)
		assert.Equal(t, "nofile", name)
		assert.Equal(t, want, [2]uint64{soft, hard}, s)
	}
	for _, s := range []string{"", "nofile", "=5", "nofile=", "nofile=x", "nofile=5:", "nofile=5:x", "nofile=10:5", "nofile=-1"} {
		_, _, _, err := Rlimit(s)
		assert.Error(t, err, s)
	}
}

func TestMetricsInterval(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, "2s": 2 * time.Second, "1.5s": 1500 * time.Millisecond, "0.5": 500 * time.Millisecond, "1m": time.Minute,
		"3": 3 * time.Second, "1ms": 100 * time.Millisecond, "24h": 0, "0": 0, "0s": 0, "-1": 0, "": 0, "s": 0, "1.5ms": 0, "1e3": 0, "NaN": 0, "99999m": 0,
		".": 0, "1_0": 0,
	} {
		got, err := MetricsInterval(text)
		assert.Equal(t, want, got, text)
		assert.Equal(t, want == 0, err != nil, text)
	}
}
