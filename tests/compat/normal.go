package compat

import (
	"regexp"
	"strings"
)

// varying are the parts of a text that differ from one run to the next.
var varying = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?UTC|Z|[+-]\d\d:\d\d)?`), "<time>"},
	{regexp.MustCompile(` \((\d+m ?)?\d+(\.\d+)?(ns|µs|us|ms|s)\)`), ""},
	{regexp.MustCompile(`\bmsb-[0-9a-f]{8}\b`), "<generated>"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\.`), "<hash>."},
	{regexp.MustCompile(`\bfm_[0-9a-f]{8}\b`), "fm_<id>"},
	{regexp.MustCompile(`"(pid|id|started_at_ms)": ?\d+`), `"$1": <n>`},
	{regexp.MustCompile(`[ \t]+(\n|$)`), "$1"},
}

// Normal replaces what differs between two runs of the same program.
func Normal(text string) string {
	for _, v := range varying {
		text = v.re.ReplaceAllString(text, v.with)
	}
	return text
}

// shape reduces the standard error of a mistake in the command line to the mistake: how the
// right use is explained below it is up to the program, as long as it is explained.
func shape(stderr string) string {
	mistake, rest, ok := strings.Cut(stderr, "\n\n")
	if ok && strings.HasPrefix(mistake, "error: ") && strings.HasSuffix(rest, "For more information, try '--help'.\n") {
		return mistake + "\n<usage>\n"
	}
	return stderr
}
