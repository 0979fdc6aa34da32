package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"-h"}, {"--help"}, {"help"}} {
		r := run(args...)
		assert.Zero(t, r.code, args)
		assert.Empty(t, r.err, args)
		assert.True(t, strings.HasPrefix(r.out, "Microsandbox CLI v0.6.18\n"), args)
		last := -1
		for _, g := range []string{"Sandboxes:", "Images:", "Storage:", "Installation:", "Other:"} {
			i := strings.Index(r.out, "\n"+g)
			assert.Greater(t, i, last, "%v: %s", args, g)
			last = i
		}
	}
	long, short := run("run", "--help"), run("help", "run")
	assert.Zero(t, long.code)
	assert.Equal(t, long, short)
	assert.Contains(t, long.out, "--name")
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"-V", "--version", "version"} {
		assert.Equal(t, result{0, "msb 0.6.18\n", ""}, run(arg))
	}
}

// TestGroups: a command of commands alone lists them, as a mistake.
func TestGroups(t *testing.T) {
	for _, name := range []string{"image", "registry", "self", "snapshot", "volume"} {
		r := run(name)
		assert.Equal(t, exitUsage, r.code, name)
		assert.Empty(t, r.out, name)
		assert.Contains(t, r.err, "Available Commands:", name)
	}
}

func TestTree(t *testing.T) {
	r := succeed(t, "--tree")
	assert.True(t, strings.HasPrefix(r.out, "msb\n├── "), r.out)
	for _, line := range []string{
		"\n├── list (aliases: ls) ", "\n│   └── -w, --watch ", "\n├── image ", "\n│   ├── inspect ", "\n│   │   ├── <REFERENCE>\n", "\n│   │   └── --format <FORMAT> ",
		"\n│   ├── -n, --name <NAME> ", "\n│   ├── --init <PATH|AUTO> ", "\n│   ├── [-- COMMAND...]\n", "\n│   ├── --net-rule <TOKENS> ",
	} {
		assert.Contains(t, r.out, line)
	}
	assert.NotContains(t, r.out, "--help")
	assert.NotContains(t, r.out, "─ images", "a hidden command")
	r = succeed(t, "exec", "--tree") // before required arguments are missed
	assert.True(t, strings.HasPrefix(r.out, "msb exec\n├── <NAME>\n"), r.out)
	assert.Contains(t, r.out, "\n└── -w, --workdir <WORKDIR> ")
	assert.NotContains(t, r.out, "--name")
	for _, cmd := range []string{"run", "image", "logs"} {
		succeed(t, cmd, "--tree")
	}
}

func TestUsageErrors(t *testing.T) {
	newHome(t)
	for line, want := range map[string]string{
		"nosuch":                         "unrecognized subcommand 'nosuch'",
		"help nosuch":                    "unrecognized subcommand 'nosuch'",
		"help image nosuch":              "unrecognized subcommand 'nosuch'",
		"image nosuch":                   "unrecognized subcommand 'nosuch'",
		"run --nosuch":                   "unexpected argument '--nosuch' found\n",
		"run a b":                        "unexpected argument 'b' found",
		"create a -- b":                  "unexpected argument 'b' found\n",
		"exec":                           "<NAME>",
		"exec -- ls":                     "<NAME>",
		"exec a ls":                      "unexpected argument 'ls' found\n",
		"exec a --tty --no-tty -- ls":    "tty",
		"exec a --stream -t -- ls":       "stream",
		"run -d --timeout 1s mini":       "timeout",
		"run --cpus x mini":              "cpus",
		"run --security x mini":          "[possible values: default, restricted]",
		"run --init-arg x mini":          "--init <PATH|auto>",
		"run --error --debug mini":       "cannot be used with",
		"volume nosuch":                  "unrecognized subcommand 'nosuch'",
		"volume create --kind x v":       "[possible values: dir, disk]",
		"volume create a b":              "unexpected argument 'b' found",
		"volume inspect":                 "provided:\n  <NAME>",
		"volume rm":                      "provided:\n  <NAMES>...",
		"volume ls --format yaml":        "[possible values: json]",
		"start":                          "<NAMES>...",
		"stop -t x a":                    "timeout",
		"ls x":                           "unexpected argument 'x' found",
		"ls --format yaml":               "[possible values: json]",
		"ps a --all":                     "cannot be used with",
		"ps a b":                         "unexpected argument 'b' found",
		"logs":                           "provided:\n  <NAME>",
		"logs a --source x":              "[possible values: stdout, stderr, output, system, all]",
		"logs a --color x":               "[possible values: auto, always, never]",
		"logs a --color auto --no-color": "no-color",
		"rmi":                            "provided:\n  <REFERENCES>...",
		"completion tcsh":                "[possible values: bash, elvish, fish, powershell, zsh]",
		"run --cpu-placement foo mini":   "invalid value 'foo' for '--cpu-placement <POLICY>': unknown CPU placement: foo (expected: inherit, auto, spread, compact)\n",

		"run --root-disk 1G --oci-upper-size 1G mini": "cannot be used with",
	} {
		r := run(strings.Fields(line)...)
		assert.Equal(t, exitUsage, r.code, "msb %s: %s", line, r.err)
		assert.Empty(t, r.out, line)
		assert.Contains(t, r.err, want, line)
		assert.Contains(t, r.err, "\nFor more information, try '--help'.\n", line)
		assert.Contains(t, r.err, "Usage: msb", line)
	}
}

// TestBadValues: what is wrong with a value comes from the command, not from the parser.
func TestBadValues(t *testing.T) {
	newHome(t)
	for line, want := range map[string]string{
		"exec a --timeout 1d -- ls":     "invalid digit found in string",
		"exec a --rlimit x -- ls":       "RESOURCE=SOFT:HARD",
		"exec a -e =x -- ls":            "has no name",
		"exec a -e GOMSB_NOT_SET -- ls": "environment variable 'GOMSB_NOT_SET' not set",
		"run --memory 1T mini":          "invalid value '1T' for '--memory'",
		"run --memory 0 mini":           "memory must be greater than 0",
		"run --cpus 0 mini":             "cpus must be greater than 0",
		"run --pull maybe mini":         "invalid pull policy: maybe (expected: always, if-missing, never)",
		"run --log-level x mini":        "invalid log level: x (expected: error, warn, info, debug, trace)",
		"run --root-disk disk.raw mini": "such as ./disk.raw",
		"run --label =x mini":           "label key must not be empty",
		"logs a --grep (":               "invalid value '(' for '--grep'",
	} {
		r := run(strings.Fields(line)...)
		assert.Equal(t, exitError, r.code, "msb %s: %s", line, r.err)
		assert.Empty(t, r.out, line)
		assert.Contains(t, r.err, want, line)
		assert.NotContains(t, r.err, "Usage:", line)
	}
}

func TestErrorsThatAreNoUsage(t *testing.T) {
	newHome(t)
	for line, want := range map[string]string{
		"run":                            "error: missing required sandbox field `image`; provide an image argument or set `image` in --conf\n",
		"run --pull never alpine":        "error: image error: image not cached: docker.io/library/alpine:latest\n",
		"create -e MSB_X=1 alpine":       "error: invalid config: environment variable \"MSB_X\" uses the reserved MSB_ prefix\n",
		"create --label service.a=1 x":   "error: invalid config: label key 'service.a' uses reserved prefix 'service.'\n",
		"create --name -- x":             "error: invalid config: sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and underscores: --\n",
		"start nosuch":                   "error: sandbox not found: nosuch\n",
		"stop -q nosuch":                 "error: sandbox not found: nosuch\n",
		"rm nosuch":                      "error: sandbox not found: nosuch\n",
		"exec nosuch -- ls":              "error: sandbox not found: nosuch\n",
		"logs nosuch":                    "error: sandbox not found: nosuch\n",
		"inspect nosuch":                 "error: sandbox not found: nosuch\n",
		"status nosuch":                  "error: sandbox not found: nosuch\n",
		"ping nosuch":                    "error: sandbox not found: nosuch\n",
		"logs --since zz a":              "error: could not parse time \"zz\" (expected RFC 3339 or `5m` etc.)\n",
		"image inspect nosuch":           "error: image not found: nosuch\n",
		"image rm nosuch":                "error: image not found: nosuch\nerror: some images failed to remove\n",
		"copy a b":                       "error: msb copy requires at least one sandbox endpoint (SANDBOX:/path)\n",
		"load -i /nonexistent/image.tar": "error: open /nonexistent/image.tar: no such file or directory\n",
	} {
		r := run(strings.Fields(line)...)
		assert.Equal(t, exitError, r.code, line)
		assert.Empty(t, r.out, line)
		assert.Equal(t, want, r.err, line)
	}
	for _, line := range []string{"start -q nosuch", "rm -q nosuch", "ping -q nosuch", "touch -q nosuch", "restart -q nosuch"} {
		assert.Equal(t, result{exitError, "", ""}, run(strings.Fields(line)...), line)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "elvish", "fish", "powershell", "zsh"} {
		r := run("completion", shell)
		require.Zero(t, r.code)
		assert.Contains(t, r.out, "msb")
		assert.Contains(t, r.out, "__complete", "%s asks the command itself", shell)
	}
}
