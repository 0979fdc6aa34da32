package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/cmd/msb/internal/ui"
	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	msb "github.com/gomsb/gomsb/sdk"
)

// diagnosis is of a host that a command in the PATH would mend.
func diagnosis(fixes ...[]string) *msb.Diagnosis {
	return &msb.Diagnosis{
		Info: []msb.DiagnosisInfo{{Name: "Platform", Value: "linux/amd64"}},
		Checks: []msb.DiagnosisCheck{
			{Name: "msb", OK: true, Required: true, Detail: "/msb"},
			{Name: "CPU virt", Detail: "none", Remedies: []string{"get one"}},
			{Name: "KVM device", Required: true, Detail: "missing", Remedies: []string{"sudo modprobe kvm"}, Fixes: fixes},
		},
	}
}

func TestPrintDiagnosis(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{Streams: ui.Streams{Err: &out}}
	a.printDiagnosis(diagnosis([]string{"modprobe", "kvm"}), false)
	assert.Equal(t, `info Platform: linux/amd64
   ✓ msb          /msb
   ! CPU virt     none
   ✗ KVM device   missing
warn: CPU virt: none
  → get one
error: KVM device: missing
  → sudo modprobe kvm
  → apply automatically: msb doctor --fix
`, out.String())
}

func TestMend(t *testing.T) {
	dir := t.TempDir()
	program := func(name, script string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o700))
	}
	program("sudo", `exec "$@"`)
	program("works", "echo $1 >>"+filepath.Join(dir, "done"))
	program("fails", "exit 3")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	try := func(yes bool, fixes ...[]string) (bool, string, error) {
		var out bytes.Buffer
		a := &app{Streams: ui.Streams{In: strings.NewReader(""), Err: &out}}
		mended, err := a.mend(t.Context(), diagnosis(fixes...), yes)
		return mended, strings.ReplaceAll(out.String(), "sudo ", ""), err
	}
	mended, out, err := try(true, []string{"works", "one"}, []string{"fails"}, []string{"works", "two"})
	require.NoError(t, err)
	assert.True(t, mended)
	assert.Equal(t, "   ✓ Applied      works one\nerror: fails: exit status 3\n  → run it by hand as root\n   ✓ Applied      works two\n", out)
	text, err := os.ReadFile(filepath.Join(dir, "done"))
	require.NoError(t, err)
	assert.Equal(t, "one\ntwo\n", string(text))

	mended, _, err = try(false, []string{"works", "three"})
	assert.EqualError(t, err, "non-interactive terminal; pass --yes to apply fixes")
	assert.False(t, mended)
	mended, out, err = try(true)
	assert.False(t, mended)
	require.NoError(t, err)
	assert.Equal(t, "warn: no automatic fixes are available for the problems above.\n", out)
}

func TestUpdateAndDowngrade(t *testing.T) {
	t.Setenv("MSB_BACKEND", "nonsense") // they work whatever the settings are
	for _, line := range []string{"update", "upgrade -f", "self update", "downgrade 0.6.17 -y", "self downgrade v0.6.1 --keep-cache --no-backup -f"} {
		r := run(strings.Fields(line)...)
		assert.Equal(t, 1, r.code, line)
		assert.Contains(t, r.err, "info Current version: v"+msb.SDKVersion()+"\n", line)
		assert.Contains(t, r.err, "error: there is no release server to fetch msb from\n  → msb is one file: put the new one in the place of ", line)
	}
	for version, want := range map[string]string{
		"abc": "error: invalid version \"abc\"; expected MAJOR.MINOR.PATCH\n", "0.6": "invalid version", "1.2.3.4": "invalid version", "0.6.-1": "invalid version",
		"0.5.9":  "error: v0.5.9 is below the supported downgrade floor\n  → minimum supported downgrade target: 0.6.0\n",
		"99.0.0": "error: v99.0.0 is not older than the current version\n  → use `msb self update` to move to the latest release\n",
	} {
		r := run("downgrade", version)
		assert.Equal(t, 1, r.code, version)
		assert.Contains(t, r.err, want, version)
	}
}

func TestSelfUninstall(t *testing.T) {
	newGuests(t, runtimetest.Guest{})
	root := os.Getenv("MSB_HOME")
	user := t.TempDir()
	t.Setenv("HOME", user)
	local := filepath.Join(user, ".local", "bin")
	require.NoError(t, os.MkdirAll(local, 0o700))
	require.NoError(t, os.Symlink(filepath.Join(root, "bin", "msb"), filepath.Join(local, "msb")))
	require.NoError(t, os.Symlink("/elsewhere/msb", filepath.Join(local, "microsandbox")))

	succeed(t, "create", "-q", "--name", "a", "mini")
	assert.Equal(t, result{1, "", "error: non-interactive terminal; use --yes to remove everything\n"}, run("self", "uninstall"))
	assert.Equal(t, result{1, "", "error: sandbox 'a' is running: stop it first\n"}, run("self", "uninstall", "-y"))
	succeed(t, "stop", "-q", "a")
	r := succeed(t, "self", "uninstall", "-y")
	assert.Contains(t, r.err, "   ✓ Removed      "+root+"\n")
	assert.Contains(t, r.err, "done Uninstall complete.\n")
	assert.NoDirExists(t, root)
	_, err := os.Lstat(filepath.Join(local, "msb"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = os.Lstat(filepath.Join(local, "microsandbox"))
	assert.NoError(t, err, "it leads to another installation")
	assert.Equal(t, result{0, "", "Nothing to uninstall.\n"}, run("self", "uninstall", "-y"))
}
