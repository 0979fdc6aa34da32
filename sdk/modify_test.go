package microsandbox

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	"github.com/gomsb/gomsb/internal/store"
)

// fields are the names of the fields that a plan changes, with when.
func fields(p *SandboxModificationPlan) (list []string) {
	for _, c := range p.Changes {
		list = append(list, c.Field+" "+c.Change+" "+c.Disposition)
	}
	return list
}

// stoppedSandbox makes the sandbox a, which does not run.
func stoppedSandbox(t *testing.T, opts ...SandboxOption) *SandboxHandle {
	t.Helper()
	sb := create(t, "a", opts...)
	require.NoError(t, sb.Stop(testContext(t)))
	h, err := GetSandbox(testContext(t), "a")
	require.NoError(t, err)
	return h
}

// configured is the sandbox's configuration as it is now.
func configured(t *testing.T, name string) (*SandboxHandle, *SandboxConfig) {
	t.Helper()
	h, err := GetSandbox(testContext(t), name)
	require.NoError(t, err)
	c, err := h.Config()
	require.NoError(t, err)
	return h, c
}

// withStranger adds to a row what a later release might have there.
func withStranger(t *testing.T, h *SandboxHandle) {
	t.Helper()
	db, err := store.Open(testContext(t), h.home.database(), store.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	d, err := parseDocument(h.row.Config)
	require.NoError(t, err)
	d.set(json.Number("12345678901234567890"), "runtime", "later")
	require.NoError(t, db.SetConfig(testContext(t), h.row.ID, string(must(json.Marshal(d))), nil))
}

func TestModifyStopped(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	h := stoppedSandbox(t, WithEnv(map[string]string{"KEEP": "1", "OLD": "2"}), WithLabel("team", "x"))
	withStranger(t, h)
	o := ModifyOptions{
		CPUs: 2, MemoryMiB: 1024, MaxMemoryMiB: 2048, RootDiskSizeMiB: 5000, Env: map[string]string{"NEW": "a=b", "KEEP": "3"}, EnvRemove: []string{"OLD", "NONE"},
		Labels: map[string]string{"tier": "web"}, LabelsRemove: []string{"team"}, Workdir: "/srv", DryRun: true,
	}
	want := []string{
		"cpus updated next start", "memory updated next start", "max_memory updated next start", "root_disk_size updated next start", "env updated next start", "env added next start",
		"env removed next start", "label added live", "label removed live", "workdir updated next start",
	}
	before := h.row.Config
	p, err := h.Modify(testContext(t), o)
	require.NoError(t, err)
	assert.Equal(t, want, fields(p))
	assert.False(t, p.Applied)
	assert.Equal(t, ModificationPolicyNoRestart, p.Policy)
	assert.Equal(t, SandboxStatusStopped, p.Status)
	assert.Empty(t, p.Conflicts)
	assert.Equal(t, []ModificationWarning{{"max_cpus", "max_cpus rises to 2 with it"}, {"env", "NONE is not set"}}, p.Warnings)
	now, _ := configured(t, "a")
	assert.Contains(t, now.row.Config, "later")
	assert.NotContains(t, now.row.Config, "tier", "a dry run changes nothing: %s", before)

	o.DryRun = false
	p, err = h.Modify(testContext(t), o)
	require.NoError(t, err)
	assert.True(t, p.Applied)
	assert.Equal(t, want, fields(p))
	now, c := configured(t, "a")
	assert.Equal(t, [4]int{2, 2, 1024, 2048}, [4]int{int(c.CPUs), int(c.MaxCPUs), int(c.MemoryMiB), int(c.MaxMemoryMiB)})
	assert.Equal(t, uint32(5000), c.RootDisk.SizeMiB)
	assert.Equal(t, "a=b", c.Env["NEW"])
	assert.Equal(t, "3", c.Env["KEEP"])
	assert.NotContains(t, c.Env, "OLD")
	assert.Equal(t, "/srv", c.Workdir)
	assert.Equal(t, map[string]string{"tier": "web"}, c.Labels)
	assert.Contains(t, now.row.Config, `"later":12345678901234567890`, "what this release does not know stays as it was")
	page, err := ListSandboxesWith(testContext(t), WithListLabels(map[string]string{"tier": "web"}))
	require.NoError(t, err)
	assert.Len(t, page.Sandboxes, 1, "labels are found at once")

	p, err = h.Modify(testContext(t), o)
	require.NoError(t, err)
	assert.Empty(t, p.Changes, "it is as asked already")

	sb, err := StartSandbox(testContext(t), "a")
	require.NoError(t, err)
	defer func() { assert.NoError(t, sb.Close()) }()
	logs, err := sb.Logs(testContext(t), LogOptions{Sources: []LogSource{LogSourceSystem}})
	require.NoError(t, err)
	text := ""
	for _, l := range logs {
		text += l.Text()
	}
	assert.Contains(t, text, "fake kernel with 2 processors", "the next start takes it")
}

func TestModifyConflicts(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	h := stoppedSandbox(t, WithCPUs(2), WithMemory(512))
	before, _ := configured(t, "a")
	for name, c := range map[string]struct {
		options ModifyOptions
		field   string
	}{
		"too many processors":    {ModifyOptions{CPUs: 33}, "cpus"},
		"ceiling too high":       {ModifyOptions{MaxCPUs: 33}, "max_cpus"},
		"ceiling below":          {ModifyOptions{MaxCPUs: 1}, "max_cpus"},
		"ceiling below the new":  {ModifyOptions{CPUs: 4, MaxCPUs: 3}, "max_cpus"},
		"too little memory":      {ModifyOptions{MemoryMiB: 16}, "memory"},
		"memory above ceiling":   {ModifyOptions{MemoryMiB: 1024, MaxMemoryMiB: 600}, "max_memory"},
		"disk shrinks":           {ModifyOptions{RootDiskSizeMiB: 100}, "root_disk_size"},
		"set and removed":        {ModifyOptions{Env: map[string]string{"A": "b"}, EnvRemove: []string{"A"}}, "env"},
		"label set and removed":  {ModifyOptions{Labels: map[string]string{"a": "b"}, LabelsRemove: []string{"a"}}, "label"},
		"secret without source":  {ModifyOptions{Secrets: map[string]SecretModifySpec{"KEY": {AllowedHosts: []string{"example.com"}}}}, "secret"},
		"secret without hosts":   {ModifyOptions{Secrets: map[string]SecretModifySpec{"KEY": {Env: "PATH"}}}, "secret"},
		"secret by value":        {ModifyOptions{Secrets: map[string]SecretModifySpec{"KEY": {Value: "v4lue", AllowedHosts: []string{"example.com"}}}}, "secret"},
		"secret of no variable":  {ModifyOptions{Secrets: map[string]SecretModifySpec{"KEY": {Env: "GOMSB_NONE", AllowedHosts: []string{"example.com"}}}}, "secret"},
		"with others that could": {ModifyOptions{CPUs: 1, Labels: map[string]string{"a": "b"}, RootDiskSizeMiB: 1}, "root_disk_size"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := h.Modify(testContext(t), c.options)
			require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
			assert.NotContains(t, err.Error(), "v4lue")
			require.Len(t, p.Conflicts, 1)
			assert.Equal(t, c.field, p.Conflicts[0].Field)
			assert.False(t, p.Applied)
			c.options.DryRun = true
			_, err = h.Modify(testContext(t), c.options)
			assert.NoError(t, err, "a dry run tells, and does not fail")
		})
	}
	after, _ := configured(t, "a")
	assert.Equal(t, before.row, after.row, "nothing was changed")

	for name, c := range map[string]struct {
		options ModifyOptions
		text    string
	}{
		"policy":      {ModifyOptions{Policy: "soon"}, "unknown modification policy"},
		"variable":    {ModifyOptions{Env: map[string]string{"MSB_X": "1"}}, "reserved"},
		"label":       {ModifyOptions{Labels: map[string]string{"sandbox.x": "1"}}, "reserved"},
		"label gone":  {ModifyOptions{LabelsRemove: []string{"service.x"}}, "reserved"},
		"secret name": {ModifyOptions{Secrets: map[string]SecretModifySpec{"A=B": {}}}, "environment variable"},
		"host":        {ModifyOptions{Secrets: map[string]SecretModifySpec{"A": {AllowedHosts: []string{"a b"}}}}, "a b"},
		"store":       {ModifyOptions{Secrets: map[string]SecretModifySpec{"A": {Store: "x"}}}, "no secret store"},
		"two values":  {ModifyOptions{Secrets: map[string]SecretModifySpec{"A": {Env: "PATH", Value: "v4lue"}}}, "secret A: Env and Value are mutually exclusive"},
	} {
		t.Run("invalid "+name, func(t *testing.T) {
			p, err := h.Modify(testContext(t), c.options)
			require.ErrorContains(t, err, c.text)
			assert.NotContains(t, err.Error(), "v4lue")
			assert.Nil(t, p)
		})
	}
}

func TestModifyRunning(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "a", WithDetached())
	ctx := testContext(t)
	env := ModifyOptions{Env: map[string]string{"A": "b"}, Labels: map[string]string{"l": "1"}}
	p, err := sb.Modify(ctx, env)
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	assert.Equal(t, []string{"env added requires restart", "label added live"}, fields(p))
	_, c := configured(t, "a")
	assert.Empty(t, c.Labels, "all or nothing")

	p, err = sb.Modify(ctx, ModifyOptions{Labels: env.Labels})
	require.NoError(t, err)
	assert.True(t, p.Applied)
	h, c := configured(t, "a")
	assert.Equal(t, env.Labels, c.Labels)
	assert.Contains(t, h.row.ActiveConfig, `"l":"1"`)

	env.Policy = ModificationPolicyNextStart
	p, err = sb.Modify(ctx, env)
	require.NoError(t, err)
	assert.True(t, p.Applied)
	assert.Equal(t, []string{"env added next start"}, fields(p))
	h, c = configured(t, "a")
	assert.Equal(t, "b", c.Env["A"])
	assert.NotContains(t, h.row.ActiveConfig, `"A"`, "the machine has it not")

	pid := runtimePID(t, h.home, "a")
	p, err = sb.Modify(ctx, ModifyOptions{CPUs: 3, Policy: ModificationPolicyRestart})
	require.NoError(t, err)
	assert.True(t, p.Applied)
	h, _ = configured(t, "a")
	assert.NotEqual(t, pid, runtimePID(t, h.home, "a"), "it was restarted")
	effective, err := h.EffectiveConfig()
	require.NoError(t, err)
	assert.Equal(t, uint8(3), effective.CPUs)
	assert.Equal(t, "b", effective.Env["A"])
}

func TestModifyEphemeral(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	sb := create(t, "a", WithEphemeral(true))
	for _, policy := range []ModificationPolicy{ModificationPolicyNoRestart, ModificationPolicyNextStart} {
		p, err := sb.Modify(testContext(t), ModifyOptions{Workdir: "/srv", Policy: policy})
		require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
		assert.Equal(t, []string{"workdir updated unsupported"}, fields(p))
	}
	_, err := sb.Modify(testContext(t), ModifyOptions{Workdir: "/srv", Policy: ModificationPolicyRestart})
	assert.True(t, IsKind(err, ErrInvalidArgument), "it would end with its handle: %v", err)
}

func TestModifySecrets(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	t.Setenv("GOMSB_KEY", "s3same")
	t.Setenv("GOMSB_OTHER", "0pen")
	sb := create(t, "a", WithDetached(), WithSecrets(
		SecretEntry{EnvVar: "KEY", ValueFrom: "GOMSB_KEY", AllowHosts: []string{"a.example.com"}},
		SecretEntry{EnvVar: "SECOND", ValueFrom: "GOMSB_KEY", AllowHosts: []string{"a.example.com"}},
	))
	ctx := testContext(t)
	p, err := sb.Modify(ctx, ModifyOptions{
		Secrets:       map[string]SecretModifySpec{"KEY": {Env: "GOMSB_OTHER", AllowedHosts: []string{"*.example.org"}}},
		SecretsRemove: []string{"SECOND", "THIRD"},
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"secret rotated live", "secret hosts updated live", "secret removed live"}, fields(p))
	assert.Equal(t, "env:GOMSB_KEY env:GOMSB_OTHER", *p.Changes[0].BeforeRef+" "+*p.Changes[0].AfterRef)
	assert.Equal(t, []string{"*.example.org"}, p.Changes[1].AllowHosts)
	h, c := configured(t, "a")
	require.Len(t, c.Secrets, 1)
	assert.Equal(t, "GOMSB_OTHER", c.Secrets[0].ValueFrom)
	assert.Equal(t, []string{"*.example.org"}, c.Secrets[0].AllowHostPatterns)
	assert.NotContains(t, h.row.Config+h.row.ActiveConfig, "0pen", "no value is written down")
	assert.NotContains(t, h.row.ActiveConfig, "SECOND")

	p, err = sb.Modify(ctx, ModifyOptions{Secrets: map[string]SecretModifySpec{"KEY": {Value: "sw0rdfish"}}})
	require.NoError(t, err)
	assert.Equal(t, []string{"secret rotated live"}, fields(p))
	require.Len(t, p.Warnings, 1)
	text := string(must(json.Marshal(p)))
	assert.NotContains(t, text, "sw0rdfish")
	assert.JSONEq(t, `{"kind":"secret","field":"secret","name":"KEY","change":"rotated","before_ref":"env:GOMSB_OTHER","after_ref":"env:GOMSB_OTHER","allow_hosts":["*.example.org"],"disposition":"live"}`,
		string(must(json.Marshal(p.Changes[0]))))

	add := ModifyOptions{Secrets: map[string]SecretModifySpec{"NEW": {Env: "GOMSB_KEY", AllowedHosts: []string{"example.com"}}, "KEY": {Placeholder: "$KEY"}}}
	_, err = sb.Modify(ctx, add)
	require.True(t, IsKind(err, ErrUnsupportedOperation), "%v", err)
	add.Policy = ModificationPolicyNextStart
	p, err = sb.Modify(ctx, add)
	require.NoError(t, err)
	assert.Equal(t, []string{"secret placeholder updated next start", "secret added next start"}, fields(p))
	_, c = configured(t, "a")
	require.Len(t, c.Secrets, 2)
	assert.Equal(t, "$KEY", c.Secrets[0].Placeholder)
	assert.Equal(t, "$MSB_NEW", c.Secrets[1].Placeholder)
}

func TestModifyFirstSecret(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	t.Setenv("GOMSB_KEY", "s3same")
	h := stoppedSandbox(t)
	_, err := h.Modify(testContext(t), ModifyOptions{Secrets: map[string]SecretModifySpec{"KEY": {Env: "GOMSB_KEY", AllowedHosts: []string{"example.com"}}}})
	require.NoError(t, err)
	h, c := configured(t, "a")
	require.Len(t, c.Secrets, 1)
	s, err := parseSpec(h.row.Config)
	require.NoError(t, err)
	n, err := s.network()
	require.NoError(t, err)
	assert.True(t, n.TLS.Enabled, "a placeholder must not leave uninspected")
	assert.Equal(t, []uint16{443}, n.TLS.InterceptedPorts)
	sb, err := h.Start(testContext(t))
	require.NoError(t, err)
	assert.NoError(t, sb.Close())
}

func TestModifyNobody(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	h := stoppedSandbox(t)
	require.NoError(t, h.Remove(testContext(t)))
	_, err := h.Modify(testContext(t), ModifyOptions{CPUs: 2})
	assert.True(t, IsKind(err, ErrSandboxNotFound), "%v", err)
}
