//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	// netbox is the name of the sandbox of a round that has a network.
	netbox = "n"
	// hostName is what a guest calls this machine.
	hostName = "host.microsandbox.internal"

	iperfSeconds = "8"
	requests     = "1000"
)

// servers are what guests talk to, on this machine's loopback.
type servers struct {
	web, iperf int // ports
	cmd        *exec.Cmd
}

// startServers starts a small page and iperf3, if they are needed.
func startServers(needed bool) (*servers, error) {
	if !needed {
		return &servers{}, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v := &servers{web: l.Addr().(*net.TCPAddr).Port}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
	}()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	v.iperf = free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	v.cmd = exec.Command("iperf3", "--server", "--bind", "127.0.0.1", "--port", strconv.Itoa(v.iperf))
	v.cmd.Stderr = os.Stderr
	return v, v.cmd.Start()
}

func (v *servers) stop() {
	if v.cmd == nil {
		return
	}
	_ = v.cmd.Process.Kill()
	_ = v.cmd.Wait()
}

// network measures a connection's throughput each way, in seconds for a MiB, and how long
// small requests take. The first round loads the image before.
func (s *side) network(r *report, v *servers, image string, first bool) error {
	if first {
		if err := s.quietly("load", "-q", "-i", image); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"create", "--pull", "never", "--name", netbox, "--net-rule", "allow@host", "iperf:latest"},
		{"cp", "-q", self, netbox + ":/bench"},
		{"exec", netbox, "--", "/bin/chmod", "755", "/bench"},
	} {
		if err := s.quietly(args...); err != nil {
			return err
		}
	}
	for _, way := range []struct{ name, flag string }{{"TCP from the guest", "-4"}, {"TCP to the guest", "--reverse"}} {
		if err := s.iperf(r, v, way.name, way.flag); err != nil {
			return err
		}
	}
	for _, kind := range []struct{ name, keep string }{{"request on an open connection", "keep"}, {"request on a new connection", "close"}} {
		if err := s.requests(r, v, kind.name, kind.keep); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"stop", netbox}, {"rm", netbox}} {
		if err := s.quietly(args...); err != nil {
			return err
		}
	}
	return nil
}

// iperf lets iperf3 in the guest measure.
func (s *side) iperf(r *report, v *servers, name, flag string) error {
	out, err := s.output("exec", netbox, "--", "iperf3", "--client", hostName, "--port", strconv.Itoa(v.iperf), "--time", iperfSeconds, "--json", flag)
	if err != nil {
		return err
	}
	var result struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &result); err != nil || result.End.Received.Rate <= 0 {
		return fmt.Errorf("%s: iperf3 printed no rate (%v):\n%s", s.name, err, out)
	}
	fmt.Fprintf(os.Stderr, "bench: %s: %s: %.1f Mbit/s\n", s.name, name, result.End.Received.Rate/1e6)
	r.add(s, name+": time for a MiB", 8*(1<<20)/result.End.Received.Rate)
	return nil
}

// requests lets this program in the guest measure.
func (s *side) requests(r *report, v *servers, name, keep string) error {
	out, err := s.output("exec", netbox, "--", "/bench", "get", fmt.Sprintf("http://%s:%d/", hostName, v.web), requests, keep)
	if err != nil {
		return err
	}
	var median, high time.Duration
	if _, err := fmt.Sscan(strings.TrimSpace(string(out)), (*int64)(&median), (*int64)(&high)); err != nil {
		return fmt.Errorf("%s: get printed %q: %w", s.name, out, err)
	}
	fmt.Fprintf(os.Stderr, "bench: %s: %s: %v, %v\n", s.name, name, median, high)
	r.add(s, name+": p50", median.Seconds())
	r.add(s, name+": p99", high.Seconds())
	return nil
}
