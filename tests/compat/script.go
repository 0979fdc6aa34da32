package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Program is one msb.
type Program struct {
	Name    string // what reports call it
	Path    string // the front end
	Runtime string // what the front end starts as the runtime of a sandbox; "" for itself
	Library string // the official kernel bundle, for a front end or a runtime that asks for it; "" for none
}

// Script is a sequence of shell commands in which msb is the program under test.
type Script struct {
	Name  string
	Steps []string
}

// Home is a data root and a working directory beside it, fresh for each script.
type Home struct {
	Root, Work, Temp string
	Image            string            // archive of an image, $IMAGE of the scripts
	Progress         func(step string) // told of each step, for those who watch; nil for none
}

// NewHome makes a home below dir. The path is short, for it becomes part of socket names.
func NewHome(dir string) (Home, error) {
	temp, err := os.MkdirTemp(dir, "h")
	if err != nil {
		return Home{}, err
	}
	h := homeAt(temp)
	return h, errors.Join(os.Mkdir(h.Root, 0o755), os.Mkdir(h.Work, 0o755))
}

func homeAt(folder string) Home {
	return Home{Root: filepath.Join(folder, "home"), Work: filepath.Join(folder, "work"), Temp: folder}
}

// Observation is what one step showed.
type Observation struct {
	Stdout, Stderr string
	Code           int
}

// limit is how long a step may take, on a slow machine whose clock may run ahead.
const limit = 5 * time.Minute

// Do runs one step. It fails only if the step could not be run at all.
func (p Program) Do(ctx context.Context, h Home, step string) (Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "msb() { \"$MSB\" \"$@\"; }\n"+step)
	cmd.Dir = h.Work
	cmd.Env = []string{"MSB=" + p.Path, "MSB_HOME=" + h.Root, "HOME=" + h.Temp, "TMPDIR=" + h.Temp, "PATH=" + os.Getenv("PATH"), "NO_COLOR=1", "TZ=UTC", "TERM=dumb", "IMAGE=" + h.Image}
	if p.Runtime != "" {
		cmd.Env = append(cmd.Env, "MSB_PATH="+p.Runtime)
	}
	if p.Library != "" {
		cmd.Env = append(cmd.Env, "MSB_LIBKRUNFW_PATH="+p.Library)
	}
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		return Observation{}, fmt.Errorf("%s: %s: %w: %s", p.Name, step, errors.Join(ctx.Err(), err), stderr.String())
	}
	return Observation{h.plain(p, stdout.String()), h.plain(p, shape(stderr.String())), cmd.ProcessState.ExitCode()}, nil
}

// plain makes a text independent of the home, the program and the moment.
func (h Home) plain(p Program, text string) string {
	for _, r := range [][2]string{{h.Root, "<home>"}, {h.Work, "<work>"}, {h.Temp, "<temp>"}, {h.Image, "<image>"}, {p.Path, "<msb>"}} {
		if r[0] != "" {
			text = strings.ReplaceAll(text, r[0], r[1])
		}
	}
	return Normal(text)
}
