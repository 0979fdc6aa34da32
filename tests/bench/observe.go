//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// resident is the anonymous memory of the runtime process in MiB; the guest's is in it.
func (s *side) resident() (float64, error) {
	lists, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range lists {
		line, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(line), s.msb+"\x00sandbox\x00") {
			continue // ended, or another program
		}
		status, err := os.ReadFile(filepath.Join(filepath.Dir(path), "status"))
		if err != nil {
			return 0, err
		}
		kib := 0
		for field := range strings.Lines(string(status)) {
			words := strings.Fields(field)
			if len(words) > 1 && (words[0] == "RssAnon:" || words[0] == "RssShmem:") {
				n, err := strconv.Atoi(words[1])
				if err != nil {
					return 0, err
				}
				kib += n
			}
		}
		return float64(kib) / 1024, nil
	}
	return 0, fmt.Errorf("%s: no runtime process found", s.name)
}

// phase is a part of the time from the runtime's start to a ready guest.
type phase struct {
	name string
	took time.Duration
}

var readyLine = regexp.MustCompile(`the guest is ready .*boot=(\S+) init=(\S+) since_start=(\S+)`)

// phases reads how our runtime's last boot went from its log. There are none of theirs.
func (s *side) phases() ([]phase, error) {
	if s.name != "ours" {
		return nil, nil
	}
	log, err := os.ReadFile(filepath.Join(s.home, ".microsandbox", "sandboxes", sandbox, "logs", "runtime.log"))
	if err != nil {
		return nil, err
	}
	m := readyLine.FindSubmatch(log)
	if m == nil {
		return nil, fmt.Errorf("runtime.log does not say when the guest was ready:\n%s", log)
	}
	var all [3]time.Duration
	for i := range all {
		d, perr := time.ParseDuration(string(m[i+1]))
		all[i], err = d, errors.Join(err, perr)
	}
	kernel, agent, total := all[0], all[1], all[2]
	return []phase{
		{"runtime: from its start to the machine's, and hand-over", total - kernel - agent},
		{"kernel: from the machine's start to the agent's", kernel},
		{"agent: mounts and pivot until it serves", agent},
	}, err
}
