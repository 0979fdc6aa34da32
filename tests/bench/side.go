//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// side is one of the two commands, with a data root of its own.
type side struct {
	name, msb, home string
}

func newSide(name, msb, root string) *side {
	return &side{name: name, msb: msb, home: filepath.Join(root, name)}
}

// run invokes the command and returns how long it took. Its output must be want, unless
// that is nil.
func (s *side) run(want []byte, args ...string) (time.Duration, error) {
	cmd := exec.Command(s.msb, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MSB_") && !strings.HasPrefix(kv, "HOME=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+s.home, "NO_COLOR=1")
	if err := os.MkdirAll(s.home, 0o755); err != nil {
		return 0, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return took, fmt.Errorf("%s: msb %s: %w\n%s", s.name, strings.Join(args, " "), err, stderr.Bytes())
	}
	if want != nil && !bytes.Equal(stdout.Bytes(), want) {
		return took, fmt.Errorf("%s: msb %s printed %d bytes, %d wanted", s.name, strings.Join(args, " "), stdout.Len(), len(want))
	}
	return took, nil
}

func (s *side) load(r *report, image string) error {
	took, err := s.run(nil, "load", "-q", "-i", image)
	r.add(s, "load an image", took.Seconds())
	return err
}

// sandbox is the name of the one sandbox of a round.
const sandbox = "b"

// round takes every step once. A step that is taken 0 times is a look at memory.
func (s *side) round(r *report) error {
	hello := []byte("hello\n")
	megabytes := bytes.Repeat([]byte("y\n"), 4<<20)
	inside := func(script string) []string { return []string{"exec", sandbox, "--", "/bin/sh", "-c", script} }
	file := filepath.Join(s.home, "file")
	if err := os.MkdirAll(s.home, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, megabytes, 0o644); err != nil {
		return err
	}
	for _, step := range []struct {
		name  string
		times int
		want  []byte
		args  []string
	}{
		{"run echo: create, exec, stop", 1, hello, []string{"run", "--pull", "never", "mini:latest", "--", "/bin/echo", "hello"}},
		{"create: until the agent is ready", 1, nil, []string{"create", "--pull", "never", "--name", sandbox, "mini:latest"}},
		{"exec echo", 5, hello, []string{"exec", sandbox, "--", "/bin/echo", "hello"}},
		{"memory of the runtime and its idle guest", 0, nil, nil},
		{"guest: 200 times fork and exec", 1, nil, inside("i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done")},
		{"guest: write and read 64 MiB on the root", 1, nil, inside("dd if=/dev/zero of=/big bs=1M count=64 conv=fsync 2>/dev/null; dd if=/big of=/dev/null bs=1M 2>/dev/null; rm /big")},
		{"output of 8 MiB", 1, megabytes, []string{"exec", sandbox, "--", "/bin/sh", "-c", "yes | head -c 8388608"}},
		{"copy 8 MiB in", 1, nil, []string{"cp", "-q", file, sandbox + ":/file"}},
		{"memory of the runtime and its guest after that", 0, nil, nil},
	} {
		if step.times == 0 {
			mib, err := s.resident()
			if err != nil {
				return err
			}
			r.add(s, step.name, mib)
		}
		for range step.times {
			took, err := s.run(step.want, step.args...)
			if err != nil {
				return err
			}
			r.add(s, step.name, took.Seconds())
		}
	}
	phases, err := s.phases()
	if err != nil {
		return err
	}
	r.addPhases(phases)
	took, err := s.run(nil, "stop", sandbox)
	r.add(s, "stop", took.Seconds())
	if err != nil {
		return err
	}
	_, err = s.run(nil, "rm", sandbox)
	return err
}
