package microsandbox

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/oci"
)

// initSpec is the program that becomes PID 1.
type initSpec struct {
	Cmd  string    `json:"cmd"`
	Args []string  `json:"args"`
	Env  []envPair `json:"env"`
}

// envPair is a variable that is stored as ["KEY","VALUE"].
type envPair keyValue

// MarshalJSON writes the pair.
func (p envPair) MarshalJSON() ([]byte, error) { return json.Marshal([2]string{p.Key, p.Value}) }

// UnmarshalJSON reads the pair, or the object that others are stored as.
func (p *envPair) UnmarshalJSON(b []byte) error {
	var pair []string
	if json.Unmarshal(b, &pair) != nil {
		return json.Unmarshal(b, (*keyValue)(p))
	}
	if len(pair) != 2 {
		return fmt.Errorf("%s is no variable", b)
	}
	*p = envPair{pair[0], pair[1]}
	return nil
}

const (
	initAuto = "auto"
	// overlayInit is the init of s6-overlay, which runs the workload that its arguments
	// name.
	overlayInit = "/init"
)

// imageInits are the entrypoints of images that are inits.
var imageInits = []string{overlayInit, "/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"}

// setInit fills in the init. The automatic choice falls on the image's entrypoint if that
// is one, which then gets the environment of commands and is no part of them any more;
// else the guest looks for an init. The environment must be complete.
func (s *spec) setInit(c *SandboxConfig, img *oci.Image) {
	if c.Init == nil {
		return
	}
	s.Init = &initSpec{Cmd: c.Init.Cmd, Args: append([]string{}, c.Init.Args...), Env: []envPair{}}
	if img != nil && c.Init.Cmd == initAuto && len(img.Config.Entrypoint) > 0 && slices.Contains(imageInits, img.Config.Entrypoint[0]) {
		s.Init.Cmd = img.Config.Entrypoint[0]
		for _, e := range s.Env {
			s.Init.Env = append(s.Init.Env, envPair(e))
		}
		if c.Entrypoint == nil {
			s.Runtime.Entrypoint = slices.Clone(img.Config.Entrypoint[1:])
			if len(s.Runtime.Entrypoint) == 0 {
				s.Runtime.Entrypoint = nil
			}
		}
	}
	for _, k := range sortedKeys(c.Init.Env) {
		s.Init.Env = append(s.Init.Env, envPair{k, c.Init.Env[k]})
	}
}

// launchStartup makes st what the sandbox does by itself: a command that the runtime
// runs, or the arguments of an init that runs it.
func (s *spec) launchStartup(c *launch.Config, st *launch.Startup) {
	if st == nil || s.Init == nil || s.Init.Cmd != overlayInit {
		c.Startup = st
		return
	}
	c.Bootstrap.HandoffInit.Args = append(slices.Concat(s.Init.Args, []string{st.Cmd}), st.Args...)
}
