package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
	msb "github.com/gomsb/gomsb/sdk"
)

// lines runs commands one after the other and writes down what they did, with the data
// root as HOME.
func lines(home string, commands ...string) string {
	var b strings.Builder
	for _, c := range commands {
		r := run(strings.Fields(c)...)
		b.WriteString("$ msb " + c + "\n" + r.out)
		for line := range strings.Lines(r.err) {
			b.WriteString("! " + line)
		}
		if r.code != 0 {
			b.WriteString("exit " + string(rune('0'+r.code)) + "\n")
		}
	}
	return strings.ReplaceAll(b.String(), home, "HOME")
}

func TestVolumeCommands(t *testing.T) {
	home := newHome(t)
	made := lines(home,
		"volume create", "volume create data", "volume create data", "volume create --name d2 -q", "volume create a --name b", "volume create a --name a",
		"volume create --kind disk dk", "volume create --kind disk --size 64M dk", "volume create --kind disk --size 0 dk0", "volume create --kind disk --size 1 dk1",
		"volume create --kind disk --size x dk1", "volume create --size 64 dd", "volume create ../x", "vol create --kind disk --size 1G big")
	_, err := msb.CreateVolume(context.Background(), "lab", msb.WithVolumeQuota(3<<10), msb.WithVolumeLabels(map[string]string{"z": "1", "a": "2"}))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(home, "volumes", "lab", "f"), []byte("12345"), 0o600))
	golden(t, "volume-commands", made+lines(home,
		"volume ls", "volumes -q", "volume inspect data", "volume inspect dk", "volume inspect lab", "volume inspect nope",
		"volume rm nope", "volume rm -q nope", "volume rm nope d2 a", "volume rm big dk", "vol ls --format json"))
}

func TestVolumesOfSandboxes(t *testing.T) {
	home := newGuests(t, runtimetest.Guest{})
	golden(t, "volume-sandboxes", lines(home,
		"create -q -n s -v data:/d:ro,quota=5 --mount-named db:/db:kind=disk,size=16M --mount-named data:/again:quota=5 mini",
		"volume ls", "volume rm data", "volume rm db",
		"create -q -n t -v db:/d mini", "create -q -n t -v data:/d:quota=6 mini", "create -q -n t --mount-named db:/d:kind=disk,size=8 mini",
		"create -q -n t -v da/ta:/d mini", "create -q -n t --mount-named db:/a:kind=disk,size=16 --mount-named db:/b:kind=disk,size=16 mini",
		"stop -q s", "volume rm db", "start -q s", "rm -q s", "volume rm data"))
}

// Mistakes in mounts are told like those in a configuration, as in 0.6.18: without usage,
// exit code 1.
func TestMountsThatCannotBe(t *testing.T) {
	newHome(t)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for line, want := range map[string]string{
		"run --tmpfs x mini":                          "invalid config: guest mount path must be absolute: x",
		"run -v data:m mini":                          "volume must be in format source:/guest[:options]: data:m",
		"run -v /d:/m,ro mini":                        "volume options must use source:guest:options syntax, for example /d:/m:ro",
		"run --mount-disk /d:/m,ro mini":              "mount-disk options must use source:guest:options syntax, for example /d:/m:ro",
		"run --mount-dir " + file + ":/m mini":        "mount-dir source is not a directory: " + file,
		"run --mount-dir nothing:/m mini":             "mount-dir source: stat nothing: no such file or directory",
		"run --mount-file /:/m mini":                  "mount-file source is not a regular file: /",
		"run --mount-file /dev/null:/m mini":          "mount-file source is not a regular file: /dev/null",
		"run -v /:/m --mount-dir /:/m/ mini":          "multiple volumes cannot mount the same guest path: /m",
		"run -v data:/m --tmpfs /m mini":              "multiple volumes cannot mount the same guest path: /m",
		"create -v data:/m:kind=disk mini":            "mount option `kind` is not valid here",
		"create --mount-named db:/m:kind=disk mini":   "mount-named kind=disk requires size=SIZE",
		"create --mount-named ./db:/m mini":           "mount-named source must be a volume name, not a host path: ./db",
		"create --pull never -v a/b:/m mini":          "invalid config: volume name must start with an alphanumeric character and contain only alphanumeric characters, dots, hyphens, and underscores: a/b",
		"create --pull never -v data:/a/../b mini":    `invalid config: mount path "/a/../b" must not contain ..`,
		"create --mount-disk x.vmdk:/m mini":          "invalid config: mount /m: a vmdk image can only be mounted read-only",
		"create -v data:/m:stat-virt=off,uid=0 mini":  "mount options `uid` and `gid` must be specified together",
		"create --mount-disk /d:/m:format=zip mini":   `invalid format "zip" (expected raw|qcow2|vmdk)`,
		"run -v /:/m:stat-virt=off,host-perms=mirror": "invalid config: mount /m: without stat virtualization the host's permissions are the guest's already: leave out mirror",
	} {
		if !strings.HasSuffix(line, "mini") {
			line += " mini"
		}
		assert.Equal(t, result{exitError, "", "error: " + want + "\n"}, run(strings.Fields(line)...), line)
	}
}
