package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/runtime/journal"
	"github.com/gomsb/gomsb/internal/runtime/relay"
	"github.com/gomsb/gomsb/internal/store"
)

type agentConn = net.Conn

// event is something that happened to a running machine.
type event struct {
	kind   eventKind
	reason store.Reason // of stop and force
	err    error        // of bootFailed
	code   int          // of commandEnded
}

type eventKind uint8

const (
	stop         eventKind = iota // ask the guest to go
	asked                         // a client asked it already
	force                         // end it at once
	ready                         // the guest serves
	bootFailed                    // it never will
	guestGone                     // its stream ended in good order
	guestCut                      // its stream broke
	commandEnded                  // the start-up command has ended
)

// control decides when and why a machine ends. All decisions are taken by the goroutine
// in supervise; everything else only posts events.
type control struct {
	*sandbox
	machine Machine
	board   *switchboard

	events chan event
	ctx    context.Context // of everything that watches the machine
	cancel context.CancelFunc
	wg     sync.WaitGroup

	relay    *relay.Relay // set before a ready event
	pauser   *pauser      // set once ready
	captures *capturer    // likewise
	isReady  bool
	stopping bool
	vague    bool // the boot error says no more than that the stream broke
	heard    int  // signals to end, so far
	window   <-chan time.Time
	latest   time.Time // when a window is not made longer any more
	written  uint64    // to disks, when the window was opened
	end      ending    // set once stopping
}

func newControl(s *sandbox, m Machine, board *switchboard) *control {
	return &control{sandbox: s, machine: m, board: board, events: make(chan event, 16)}
}

// post hands an event to supervise, unless that has ended.
func (c *control) post(e event) {
	select {
	case c.events <- e:
	case <-c.ctx.Done():
	}
}

// supervise starts the machine and returns when it has ended and nobody watches it any
// more.
func (c *control) supervise(ctx context.Context) ending {
	c.ctx, c.cancel = context.WithCancel(ctx)
	if err := c.machine.Start(); err != nil {
		c.cancel()
		c.board.stopAll()
		return c.notBuilt(fail(launch.StageBuildVM, err))
	}
	relayed := make(chan *relay.Relay, 1)
	c.wg.Go(func() { c.boot(relayed) })
	c.wg.Go(c.beat)
	if c.inv.Attached() {
		c.watchParent()
	}
	if d := c.cfg.Lifecycle.MaxDurationSecs; d != nil && *d > 0 {
		left := time.Until(c.began.Add(seconds(*d)))
		timer := time.AfterFunc(left, func() { c.post(event{kind: stop, reason: store.MaxDurationExceeded}) })
		defer timer.Stop()
	}
	end := c.loop(relayed)
	c.goodbye() // a little time to hear what the guest said last
	end = c.judge(end)
	c.cancel()
	c.captures.end()
	if c.relay == nil {
		select {
		case c.relay = <-relayed:
		default:
		}
	}
	if err := c.sock.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.log.Warn("cannot close the agent socket", "err", err)
	}
	if c.relay != nil {
		_ = c.relay.Close()
	}
	c.board.stopAll()
	c.wg.Wait()
	return end
}

// loop handles events until the machine has ended.
func (c *control) loop(relayed <-chan *relay.Relay) ending {
	sigs := c.signals
	for {
		select {
		case <-c.machine.Done():
			c.overdue()
			return c.end
		case sig := <-sigs:
			c.onSignal(sig)
		case <-c.window:
			if c.window = c.moreTime(); c.window == nil {
				c.log.Warn("the guest did not go in time; it is ended")
				c.machine.Stop()
			}
		case <-c.network.violations():
			c.log.Error("a secret's violation ends the sandbox")
			c.on(event{kind: force, reason: store.Signal})
		case e := <-c.events:
			if e.kind == ready {
				c.relay = <-relayed
			}
			c.on(e)
		}
	}
}

// overdue hears of a client that asked before the machine ended, which may be told at the
// same moment.
func (c *control) overdue() {
	for {
		select {
		case e := <-c.events:
			if e.kind == asked {
				c.on(e)
			}
		default:
			return
		}
	}
}

func (c *control) on(e event) {
	switch e.kind {
	case stop:
		c.stop(stopped(e.reason), true)
	case asked:
		c.stop(stopped(store.ShutdownRequested), false)
	case force:
		c.stop(stopped(e.reason), false)
		c.machine.Stop()
	case ready:
		c.onReady()
	case bootFailed:
		c.onBootFailed(e.err)
	case guestGone:
		c.depart(stopped(store.Completed))
	case guestCut:
		c.depart(crashed())
	case commandEnded:
		c.onCommandEnded(e.code)
	}
}

// stopped is the ending of a sandbox that ends as it should.
func stopped(reason store.Reason) ending { return ending{reason: reason, status: store.Stopped} }

// crashed is the ending of one whose guest fell over.
func crashed() ending { return ending{reason: store.Failed, code: 1, status: store.Crashed} }

// onSignal asks the guest to go, and the second time does not ask.
func (c *control) onSignal(sig os.Signal) {
	reason := store.Signal
	if sig == syscall.SIGUSR1 {
		reason = store.DrainRequested
	}
	c.log.Info("told to end by a signal", "signal", sig.String())
	if c.heard++; c.heard == 1 {
		c.stop(stopped(reason), true)
		return
	}
	c.log.Warn("told twice to end; the machine is ended")
	c.stop(stopped(reason), false)
	c.machine.Stop()
}

// stop begins the end, in good order. The first ending counts. tell is false when the
// guest has been told already.
func (c *control) stop(end ending, tell bool) {
	if c.stopping {
		return
	}
	c.stopping, c.end = true, end
	c.endPauses()
	c.log.Info("the sandbox ends", "reason", string(end.reason))
	if !c.isReady {
		c.machine.Stop() // nobody there to ask
		return
	}
	c.openWindow()
	if tell {
		c.wg.Go(func() {
			if err := c.relay.Shutdown(); err != nil {
				c.log.Warn("cannot ask the guest to power off", "err", err)
			}
		})
	}
}

// depart notes that the guest goes by itself. It gets the same time as one that was
// asked.
func (c *control) depart(end ending) {
	if !c.stopping {
		c.stopping, c.end = true, end
	}
	c.endPauses()
	c.openWindow()
}

const (
	// shutdownWindow is for a host under load: a guest that goes takes a fraction of it.
	shutdownWindow = 5 * time.Second
	handoffWindow  = 8 * time.Second
	// flushWindow is how often a guest must write to its disks to get more time, and
	// flushPatience how long it may take in all.
	flushWindow   = 2 * time.Second
	flushPatience = time.Minute
)

func (c *control) openWindow() {
	if c.window != nil {
		return
	}
	d := shutdownWindow
	if c.cfg.Handoff() {
		d = handoffWindow
	}
	c.latest = time.Now().Add(flushPatience)
	if ms, err := strconv.ParseUint(c.getenv("MSB_SHUTDOWN_FLUSH_TIMEOUT_MS"), 10, 31); err == nil {
		d = time.Duration(ms) * time.Millisecond
		c.latest = time.Now()
	}
	c.written = c.machine.Stats().DiskWritten
	c.window = time.After(d)
}

// moreTime is another window for a guest that still writes to its disks what programs
// take for written, nil if it is not worth it.
func (c *control) moreTime() <-chan time.Time {
	before := c.written
	c.written = c.machine.Stats().DiskWritten
	if c.written == before || time.Now().After(c.latest) {
		return nil
	}
	c.log.Info("the guest still writes to its disks; it gets more time")
	return time.After(flushWindow)
}

// boot waits for the agent, brings it to ready, and then passes frames until it goes.
func (c *control) boot(relayed chan<- *relay.Relay) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.timeout, errNotReady)
	defer cancel()
	var conn net.Conn
	select {
	case conn = <-c.board.agent:
	case <-ctx.Done():
		c.post(event{kind: bootFailed, err: context.Cause(ctx)})
		return
	}
	c.log.Info("the guest agent has connected", "since_start", c.age())
	r := c.newRelay(conn, func() { c.post(event{kind: asked}) }, func(u proto.DefaultUser) { c.machine.Resolved(u.UID, u.GID) })
	relayed <- r
	info, err := c.bringUp(ctx, r)
	if err != nil {
		_ = conn.Close()
		c.post(event{kind: bootFailed, err: err})
		return
	}
	c.log.Info("the guest is ready", "agent", info.AgentVersion, "boot", time.Duration(info.BootTimeNs),
		"init", time.Duration(info.InitTimeNs), "since_start", c.age())
	c.logged(c.execLog.System(journal.Started))
	c.post(event{kind: ready})
	kind := guestCut
	if err := r.Run(); r.Goodbye() {
		kind = guestGone
	} else if c.ctx.Err() == nil {
		c.log.Debug("the agent's stream broke", "err", err)
	}
	c.post(event{kind: kind})
}

// bringUp gets the guest from its connection to ready.
func (c *control) bringUp(ctx context.Context, r *relay.Relay) (proto.Ready, error) {
	b := bootstrapFor(c.cfg, &c.config, c.network)
	if c.inv.Restore != "" { // it serves already, as another sandbox
		return r.Rejoin(ctx, &proto.Renew{Hostname: b.Hostname, Network: b.Network, HostAlias: b.HostAlias})
	}
	if c.machine.Copied() {
		if err := r.Renew(); err != nil { // the boot says more
			c.log.Warn("cannot renew the copied guest", "err", err)
		}
	}
	return r.Boot(ctx, b)
}

func (c *control) onReady() {
	c.isReady, c.started = true, true
	c.pauser = &pauser{machine: c.machine, relay: c.relay, pulse: c.pulse, name: c.inv.Name, mark: c.markPaused, log: c.log}
	c.captures = newCapturer(c)
	n := c.machine.Allowed()
	g := &guestResources{
		processors: &processors{possible: c.config.MaxVCPUs, requested: n, allowed: n, allow: c.machine.Allow, guest: c.files},
		memory:     newPluggedMemory(c.machine, c.config.MemoryMiB, c.config.MaxMemoryMiB),
		pauser:     c.pauser,
		captures:   c.captures,
	}
	c.wg.Go(func() { g.memory.remind(c.ctx) })
	c.born()
	c.changes.serveGuest(g) // before clients hear that the guest is ready
	c.wg.Go(func() {
		if err := c.relay.Serve(c.sock.listener); err != nil {
			c.log.Error("the agent socket failed", "err", err)
		}
	})
	c.wg.Go(c.watchIdle)
	c.wg.Go(c.sample)
	if c.cfg.Startup != nil && c.inv.Restore == "" { // it goes on in a copy
		c.wg.Go(func() { c.post(event{kind: commandEnded, code: c.runCommand(c.cfg.Startup)}) })
	}
	c.wg.Go(c.settle)
	if shape := c.machine.Wanted(); shape != nil {
		c.wg.Go(func() { c.wantTemplate(shape) })
	}
}

// calm is how long a guest is ready before its runtime tidies up: what its user does first
// need not wait for that.
const calm = time.Second

// settle makes do with less memory once the start is over.
func (c *control) settle() {
	c.machine.Ready()
	select {
	case <-time.After(calm):
		tuneMemory()
	case <-c.ctx.Done():
	}
	c.machine.Settled()
}

// born notes that a copy of another sandbox has come up, which from then on is a sandbox
// like any other.
func (c *control) born() {
	if c.inv.Restore == "" {
		return
	}
	err := os.Remove(filepath.Join(c.cfg.SandboxesDir, c.inv.Name, launch.UnbornName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.log.Warn("the sandbox is removed when it ends, for it cannot be noted that it came up", "err", err)
	}
}

// onBootFailed ends a machine whose guest does not come up.
func (c *control) onBootFailed(err error) {
	if c.stopping {
		return
	}
	c.stopping = true
	c.end = ending{reason: store.Failed, code: 1, status: store.Stopped}
	stage := launch.StageOther
	var guest *relay.GuestError
	switch {
	case errors.Is(err, errNotReady):
		c.end.reason = store.AgentUnresponsive
		err = fmt.Errorf("%w (%s)", err, c.timeout)
	case errors.As(err, &guest):
		stage = stageOf(string(guest.Kind))
	case errors.Is(err, relay.ErrProtocol):
	default:
		// The stream broke: how the machine ends says more, if it ends by itself.
		c.window = time.After(crashGrace)
		c.end.boot, c.vague = launch.NewBootError(stage, time.Now(), err), true
		return
	}
	c.end.boot = launch.NewBootError(stage, time.Now(), err)
	c.machine.Stop()
}

// crashGrace is how long a guest whose agent is gone has to reset.
const crashGrace = 2 * time.Second

// stageOf translates the kind of a guest's own boot error.
func stageOf(kind string) launch.Stage {
	switch s := launch.Stage(kind); s {
	case launch.StageMount, launch.StageConfig, launch.StageNetwork, launch.StageImage:
		return s
	}
	return launch.StageOther
}

func (c *control) onCommandEnded(code int) {
	end := stopped(store.Completed)
	if code != 0 {
		end = ending{reason: store.Failed, code: 1, status: store.Stopped, command: &code}
	}
	c.stop(end, true)
}

// farewell is how long after a machine's end its last words may take to arrive.
const farewell = 250 * time.Millisecond

// goodbye waits for the end of the agent's stream, unless the guest was cut off.
func (c *control) goodbye() {
	if c.relay == nil || !c.isReady || c.machine.Outcome().Stopped {
		return
	}
	select {
	case <-c.relay.Done():
	case <-time.After(farewell):
	}
}

// judge completes the ending with how the machine itself ended.
func (c *control) judge(end ending) ending {
	o := c.machine.Outcome()
	c.log.Info("the machine has ended", "how", o.Text)
	clean := o.Orderly || o.Reset && (c.relay != nil && c.relay.Goodbye() || c.cfg.Handoff())
	early := "the guest stopped before its agent was ready: " + o.Text
	switch {
	case c.vague && !o.Stopped:
		end.boot.Message = early
	case c.stopping && end.status != store.Crashed:
	case !c.isReady:
		end = ending{
			reason: store.Failed, code: 1, status: store.Stopped,
			boot: &launch.BootError{Time: time.Now(), Stage: launch.StageOther, Message: early},
		}
	case clean:
		return stopped(store.Completed)
	default:
		end = crashed()
	}
	if end.status == store.Crashed {
		c.log.Error("the guest crashed", "how", o.Text)
		for _, line := range c.kernelLog.Tail(kernelTail) {
			c.log.Error("guest console: " + line)
		}
	}
	return end
}

func seconds(n uint64) time.Duration { return time.Duration(min(n, maxSeconds)) * time.Second }

// maxSeconds keeps durations within what time.Duration holds: 100 years.
const maxSeconds = 100 * 365 * 24 * 3600
