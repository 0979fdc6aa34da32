package launch

import "syscall"

// newSession cuts the child from this process's terminal and process group. The runtime
// itself ignores SIGHUP.
func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
