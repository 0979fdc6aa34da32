package microsandbox

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestExposition(t *testing.T) {
	t.Parallel()
	text := string(exposition([]MetricsReport{
		{Name: "a", Metrics: Metrics{VCPUTimeNs: 1_500_000_000, MemoryLimitBytes: 512 << 20, MemoryAvailableBytes: pointer(uint64(7)), Uptime: time.Minute}},
		{Name: "b", Metrics: Metrics{NetRxBytes: 3}},
	}))
	for _, line := range []string{
		"# TYPE microsandbox_cpu_seconds_total counter", `microsandbox_cpu_seconds_total{sandbox="a"} 1.5`, `microsandbox_memory_limit_bytes{sandbox="a"} 5.36870912e+08`,
		`microsandbox_memory_available_bytes{sandbox="a"} 7`, `microsandbox_uptime_seconds{sandbox="a"} 60`, `microsandbox_network_received_bytes_total{sandbox="b"} 3`,
	} {
		assert.Contains(t, text, line+"\n")
	}
	assert.NotContains(t, text, `memory_available_bytes{sandbox="b"}`, "what is not known is not 0")
	assert.Equal(t, len(families), strings.Count(text, "# TYPE "))
}
