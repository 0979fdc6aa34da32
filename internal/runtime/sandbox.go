package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/metrics"
	"github.com/gomsb/gomsb/internal/placement"
	"github.com/gomsb/gomsb/internal/runtime/journal"
	"github.com/gomsb/gomsb/internal/runtime/relay"
	"github.com/gomsb/gomsb/internal/store"
	"github.com/gomsb/gomsb/netstack"
)

// readyTimeout is how long a guest has from the machine's start to core.ready.
const readyTimeout = 180 * time.Second

// errNotReady is the cause when it takes longer.
var errNotReady = errors.New("the guest agent did not become ready in time")

// sandbox is one run of one sandbox.
type sandbox struct {
	inv     *launch.Invocation
	cfg     *launch.Config
	log     *slog.Logger
	build   Factory
	getenv  func(string) string
	timeout time.Duration    // to become ready
	signals <-chan os.Signal // see control
	pid     int              // goes into the run row
	relax   func()           // is called for each of the guest's heartbeats; nil: nothing

	began     time.Time
	kernelLog *journal.KernelLog
	execLog   *journal.ExecLog
	sock      *socket
	runID     int32
	ephemeral atomic.Bool // what its row says
	config    MachineConfig
	network   *network // nil: none
	changes   *changes // nil: none
	pulse     *pulse
	slot      *metricsSlot     // nil: none
	locks     []*os.File       // of disk images
	lease     *placement.Lease // of the host's processors, nil: none
	started   bool             // the guest became ready

	sessionLog atomic.Bool // exec.log has failed once; say so once
}

// ending is how a run ended and what becomes of it.
type ending struct {
	reason  store.Reason
	code    int
	status  store.Status
	boot    *launch.BootError // nil: it came up
	command *int              // exit code of the start-up command, if that decided
}

// run is the whole life of the process after the start-up line. It returns the exit code.
func (s *sandbox) run(ctx context.Context) int {
	s.began = time.Now()
	end := s.live(ctx)
	if end.boot != nil {
		s.reportBoot(end.boot)
	}
	return s.finish(end)
}

// live prepares and runs the machine and returns once nothing of it is left.
func (s *sandbox) live(ctx context.Context) ending {
	// Recover here so that a defect leaves a boot error; the runtime's own report still
	// goes to standard error, which is runtime.log.
	defer func() {
		if p := recover(); p != nil {
			s.reportBoot(&launch.BootError{Time: time.Now(), Stage: launch.StageOther, Message: fmt.Sprintf("panic: %v", p)})
			panic(p)
		}
	}()
	defer func() { launch.UnlockDisks(s.locks) }()
	defer s.leave()
	if err := s.prepare(); err != nil {
		return s.notBuilt(err)
	}
	defer func() { s.changes.close() }()
	defer s.closeNetwork() // it is opened with the machine, and ends after it
	board := newSwitchboard(ctx, s.cfg.Vsock, s.log)
	machine, err := s.recordAndBuild(ctx, board)
	if err != nil {
		board.stopAll()
		return s.notBuilt(err)
	}
	s.log.Info("the machine is built", "since_start", s.age())
	c := newControl(s, machine, board)
	end := c.supervise(ctx)
	if end.boot != nil && end.boot.Stage == launch.StageOther {
		machine.Discredit()
	}
	if err := machine.Close(); err != nil {
		s.log.Error("the machine did not close cleanly", "err", err)
	}
	return end
}

// age is how long this process has worked on the sandbox.
func (s *sandbox) age() time.Duration { return time.Since(s.began).Round(100 * time.Microsecond) }

// notBuilt is the end of a run that never had a machine.
func (s *sandbox) notBuilt(err error) ending {
	return ending{reason: store.InternalError, code: 1, status: store.Stopped, boot: launch.NewBootError(launch.StageOther, time.Now(), err)}
}

// reportBoot leaves boot-error.json and a line for people.
func (s *sandbox) reportBoot(e *launch.BootError) {
	if s.kernelLog != nil {
		e.KernelLog = s.kernelLog.Tail(kernelTail)
	}
	s.log.Error("sandbox error: "+e.Message, "stage", string(e.Stage))
	for _, line := range e.KernelLog {
		s.log.Error("guest console: " + line)
	}
	if err := e.Write(s.cfg.LogDir); err != nil {
		s.log.Error("cannot write the boot error", "err", err)
	}
}

// kernelTail is how many lines of the guest's console a boot error carries.
const kernelTail = 20

// prepare does what comes before the run row and the machine.
func (s *sandbox) prepare() (err error) {
	if err := launch.RemoveBootError(s.cfg.LogDir); err != nil {
		s.log.Warn("cannot remove the last boot error", "err", err)
	}
	if err := prepareRuntimeDir(s.cfg.RuntimeDir); err != nil {
		return fail(launch.StageMount, fmt.Errorf("runtime directory: %w", err))
	}
	s.pulse = &pulse{dir: s.cfg.RuntimeDir, now: time.Now, heard: s.relax}
	if s.sock, err = listenAt(s.cfg.AgentSock); err != nil {
		return fail(launch.StageConfig, err)
	}
	if err := s.markPaused(false); err != nil { // of a run that was killed
		s.log.Warn("the sandbox may be taken for paused", "err", err)
	}
	if s.execLog, err = journal.OpenExecLog(filepath.Join(s.cfg.LogDir, "exec.log")); err != nil {
		return fail(launch.StageConfig, err)
	}
	if s.kernelLog, err = journal.CreateKernelLog(filepath.Join(s.cfg.LogDir, "kernel.log")); err != nil {
		return fail(launch.StageConfig, err)
	}
	return nil
}

// prepareRuntimeDir makes the directory that the guest shares. An earlier guest could write
// there: whatever it left must not be in the way.
func prepareRuntimeDir(dir string) error {
	scripts := filepath.Join(dir, "scripts")
	if info, err := os.Lstat(scripts); err == nil && !info.IsDir() {
		if err := os.Remove(scripts); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(scripts, 0o755); err != nil {
		return err
	}
	return clearHeartbeat(dir)
}

// recordAndBuild writes the run row and builds the machine, at the same time: each takes
// milliseconds of waiting, and nobody sees the one before the other is there.
func (s *sandbox) recordAndBuild(ctx context.Context, board *switchboard) (Machine, error) {
	recorded := make(chan error, 1)
	go func() { recorded <- s.beginRun(ctx) }()
	machine, err := s.assemble(board)
	if e := <-recorded; e != nil {
		if machine != nil {
			e = errors.Join(e, machine.Close())
		}
		return nil, fail(launch.StageConfig, fmt.Errorf("record the run: %w", e))
	}
	s.openMetrics()
	if err != nil {
		return nil, err
	}
	if err := s.recordPorts(ctx); err != nil {
		return nil, fail(launch.StageNetwork, errors.Join(fmt.Errorf("record the published ports: %w", err), machine.Close()))
	}
	if err := s.sock.publish(linkPath(s.inv), s.log); err != nil {
		s.log.Warn("cannot link the agent socket for clients of old releases", "err", err)
	}
	s.openChanges()
	return machine, nil
}

// assemble builds the machine that the configuration asks for.
func (s *sandbox) assemble(board *switchboard) (Machine, error) {
	var err error
	if s.config, err = plan(s.inv, s.getenv); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(s.config.Bases); err != nil { // of a run that was killed
		s.log.Warn("cannot remove what copies of the last run were based on", "err", err)
	}
	s.place()
	s.config.Ephemeral = s.ephemeral.Load
	s.config.Console, s.config.Listen, s.config.Logger = s.kernelLog, board.connect, s.log
	if s.network, err = openNetwork(s.cfg, netstack.HostFamilies(), s.log); err != nil {
		return nil, err
	}
	if n := s.network; n != nil {
		s.config.Net = &Net{MAC: n.addrs.GuestMAC, MTU: n.addrs.MTU, Gateway: n.gateway, Limits: n.limits}
	}
	if err := s.lockDisks(); err != nil {
		return nil, fail(launch.StageMount, err)
	}
	machine, err := s.build(s.config)
	if err != nil {
		return nil, fail(launch.StageBuildVM, err)
	}
	return machine, nil
}

// lockDisks makes sure that no other machine writes the disk images of this one. A
// controller that has locked them already handed its locks down. They are given up before
// the rows say that the sandbox has stopped: who reads that may start it again at once.
func (s *sandbox) lockDisks() error {
	disks, err := s.cfg.DiskUses()
	if err != nil {
		return err
	}
	if err := launch.CheckDisks(disks); err != nil {
		return err
	}
	var unlocked []launch.DiskUse
	for _, d := range disks {
		if lock := launch.InheritedDisk(d); lock != nil {
			s.locks = append(s.locks, lock)
		} else {
			unlocked = append(unlocked, d)
		}
	}
	own, err := launch.LockDisks(unlocked)
	s.locks = append(s.locks, own...)
	return err
}

// openMetrics takes over the metrics slot, if there is one to take.
func (s *sandbox) openMetrics() {
	slot := s.cfg.Metrics.Slot
	if slot == nil {
		return
	}
	upper := ""
	if s.cfg.Rootfs.Upper != nil {
		upper = *s.cfg.Rootfs.Upper
	}
	var err error
	s.slot, err = activateMetrics(*slot, metrics.Run{ID: s.runID, PID: s.pid, StartedAt: s.began}, upper)
	if err != nil {
		s.log.Warn("there will be no metrics", "err", err)
	}
}

// place chooses the host's processors for the virtual ones. It is a wish about speed: the
// sandbox is what was asked for without it, too.
func (s *sandbox) place() {
	var err error
	s.lease, err = placement.Place(s.cfg.CPULeaseDir, s.cfg.CPUPlacement, max(s.config.VCPUs, s.config.MaxVCPUs))
	switch {
	case err != nil:
		s.log.Warn("virtual processors run where the host's scheduler puts them", "cpu_placement", s.cfg.CPUPlacement, "err", err)
	case s.lease != nil:
		s.config.Affinity = s.lease.Sets
		s.log.Info("virtual processors are placed", "cpu_placement", s.cfg.CPUPlacement, "cpus", s.lease.Sets)
	}
}

// leave gives up the place.
func (s *sandbox) leave() {
	if err := s.lease.Close(); err != nil {
		s.log.Warn("cannot remove the lease of processors", "err", err)
	}
}

// openStore opens the database for one use: it is needed twice in a life, and memory all
// the time.
func (s *sandbox) openStore(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, s.cfg.DBPath, store.Options{})
}

// markPaused tells other programs whether the sandbox is paused.
func (s *sandbox) markPaused(paused bool) error {
	if paused {
		return launch.MarkPaused(s.cfg.AgentSock, s.pid)
	}
	return launch.UnmarkPaused(s.cfg.AgentSock)
}

func (s *sandbox) beginRun(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(1, min(s.cfg.DBConnectTimeoutSecs, 3600)))*time.Second)
	defer cancel()
	db, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	if s.runID, err = db.BeginRun(ctx, s.inv.SandboxID, s.pid); err == nil {
		var row store.Sandbox
		row, err = db.SandboxByID(ctx, s.inv.SandboxID)
		s.ephemeral.Store(row.Ephemeral)
	}
	return errors.Join(err, db.Close())
}

// closeNetwork ends the network, if there is one, and says what it has done.
func (s *sandbox) closeNetwork() {
	if s.network != nil {
		s.network.close()
		s.log.Info("the network is closed", "account", s.network.gateway.Account())
	}
}

// recordPorts writes down which ports the host has chosen, where that was left to it, for
// those who look at the sandbox's row.
func (s *sandbox) recordPorts(ctx context.Context) error {
	if s.network == nil || !s.network.chosen {
		return nil
	}
	text, err := json.Marshal(s.network.ports)
	if err != nil {
		return err
	}
	db, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	return errors.Join(db.SetActivePorts(ctx, s.inv.SandboxID, string(text)), db.Close())
}

// Output implements relay.Log.
func (s *sandbox) Output(session uint64, stderr, tty bool, data []byte) {
	source := journal.Stdout
	switch {
	case tty:
		source = journal.Output
	case stderr:
		source = journal.Stderr
	}
	s.logged(s.execLog.Write(source, session, data))
}

func (s *sandbox) logged(err error) {
	if err != nil && !s.sessionLog.Swap(true) {
		s.log.Error("exec.log is not complete", "err", err)
	}
}

// newRelay puts a relay on the agent's connection.
func (s *sandbox) newRelay(conn agentConn, asked func(), resolved func(proto.DefaultUser)) *relay.Relay {
	return relay.New(relay.Config{Guest: conn, Log: s, OnShutdown: asked, OnResolved: resolved, Logger: s.log})
}
