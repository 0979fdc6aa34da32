//go:build linux

package main

import (
	"encoding/json"
	"errors"
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
	// turns are how often either side makes its requests of either kind in a round, so many
	// at once: noise that lasts longer than a turn meets both.
	turns    = 10
	requests = "100"
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
// small requests take, of two sides that run at the same time. The first round loads the
// image before. A turn of requests that fails is left out, and in the error.
func network(r *report, v *servers, sides []*side, image string, first bool) error {
	for _, s := range sides {
		if err := s.connect(image, first); err != nil {
			return err
		}
	}
	for _, way := range []struct{ name, flag string }{{"TCP from the guest", "-4"}, {"TCP to the guest", "--reverse"}} {
		for _, s := range sides {
			if err := s.iperf(r, v, way.name, way.flag); err != nil {
				return err
			}
		}
	}
	var failed error
	for range turns {
		for _, kind := range []struct{ name, keep string }{{"request on an open connection", "keep"}, {"request on a new connection", "close"}} {
			for _, s := range sides {
				if err := s.requests(r, v, kind.name, kind.keep); err != nil {
					fmt.Fprintln(os.Stderr, "bench:", err)
					failed = errors.Join(failed, err)
				}
			}
		}
	}
	for _, s := range sides {
		failed = errors.Join(failed, s.quietly("stop", netbox), s.quietly("rm", netbox))
	}
	return failed
}

// connect starts the sandbox that is to have a network, and puts this program into it.
func (s *side) connect(image string, first bool) error {
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
	var took []float64
	for line := range strings.Lines(string(out)) {
		ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: get printed %q: %w", s.name, line, err)
		}
		took = append(took, time.Duration(ns).Seconds())
	}
	fmt.Fprintf(os.Stderr, "bench: %s: %s: %.1f ms, %.1f ms\n", s.name, name, 1e3*percentile(took, 50), 1e3*percentile(took, 99))
	for _, t := range took {
		r.add(s, name, t)
	}
	return nil
}
