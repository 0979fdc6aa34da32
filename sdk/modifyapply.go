package microsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// apply carries the plan out. What the running machine takes comes first: it may refuse.
func (m *modification) apply(ctx context.Context) error {
	restart := m.Policy == ModificationPolicyRestart && slices.ContainsFunc(m.Changes, func(c PlannedChange) bool { return c.Disposition == takesRestart })
	if !restart {
		if err := m.applyLive(ctx); err != nil {
			return err
		}
	}
	if err := m.store(ctx); err != nil {
		return err
	}
	m.Applied = true
	if !restart {
		return nil
	}
	return m.restart(ctx)
}

// store writes the configurations and labels.
func (m *modification) store(ctx context.Context) error {
	if len(m.edits) == 0 {
		return nil
	}
	err := m.catalog.store.EditSandbox(ctx, m.row.ID, func(row store.Sandbox) (e store.Edited, err error) {
		if e.Config, err = m.edit(row.Config, func(edit) bool { return true }); err != nil {
			return e, err
		}
		if e.ActiveConfig = row.ActiveConfig; row.ActiveConfig != "" {
			if e.ActiveConfig, err = m.edit(row.ActiveConfig, func(x edit) bool { return x.live }); err != nil {
				return e, err
			}
		}
		s, err := parseSpec(e.Config)
		if err == nil {
			e.Labels = s.Labels
		}
		return e, err
	})
	if errors.Is(err, store.ErrNotFound) {
		return notFound(m.Sandbox)
	}
	return wrap(ErrInternal, err)
}

// edit makes those edits that are selected in a configuration.
func (m *modification) edit(text string, selected func(edit) bool) (string, error) {
	d, err := parseDocument(text)
	if err != nil {
		return "", err
	}
	for _, x := range m.edits {
		if !selected(x) {
			continue
		}
		x.do(d)
		// What an edit has put in is JSON from here on, for the next one.
		b, err := json.Marshal(d)
		if err != nil {
			return "", err
		}
		if d, err = parseDocument(string(b)); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(d)
	return string(b), err
}

// restart stops the sandbox and starts it with what was stored, or starts it if it has
// ended meanwhile.
func (m *modification) restart(ctx context.Context) error {
	if err := m.catalog.stop(ctx, m.row, nil, stopTimeout); err != nil {
		return err
	}
	sb, err := startSandbox(ctx, m.catalog.home, m.Sandbox, startConfig{detached: true})
	if err != nil {
		return err
	}
	return sb.Detach(ctx)
}

// applyLive changes the running machine. A resize that was begun is taken back if a later
// change is refused; secrets come last, as an old value is unknown.
func (m *modification) applyLive(ctx context.Context) (err error) {
	var undo []func(context.Context)
	defer func() {
		if err == nil {
			return
		}
		for _, f := range slices.Backward(undo) {
			f(context.WithoutCancel(ctx))
		}
	}()
	socket := m.catalog.home.control(m.Sandbox)
	if m.cpus != 0 {
		undo = append(undo, func(ctx context.Context) {
			_, _ = socket.ask(ctx, controlRequest{Op: "cpu_target", Online: m.current.Resources.CPUs})
		})
		if err := m.resize(ctx, processorsOf(socket, m.cpus)); err != nil {
			return err
		}
	}
	if m.memory != 0 {
		undo = append(undo, func(ctx context.Context) {
			_, _ = socket.ask(ctx, controlRequest{Op: "memory_target", TotalMiB: m.current.Resources.MemoryMiB})
		})
		if err := m.resize(ctx, memoryOf(socket, m.memory)); err != nil {
			return err
		}
	}
	if len(m.secrets) == 0 {
		return nil
	}
	_, err = socket.ask(ctx, controlRequest{Op: "secrets_update", Changes: m.secrets})
	return err
}

// resizable is a resource of a running machine.
type resizable struct {
	name   string
	want   uint32
	socket controlSocket
	set    controlRequest
	get    controlRequest
	text   func(uint32) string
	have   func(*launch.ControlReply) resized
}

// resized is how far a guest is. The zero value is one that has not begun.
type resized struct {
	actual, enforced uint32
	done             bool
}

func processorsOf(s controlSocket, n uint8) resizable {
	return resizable{
		name: "cpus", want: uint32(n), text: decimal[uint32], socket: s, set: controlRequest{Op: "cpu_target", Online: n}, get: controlRequest{Op: "cpu_state"},
		have: func(r *launch.ControlReply) resized {
			if r.CPU == nil {
				return resized{}
			}
			return resized{uint32(r.CPU.ActualOnline), uint32(r.CPU.Enforced), r.CPU.ActualOnline == n}
		},
	}
}

func memoryOf(s controlSocket, mib uint32) resizable {
	return resizable{
		name: "memory", want: mib, text: mebibytes, socket: s, set: controlRequest{Op: "memory_target", TotalMiB: mib}, get: controlRequest{Op: "memory_state"},
		have: func(r *launch.ControlReply) resized {
			if r.Memory == nil {
				return resized{}
			}
			// The target is what was asked for in whole blocks of memory.
			return resized{r.Memory.CurrentMiB, r.Memory.TargetMiB, r.Memory.CurrentMiB == mib || r.Memory.CurrentMiB == r.Memory.TargetMiB}
		},
	}
}

const (
	// resizePatience is how long a guest is watched that makes no progress with a resize
	// before it is left alone with it, and resizeLimit how long in all.
	resizePatience = 5 * time.Second
	resizeLimit    = time.Minute
	resizeInterval = 25 * time.Millisecond
)

// resize asks for a size, and waits a while until the guest has it.
func (m *modification) resize(ctx context.Context, r resizable) error {
	reply, err := r.socket.ask(ctx, r.set)
	if err != nil {
		return err
	}
	began := time.Now()
	moved, has := began, r.have(reply)
	for !has.done && time.Since(moved) < resizePatience && time.Since(began) < resizeLimit {
		if err := pause(ctx, resizeInterval); err != nil {
			return err
		}
		if reply, err = r.socket.ask(ctx, r.get); err != nil {
			return err
		}
		before := has.actual
		if has = r.have(reply); has.actual != before {
			moved = time.Now()
		}
	}
	status := ResourceResizeStatus{Resource: r.name, Requested: r.text(r.want), Actual: r.text(has.actual), Enforced: r.text(has.enforced), State: "converging"}
	if has.done {
		status.State = "applied"
	}
	m.ResizeStatus = append(m.ResizeStatus, status)
	return nil
}
