//go:build linux

package main

import (
	"bytes"
	"errors"
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
	begin := time.Now()
	got, err := s.output(args...)
	took := time.Since(begin)
	if err == nil && want != nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s: msb %s printed %d bytes, %d wanted", s.name, strings.Join(args, " "), len(got), len(want))
	}
	return took, err
}

// output invokes the command and returns what it prints.
func (s *side) output(args ...string) ([]byte, error) {
	cmd := exec.Command(s.msb, args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MSB_") && !strings.HasPrefix(kv, "HOME=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+s.home, "NO_COLOR=1")
	if err := os.MkdirAll(s.home, 0o755); err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: msb %s: %w\n%s", s.name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// loads loads each archive into an empty cache.
func (s *side) loads(r *report, images []string) error {
	for _, image := range images {
		if err := os.RemoveAll(s.home); err != nil {
			return err
		}
		took, err := s.run(nil, "load", "-q", "-i", image)
		if err != nil {
			return err
		}
		r.add(s, "load "+filepath.Base(image), took.Seconds())
	}
	return nil
}

// sandbox is the name of the one sandbox of a round.
const sandbox = "b"

// step is a command that is taken so many times, each of which must print want, unless
// that is nil. One that is taken 0 times is a look at memory.
type step struct {
	name  string
	times int
	want  []byte
	args  []string
}

// inside is a step in which the guest's shell runs a script.
func inside(name, script string) step {
	return step{"guest: " + name, 1, nil, []string{"exec", sandbox, "--", "/bin/sh", "-ec", script}}
}

// round takes every step once; the first one loads the image before.
func (s *side) round(r *report, image string, first bool) error {
	if first {
		if err := s.loads(r, []string{image}); err != nil {
			return err
		}
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.take(r, s.steps()); err != nil {
		return err
	}
	phases, err := s.phases()
	if err != nil {
		return err
	}
	r.addPhases(phases)
	if err := s.take(r, []step{{"stop", 1, nil, []string{"stop", sandbox}}}); err != nil {
		return err
	}
	if err := s.quietly("rm", sandbox); err != nil {
		return err
	}
	if err := s.quietly("create", "--pull", "never", "--name", sandbox, "-v", s.share()+":/share", "mini:latest"); err != nil {
		return err
	}
	if err := s.take(r, shareSteps()); err != nil {
		return err
	}
	return errors.Join(s.quietly("stop", sandbox), s.quietly("rm", sandbox))
}

// share is the directory that is mounted in the guest, file one of 8 MiB to copy there.
func (s *side) share() string { return filepath.Join(s.home, "share") }
func (s *side) file() string  { return filepath.Join(s.home, "file") }

// megabytes is what is in file, and what the guest prints.
func megabytes() []byte { return bytes.Repeat([]byte("y\n"), 4<<20) }

func (s *side) prepare() error {
	if err := os.MkdirAll(s.share(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.file(), megabytes(), 0o644)
}

func (s *side) steps() []step {
	hello := []byte("hello\n")
	return []step{
		{"run echo: create, exec, stop", 1, hello, []string{"run", "--pull", "never", "mini:latest", "--", "/bin/echo", "hello"}},
		{"create: until the agent is ready", 1, nil, []string{"create", "--pull", "never", "--name", sandbox, "mini:latest"}},
		{"exec echo", 5, hello, []string{"exec", sandbox, "--", "/bin/echo", "hello"}},
		{"memory of the runtime and its idle guest", 0, nil, nil},
		inside("200 times fork and exec", "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"),
		inside("write and read 64 MiB on the root", "dd if=/dev/zero of=/big bs=1M count=64 conv=fsync 2>/dev/null; dd if=/big of=/dev/null bs=1M 2>/dev/null"),
		{"memory of the runtime and its guest after that", 0, nil, nil},
		inside("the same once more, in memory that was used", "dd if=/dev/zero of=/big bs=1M count=64 conv=fsync 2>/dev/null; dd if=/big of=/dev/null bs=1M 2>/dev/null; rm /big"),
		{"output of 8 MiB", 1, megabytes(), []string{"exec", sandbox, "--", "/bin/sh", "-c", "yes | head -c 8388608"}},
		{"copy 8 MiB in", 1, nil, []string{"cp", "-q", s.file(), sandbox + ":/file"}},
	}
}

// shareSteps do with many small files on a mounted directory what unpacking and building
// a source tree does.
func shareSteps() []step {
	return []step{
		inside("share: make 1000 small files", "mkdir /share/a; cd /share/a; i=0; while [ $i -lt 1000 ]; do echo $i > $i; i=$((i+1)); done"),
		inside("share: copy them", "cp -r /share/a /share/b"),
		inside("share: list them with attributes", "ls -lR /share >/dev/null"),
		inside("share: read them", "cat /share/a/* /share/b/* >/dev/null"),
		inside("share: archive and unpack them", "cd /share; tar cf c.tar a; mkdir c; tar xf c.tar -C c"),
		inside("share: remove them", "rm -r /share/a /share/b /share/c /share/c.tar"),
	}
}

func (s *side) take(r *report, steps []step) error {
	for _, step := range steps {
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
	return nil
}

// quietly is run of a command that is not measured.
func (s *side) quietly(args ...string) error {
	_, err := s.run(nil, args...)
	return err
}
