package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	msb "github.com/gomsb/gomsb/sdk"
)

func TestMetrics(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	r := succeed(t, "metrics")
	assert.Equal(t, result{0, "", "No running sandboxes.\n"}, r)
	assert.Equal(t, "[]\n", succeed(t, "metrics", "--format", "json").out)
	succeed(t, "create", "-n", "m1", "-c", "2", "-m", "64", "mini")

	r = succeed(t, "metrics", "m1")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	require.Len(t, lines, 2)
	assert.Regexp(t, `^NAME +STATE +CPU +MEM +DISK R/W /s +NET RX/TX /s +UPTIME$`, lines[0])
	assert.Regexp(t, `^m1 +running +\d+\.\d\d / 2c +.* / 64\.0 MiB +.*s$`, lines[1])

	var one map[string]any
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "metrics", "m1", "--format", "json").out), &one))
	assert.Equal(t, "running", one["state"])
	assert.EqualValues(t, 64<<20, one["memory_limit_bytes"])
	assert.Len(t, one, 18)
	at, err := time.Parse(time.RFC3339, one["timestamp"].(string))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), at, time.Hour)

	succeed(t, "stop", "m1")
	assert.Equal(t, "No running sandboxes.\n", succeed(t, "metrics").err)
	assert.Regexp(t, `(?m)^m1 +exited +— +.* total +.* total +ran \d+s$`, succeed(t, "metrics", "--all").out)
	assert.Contains(t, succeed(t, "metrics", "m1").out, "exited")
	succeed(t, "rm", "m1")
	assert.Contains(t, succeed(t, "metrics", "m1").out, "exited", "the last sample outlives the sandbox")
}

func TestMetricsMistakes(t *testing.T) {
	newHome(t)
	for line, want := range map[string]result{
		"metrics -w -f":               {2, "", "'--watch' cannot be used with '--follow'"},
		"metrics -f --format json":    {2, "", "cannot be used with '--follow'"},
		"metrics -w --format json":    {2, "", "cannot be used with '--watch'"},
		"metrics -w":                  {1, "", "--watch requires a terminal; use --follow for machine-readable streaming"},
		"metrics --interval 0":        {1, "", `invalid --interval "0" (expected e.g. 500ms, 2s)`},
		"metrics --sort size":         {2, "", "possible values: name, cpu, mem"},
		"metrics nobody":              {1, "", "sandbox not found: nobody"},
		"metrics one two":             {2, "", ""},
		"metrics --interval 1.5.2 -f": {1, "", "invalid --interval"},
	} {
		t.Run(line, func(t *testing.T) {
			r := run(strings.Fields(line)...)
			assert.Equal(t, want.code, r.code, r.err)
			assert.Empty(t, r.out)
			assert.Contains(t, r.err, want.err)
		})
	}
}

func TestMetricsRows(t *testing.T) {
	at := time.Unix(1000, 0)
	before := []msb.MetricsReport{
		{Name: "a", State: msb.MetricsRunning, CPUs: 1, Metrics: msb.Metrics{SampledAt: at, DiskReadBytes: 1024, NetTxBytes: 5000}},
	}
	after := []msb.MetricsReport{
		{Name: "a", State: msb.MetricsRunning, CPUs: 1, Metrics: msb.Metrics{
			SampledAt: at.Add(2 * time.Second), CPUPercent: 53, DiskReadBytes: 5 * 1024, NetTxBytes: 10, MemoryBytes: 17 << 20, MemoryLimitBytes: 512 << 20,
			Uptime: 148 * time.Second,
		}},
		{Name: "b", State: msb.MetricsStalled, Metrics: msb.Metrics{SampledAt: at, DiskReadBytes: 1 << 30}},
	}
	var out, empty strings.Builder
	printReports(&out, &empty, after, before)
	assert.Equal(t, ""+
		"NAME    STATE      CPU          MEM                     DISK R/W /s      NET RX/TX /s    UPTIME\n"+
		"a       running    0.53 / 1c    17.0 MiB / 512.0 MiB    2.0 KiB / 0 B    0 B / 0 B       2m28s\n"+
		"b       stalled    0.00 / -     0 B / 0 B               0 B / 0 B        0 B / 0 B       0s\n",
		out.String(), "a counter that fell began anew")
	assert.Empty(t, empty.String())
}

func TestMetricsOrder(t *testing.T) {
	reports := func() []msb.MetricsReport {
		return []msb.MetricsReport{
			{Name: "b", Metrics: msb.Metrics{CPUPercent: 5, MemoryBytes: 9}},
			{Name: "a", Metrics: msb.Metrics{CPUPercent: 5, MemoryBytes: 7}},
			{Name: "c", Metrics: msb.Metrics{CPUPercent: 50, MemoryBytes: 8}},
		}
	}
	for by, want := range map[string]string{"name": "abc", "cpu": "cab", "mem": "bca"} {
		all := reports()
		sortReports(all, by)
		assert.Equal(t, want, all[0].Name+all[1].Name+all[2].Name, by)
	}
}
