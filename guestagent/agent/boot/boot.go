//go:build linux

package boot

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/account"
	"github.com/gomsb/gomsb/guestagent/agent/netconf"
	"github.com/gomsb/gomsb/guestagent/proto"
)

// The kinds of boot error; the host files them under the stages of the same names.
const (
	KindMount   proto.ErrorKind = "mount"
	KindConfig  proto.ErrorKind = "config"
	KindNetwork proto.ErrorKind = "network"
	KindImage   proto.ErrorKind = "image"
)

// Error is a boot that failed.
type Error struct {
	Kind proto.ErrorKind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func fail(kind proto.ErrorKind, what string, err error) error {
	return &Error{Kind: kind, Err: fmt.Errorf("%s: %w", what, err)}
}

// Result is what serving needs to know of the boot.
type Result struct {
	Env         []string // what commands inherit
	DefaultUser string
	DefaultCwd  string
	Restricted  bool
	// Upper is an open directory on the writable layer's device, -1 if there is none.
	Upper   int
	Handoff *proto.HandoffInit
	Network *proto.Network // as configured; nil if there is none
}

// Run boots. host is the stream to the host, on which nothing was read or written yet.
// An error is an *[Error]; half the work may be done then, and nothing is undone.
func Run(host Host) (*Result, error) {
	b, err := receive(host)
	if err != nil {
		return nil, &Error{Kind: KindConfig, Err: err}
	}
	mounts, err := planMounts(b)
	if err != nil {
		return nil, &Error{Kind: KindConfig, Err: err}
	}
	if err := setRlimits(b.Rlimits); err != nil {
		return nil, &Error{Kind: KindConfig, Err: err}
	}
	res := &Result{
		DefaultUser: b.User, DefaultCwd: b.DefaultCwd, Restricted: b.SecurityProfile == proto.ProfileRestricted,
		Upper: -1, Handoff: b.HandoffInit, Network: b.Network,
	}
	if res.Upper, err = enterRoot(b.BlockRoot); err != nil {
		return nil, err
	}
	if err := mountEssentials(); err != nil {
		return nil, err
	}
	shared, err := mountRuntime()
	if err != nil {
		return nil, err
	}
	if err := announce(host, b.User); err != nil {
		return nil, err
	}
	// While the host answers, do what needs no share of its.
	if err := netconf.Setup(b.Network); err != nil {
		return nil, fail(KindNetwork, "configure the network", err)
	}
	if err := setHostname(b.Hostname); err != nil {
		return nil, err
	}
	if err := awaitAck(host); err != nil {
		return nil, &Error{Kind: KindConfig, Err: err}
	}
	if err := mounts.execute(res.Restricted); err != nil {
		return nil, err
	}
	res.Env, err = settle(b, shared)
	return res, err
}

// settle writes the files that depend on the sandbox, and composes the environment.
func settle(b *proto.Bootstrap, shared bool) (env []string, err error) {
	if err := writeEtc(b); err != nil {
		return nil, fail(KindConfig, "write the guest's configuration", err)
	}
	if err := ensureTmp(); err != nil {
		return nil, fail(KindMount, "make the temporary directories", err)
	}
	env = environment(b.DefaultEnv)
	if !shared {
		return env, nil // then there are neither certificates nor scripts
	}
	if env, err = installTrust(env); err != nil {
		return nil, fail(KindConfig, "install the certificates", err)
	}
	if err := profileBlock(); err != nil {
		return nil, fail(KindConfig, "add the scripts to /etc/profile", err)
	}
	return env, nil
}

// setRlimits sets the limits of this process, which commands inherit.
func setRlimits(limits []proto.Rlimit) error {
	for _, r := range limits {
		n, ok := proto.RlimitNumber(r.Resource)
		if !ok {
			return fmt.Errorf("resource limit %q is not known", r.Resource)
		}
		// The syscall package gives children the file limit from before it raised it,
		// unless it sees that somebody set it: so not x/sys here.
		if err := syscall.Setrlimit(n, &syscall.Rlimit{Cur: r.Soft, Max: r.Hard}); err != nil {
			return fmt.Errorf("set resource limit %s to %d:%d: %w", r.Resource, r.Soft, r.Hard, err)
		}
	}
	return nil
}

func setHostname(name string) error {
	if name == "" {
		return nil
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fail(KindConfig, "set the host name", err)
	}
	return nil
}

// announce tells the host who the default user is. Shares may depend on it.
func announce(host Host, user string) error {
	var who proto.DefaultUser
	if user != "" {
		id, err := account.Database{}.Resolve(user)
		if err != nil {
			return fail(KindConfig, "resolve the default user", err)
		}
		who = proto.DefaultUser{UID: id.UID, GID: id.GID}
	}
	return send(host, proto.TypeInitResolved, proto.InitResolved{DefaultUser: who})
}
