package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

func TestModify(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	t.Setenv("GOMSB_KEY", "s3same")
	succeed(t, "create", "--name", "a", "--pull", "never", "mini")
	modify := func(line string) result { return run(append([]string{"modify", "a"}, strings.Fields(line)...)...) }

	assert.Equal(t, result{0, "No changes.\n", ""}, modify(""))
	const table = "FIELD    CHANGE     BEFORE     AFTER       EFFECT\n" +
		"cpus     updated    1          2           requires restart\n" +
		"label    added      -          tier=web    live\n"
	plan := strings.NewReplacer("BEFORE   ", "BEFORE  ", "1        ", "1       ", "-        ", "-       ").Replace(table)
	assert.Equal(t, result{0, plan, "warn: max_cpus: max_cpus rises to 2 with it\ndry run · nothing applied\n"}, modify("--cpus 2 --label tier=web --dry-run"))
	assert.Equal(t, result{1, plan, "warn: max_cpus: max_cpus rises to 2 with it\nerror: cannot modify sandbox a: cpus requires a restart (the running sandbox cannot be resized): allow one, or choose the next start\n"},
		modify("--cpus 2 --label tier=web"))
	assert.Contains(t, run("ls", "--label", "tier=web").err, "No sandboxes")
	assert.Equal(t, result{0, "", "   ✓ Modified     a\n"}, modify("--label tier=web"))
	golden(t, "modify-json", succeed(t, "mod", "a", "--memory", "1G", "--secret", "GOMSB_KEY@*.example.com,api.example.org", "--format", "json", "--next-start").out)
	golden(t, "modify-conflict-json", modify("--max-cpus 99 --root-disk 1M --dry-run --format json").out)
	r := modify("--restart --env A=b")
	assert.Equal(t, result{0, "", "   ✓ Modified     a\n"}, r)
	assert.Equal(t, result{0, "", "   ✓ Modified     a (next start)\n"}, modify("--env B=c --next-start"))
	succeed(t, "stop", "a")
	assert.Zero(t, modify("--secret-rm GOMSB_KEY --env-rm A --label-rm tier --workdir /tmp --max-memory 2G --max-cpus 4").code)
	for line, want := range map[string]string{
		"--cpus 0":           "cpus must be greater than 0",
		"--memory 0":         "memory must be greater than 0",
		"--root-disk x":      "invalid value",
		"--secret GOMSB_KEY": "secret must be in format ENV@HOST",
		"--env =":            "has no name",
	} {
		r := modify(line)
		assert.Equal(t, exitError, r.code, line)
		assert.Contains(t, r.err, want, line)
	}
	for line, want := range map[string]string{"--next-start --restart": "cannot be used with", "--format yaml": "possible values: json"} {
		r := modify(line)
		assert.Equal(t, exitUsage, r.code, line)
		assert.Contains(t, r.err, want, line)
	}
	assert.Equal(t, result{1, "", "error: sandbox not found: b\n"}, run("modify", "b", "--cpus", "2"))
}

// TestModifyMemory prints how far the guest is, unless it is there.
func TestModifyMemory(t *testing.T) {
	newGuests(t, runtimetest.Guest{KeepsMemory: true})
	succeed(t, "create", "--name", "a", "--pull", "never", "--memory", "256M", "--max-memory", "1G", "mini")
	modify := func(line string) result { return run(append([]string{"modify", "a"}, strings.Fields(line)...)...) }
	assert.Equal(t, result{0, "FIELD     CHANGE     BEFORE     AFTER    EFFECT\nmemory    updated    256 MiB    1 GiB    live\n", "dry run · nothing applied\n"}, modify("--memory 1G --dry-run"))
	assert.Equal(t, result{0, "", "   ✓ Modified     a\n"}, modify("--memory 1G"))
	assert.Equal(t, result{0, "FIELD     REQUESTED    ACTUAL    ENFORCED    STATE\nmemory    512 MiB      1 GiB     512 MiB     converging\n", "   ✓ Modified     a\n"}, modify("--memory 512M"))
}
