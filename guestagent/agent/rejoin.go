//go:build linux

package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/gomsb/gomsb/guestagent/agent/boot"
	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
)

// How often a copy tries to reach its host, which listens before the copy runs.
const (
	redials     = 5
	redialPause = 100 * time.Millisecond
)

// rejoin connects a copy of a guest that served to its host, and makes it what the host
// says. It returns the stream, on which the host waits for ready. A guest that is copied
// meanwhile begins again in each copy.
func (a *agent) rejoin() (*hostlink.Conn, error) {
	for {
		host, err := a.redial()
		if err != nil {
			return nil, err
		}
		a.host.Store(host)
		a.state.Network, err = a.become(host, a.state.Network, say)
		switch {
		case err == nil:
			return host, host.Async()
		case !errors.Is(err, boot.ErrCopied):
			a.failed(err)
			return nil, fmt.Errorf("become a guest of its own: %w", err)
		}
		_ = host.Close() // it is broken
	}
}

// redial connects to the host.
func (a *agent) redial() (host *hostlink.Conn, err error) {
	for try := range redials {
		if try > 0 {
			time.Sleep(redialPause)
		}
		if host, err = a.Dial(hostlink.AgentPort); err == nil {
			return host, nil
		}
	}
	return nil, err
}
