package microsandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
)

// family is one metric of the exposition: value is false where a sample does not know it.
type family struct {
	name, kind, help string
	value            func(*Metrics) (float64, bool)
}

func known[T float64 | uint64](get func(*Metrics) T) func(*Metrics) (float64, bool) {
	return func(m *Metrics) (float64, bool) { return float64(get(m)), true }
}

func optional(get func(*Metrics) *uint64) func(*Metrics) (float64, bool) {
	return func(m *Metrics) (float64, bool) {
		p := get(m)
		return float64(value(p)), p != nil
	}
}

var families = []family{
	{"cpu_seconds_total", "counter", "Time of all virtual processors.", known(func(m *Metrics) float64 { return float64(m.VCPUTimeNs) / 1e9 })},
	{"memory_used_bytes", "gauge", "Memory that the guest uses.", known(func(m *Metrics) uint64 { return m.MemoryBytes })},
	{"memory_available_bytes", "gauge", "Memory that the guest could still use.", optional(func(m *Metrics) *uint64 { return m.MemoryAvailableBytes })},
	{"memory_host_resident_bytes", "gauge", "Host memory behind the guest's.", optional(func(m *Metrics) *uint64 { return m.MemoryHostResidentBytes })},
	{"memory_limit_bytes", "gauge", "Memory of the guest.", known(func(m *Metrics) uint64 { return m.MemoryLimitBytes })},
	{"disk_read_bytes_total", "counter", "Bytes read from disks.", known(func(m *Metrics) uint64 { return m.DiskReadBytes })},
	{"disk_written_bytes_total", "counter", "Bytes written to disks.", known(func(m *Metrics) uint64 { return m.DiskWriteBytes })},
	{"network_received_bytes_total", "counter", "Bytes that the guest received.", known(func(m *Metrics) uint64 { return m.NetRxBytes })},
	{"network_sent_bytes_total", "counter", "Bytes that the guest sent.", known(func(m *Metrics) uint64 { return m.NetTxBytes })},
	{"upper_used_bytes", "gauge", "Used space of the writable layer.", optional(func(m *Metrics) *uint64 { return m.UpperUsedBytes })},
	{"upper_free_bytes", "gauge", "Free space of the writable layer.", optional(func(m *Metrics) *uint64 { return m.UpperFreeBytes })},
	{"upper_host_allocated_bytes", "gauge", "Space of the host behind the writable layer.", optional(func(m *Metrics) *uint64 { return m.UpperHostAllocatedBytes })},
	{"uptime_seconds", "gauge", "Time since the start.", known(func(m *Metrics) float64 { return m.Uptime.Seconds() })},
}

// WritePrometheus writes the newest samples of all running sandboxes in the text format of
// Prometheus 0.0.4, for a handler of /metrics. The metrics are called microsandbox_*, with
// the sandbox's name as their label.
func WritePrometheus(ctx context.Context, w io.Writer) error {
	reports, err := MetricsReports(ctx, false)
	if err != nil {
		return err
	}
	_, err = w.Write(exposition(reports))
	return wrap(ErrIO, err)
}

// exposition is the samples in the text format. A sandbox's name needs no escapes.
func exposition(reports []MetricsReport) []byte {
	var b bytes.Buffer
	for _, f := range families {
		fmt.Fprintf(&b, "# HELP microsandbox_%s %s\n# TYPE microsandbox_%s %s\n", f.name, f.help, f.name, f.kind)
		for i := range reports {
			if v, ok := f.value(&reports[i].Metrics); ok {
				fmt.Fprintf(&b, "microsandbox_%s{sandbox=%q} %s\n", f.name, reports[i].Name, strconv.FormatFloat(v, 'g', -1, 64))
			}
		}
	}
	return b.Bytes()
}
