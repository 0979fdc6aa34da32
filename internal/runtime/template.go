package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/template"
)

// templateCommand is the argument after "sandbox" with which this program makes a boot
// template: then follow the folder of the cache, the folder of templates and the shape.
const templateCommand = "template"

// wantTemplate starts a process that makes the template this sandbox could have used. It
// lives on its own: a sandbox may well end before it.
func (s *sandbox) wantTemplate(shape *template.Shape) {
	if err := s.startBuilder(shape); err != nil {
		s.log.Warn("cannot make a boot template", "err", err)
	}
}

func (s *sandbox) startBuilder(shape *template.Shape) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(shape)
	if err != nil {
		return err
	}
	// Locks and pipes that came from the parent are not for a child that may live longer.
	if err := closeOnExec(); err != nil {
		return fmt.Errorf("keep descriptors from a child: %w", err)
	}
	cmd := exec.Command(self, "sandbox", templateCommand, s.config.CacheDir, s.config.Templates, string(text))
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), launch.SelfEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.log.Info("a boot template is made in the background", "pid", cmd.Process.Pid)
	go func() { _ = cmd.Wait() }() // whether it succeeded is seen by the next sandbox
	return nil
}
