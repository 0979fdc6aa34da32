package microsandbox

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

// modification is a plan with what it takes to carry it out.
type modification struct {
	SandboxModificationPlan
	catalog     *catalog
	options     ModifyOptions
	row         store.Sandbox
	stored      *spec // what the row says
	current     *spec // what the running machine uses; stored if none runs
	can         launch.Capabilities
	memoryState *launch.MemoryState // of a running machine that can change it

	edits   []edit
	cpus    uint8  // to have online in the running machine; 0 leaves it
	memory  uint32 // MiB to have in the running machine; 0 leaves it
	secrets []launch.SecretChange
}

// edit changes a configuration, and the active one too if it is live.
type edit struct {
	live bool
	do   func(document)
}

// planModification compares what is asked with what is.
func (c *catalog) planModification(ctx context.Context, row store.Sandbox, o ModifyOptions) (*modification, error) {
	m := &modification{catalog: c, options: o, row: row}
	m.Sandbox, m.Policy = row.Name, o.Policy
	m.Status = (&SandboxHandle{row: row}).Status()
	m.Changes, m.Conflicts, m.Warnings, m.ResizeStatus = []PlannedChange{}, []ModificationConflict{}, []ModificationWarning{}, []ResourceResizeStatus{}
	var err error
	if m.stored, err = parseSpec(row.Config); err != nil {
		return nil, wrap(ErrInternal, err)
	}
	if m.current, err = effectiveSpec(row); err != nil {
		return nil, err
	}
	if row.Status == store.Running {
		if err := m.askMachine(ctx, c.home.control(row.Name)); err != nil {
			return nil, err
		}
	}
	m.planProcessors()
	m.planMemory()
	m.planRootDisk()
	m.planEnv()
	m.planLabels()
	m.planWorkdir()
	m.planSecrets()
	return m, nil
}

// askMachine asks the running machine what it can change.
func (m *modification) askMachine(ctx context.Context, socket controlSocket) (err error) {
	if m.can, err = socket.capabilities(ctx); err != nil || !m.can.MemoryResize || m.options.MemoryMiB == 0 {
		return err
	}
	reply, err := socket.ask(ctx, controlRequest{Op: "memory_state"})
	if IsKind(err, ErrUnsupportedOperation) { // not yet
		m.can.MemoryResize = false
		return nil
	}
	if err == nil {
		m.memoryState = reply.Memory
	}
	return err
}

// running reports that there is a machine that a change may have to wait for.
func (m *modification) running() bool { return live(m.row.Status) }

// now reports that changes go to a running machine, as far as it can take them.
func (m *modification) now() bool {
	return m.row.Status == store.Running && m.Policy != ModificationPolicyNextStart
}

func (m *modification) conflict(field, format string, args ...any) {
	m.Conflicts = append(m.Conflicts, ModificationConflict{field, fmt.Sprintf(format, args...)})
}

func (m *modification) warn(field, format string, args ...any) {
	m.Warnings = append(m.Warnings, ModificationWarning{field, fmt.Sprintf(format, args...)})
}

// disposition is when a change takes effect of which the running machine can say whether
// it takes it; otherwise is why it does not.
func (m *modification) disposition(can bool, otherwise string) (disposition string, reason *string) {
	switch {
	case !m.running():
		return takesNextStart, nil
	case m.now() && can:
		return takesLive, nil
	case m.row.Ephemeral:
		return takesUnsupported, pointer("an ephemeral sandbox is removed when it stops")
	case m.Policy == ModificationPolicyNextStart:
		return takesNextStart, nil
	}
	return takesRestart, pointer(otherwise)
}

// add plans a change of the configuration.
func (m *modification) add(c PlannedChange, do func(document)) {
	m.Changes = append(m.Changes, c)
	m.edits = append(m.edits, edit{c.Disposition == takesLive, do})
}

// update plans the change of one field.
func (m *modification) update(field, before, after string, can bool, otherwise string, do func(document)) (isLive bool) {
	c := PlannedChange{Kind: changeConfig, Field: field, Change: "updated", Before: pointer(before), After: pointer(after)}
	if before == "" {
		c.Change = "added"
	}
	c.Disposition, c.Reason = m.disposition(can, otherwise)
	m.add(c, do)
	return c.Disposition == takesLive
}

func decimal[N uint8 | uint32](n N) string { return strconv.FormatUint(uint64(n), 10) }

// mebibytes writes an amount of MiB as 0.6.18 does.
func mebibytes(mib uint32) string {
	if mib > 0 && mib%1024 == 0 {
		return decimal(mib/1024) + " GiB"
	}
	return decimal(mib) + " MiB"
}

// size is what planSize plans for processors or memory.
type size[N uint8 | uint32] struct {
	field, maxField, key, maxKey string
	text                         func(N) string
	want, wantMax                N // 0 for no change
	stored, storedMax            N
	current, currentMax          N
	currentMin                   N // what the running machine started with and keeps
	least, most                  N
	can                          bool
}

func planSize[N uint8 | uint32](m *modification, s size[N]) (live N) {
	target, limit := orDefault(s.want, s.stored), orDefault(s.wantMax, s.storedMax)
	switch {
	case s.want == 0 && s.wantMax == 0:
		return 0
	case target < s.least || s.most > 0 && target > s.most:
		m.conflict(s.field, "%s is out of range: choose %s", s.text(target), s.choice())
		return 0
	case s.most > 0 && limit > s.most:
		m.conflict(s.maxField, "%s is out of range: choose %s", s.text(limit), s.choice())
		return 0
	case s.wantMax != 0 && limit < target:
		m.conflict(s.maxField, "%s is less than %s %s", s.text(limit), s.field, s.text(target))
		return 0
	}
	raised := limit < target // the ceiling goes with it
	limit = max(limit, target)
	if s.want != 0 && (s.want != s.stored || m.now() && s.want != s.current) {
		can := s.can && target >= s.currentMin && target <= s.currentMax
		otherwise := "the running sandbox cannot be resized"
		switch {
		case m.row.Status == store.Paused:
			otherwise = "the sandbox is paused: resume it first"
		case s.can && target < s.currentMin:
			otherwise = fmt.Sprintf("the running sandbox keeps the %s that it started with", s.text(s.currentMin))
		case s.can:
			otherwise = fmt.Sprintf("the running sandbox has room for %s", s.text(s.currentMax))
		}
		if m.update(s.field, s.text(s.current), s.text(target), can, otherwise, func(d document) { d.set(target, "resources", s.key) }) {
			live = target
		}
	}
	if raised {
		m.warn(s.maxField, "%s rises to %s with it", s.maxField, s.text(limit))
		m.edits = append(m.edits, edit{false, func(d document) { d.set(limit, "resources", s.maxKey) }})
	} else if limit != s.storedMax {
		m.update(s.maxField, s.text(s.storedMax), s.text(limit), false, "room is set aside at the start", func(d document) { d.set(limit, "resources", s.maxKey) })
	}
	return live
}

// choice says what there is to choose.
func (s *size[N]) choice() string {
	if s.most == 0 {
		return "at least " + s.text(s.least)
	}
	return s.text(s.least) + " to " + s.text(s.most)
}

func (m *modification) planProcessors() {
	s, c := m.stored.Resources, m.current.Resources
	m.cpus = planSize(m, size[uint8]{
		field: "cpus", maxField: "max_cpus", key: "cpus", maxKey: "max_cpus", text: decimal[uint8], want: m.options.CPUs, wantMax: m.options.MaxCPUs,
		stored: s.CPUs, storedMax: max(s.MaxCPUs, s.CPUs), current: c.CPUs, currentMax: max(c.MaxCPUs, c.CPUs), least: 1, most: maxCPUs, can: m.can.CPUResize,
	})
}

func (m *modification) planMemory() {
	s, c := m.stored.Resources, m.current.Resources
	keeps := uint32(0)
	if m.memoryState != nil {
		keeps = m.memoryState.BootMiB
	}
	m.memory = planSize(m, size[uint32]{
		field: "memory", maxField: "max_memory", key: "memory_mib", maxKey: "max_memory_mib", text: mebibytes, want: m.options.MemoryMiB, wantMax: m.options.MaxMemoryMiB,
		stored: s.MemoryMiB, storedMax: max(s.MaxMemoryMiB, s.MemoryMiB), current: c.MemoryMiB, currentMax: max(c.MaxMemoryMiB, c.MemoryMiB), least: minMemoryMiB,
		currentMin: keeps, can: m.can.MemoryResize,
	})
}

func (m *modification) planRootDisk() {
	const field = "root_disk_size"
	want := m.options.RootDiskSizeMiB
	if want == 0 {
		return
	}
	image := m.stored.Image.OCI
	if image == nil || image.RootDisk.Kind != rootDiskManaged && image.RootDisk.Kind != rootDiskFlat {
		m.conflict(field, "only a managed or a flat root disk can grow")
		return
	}
	before := value(image.RootDisk.SizeMiB)
	switch {
	case want < before:
		m.conflict(field, "a root disk of %s cannot shrink to %s", mebibytes(before), mebibytes(want))
	case want > before:
		text := ""
		if before > 0 {
			text = mebibytes(before)
		}
		m.update(field, text, mebibytes(want), false, "a root disk grows while the sandbox is stopped", func(d document) { d.set(want, "image", "Oci", "root_disk", "size_mib") })
	}
}

func (m *modification) planEnv() {
	before := map[string]string{}
	for _, e := range m.stored.Env {
		before[e.Key] = e.Value
	}
	m.planPairs("env", before, m.options.Env, m.options.EnvRemove, false, func(d document, key string, value *string) {
		list, _ := d["env"].([]any)
		at := slices.IndexFunc(list, func(e any) bool { return text(e, "key") == key })
		switch {
		case value == nil && at >= 0:
			list = slices.Delete(list, at, at+1)
		case value != nil && at >= 0:
			list[at] = map[string]any{"key": key, "value": *value}
		case value != nil:
			list = append(list, map[string]any{"key": key, "value": *value})
		}
		d["env"] = list
	})
}

func (m *modification) planLabels() {
	m.planPairs("label", m.stored.Labels, m.options.Labels, m.options.LabelsRemove, true, func(d document, key string, value *string) {
		if value == nil {
			d.remove("labels", key)
		} else {
			d.set(*value, "labels", key)
		}
	})
}

// planPairs plans changes of keys with values. anytime says that nothing has to wait for
// the machine.
func (m *modification) planPairs(field string, before, set map[string]string, remove []string, anytime bool, do func(document, string, *string)) {
	pair := func(key, value string) *string { return pointer(key + "=" + value) }
	add := func(c PlannedChange, value *string) {
		c.Kind, c.Field = changeConfig, field
		if c.Disposition = takesLive; !anytime {
			c.Disposition, c.Reason = m.disposition(false, "commands have the environment of the start")
		}
		m.add(c, func(d document) { do(d, c.Name, value) })
	}
	for _, key := range sortedKeys(set) {
		value := set[key]
		old, there := before[key]
		switch {
		case slices.Contains(remove, key):
			m.conflict(field, "%s is both set and removed", key)
		case !there:
			add(PlannedChange{Name: key, Change: "added", After: pair(key, value)}, &value)
		case old != value:
			add(PlannedChange{Name: key, Change: "updated", Before: pair(key, old), After: pair(key, value)}, &value)
		}
	}
	for _, key := range remove {
		old, there := before[key]
		switch _, set := set[key]; {
		case set:
		case !there:
			m.warn(field, "%s is not set", key)
		default:
			add(PlannedChange{Name: key, Change: "removed", Before: pair(key, old)}, nil)
		}
	}
}

func (m *modification) planWorkdir() {
	want, before := m.options.Workdir, value(m.stored.Runtime.Workdir)
	if want != "" && want != before {
		m.update("workdir", before, want, false, "commands have the working directory of the start", func(d document) { d.set(want, "runtime", "workdir") })
	}
}

// refusal is why the plan is not carried out, nil if it is.
func (m *modification) refusal() error {
	if len(m.Conflicts) > 0 {
		c := m.Conflicts[0]
		return fail(ErrInvalidConfig, "cannot modify sandbox %s: %s: %s", m.Sandbox, c.Field, c.Message)
	}
	for _, c := range m.Changes {
		switch {
		case c.Disposition == takesUnsupported:
			return fail(ErrUnsupportedOperation, "cannot modify sandbox %s: %s: %s", m.Sandbox, c.Field, value(c.Reason))
		case c.Disposition == takesRestart && m.Policy == ModificationPolicyNoRestart:
			return fail(ErrUnsupportedOperation, "cannot modify sandbox %s: %s requires a restart (%s): allow one, or choose the next start", m.Sandbox, c.Field, value(c.Reason))
		}
	}
	return nil
}
