package flagtype

import (
	"fmt"
	"strings"
)

// CopyPatch parses SRC:/DST, which it splits at the first colon before a slash.
func CopyPatch(s string) (src, dst string, err error) {
	i := strings.Index(s, ":/")
	if i <= 0 {
		return "", "", fmt.Errorf("--copy must be in format source:/guest[:options]: %s", s)
	}
	return s[:i], s[i+1:], nil
}

// RawScript parses NAME=BODY.
func RawScript(s string) (name, body string, err error) {
	name, body, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return "", "", fmt.Errorf("script must be in format NAME=BODY: %s", s)
	}
	return name, body, nil
}

// ScriptPath parses NAME:PATH.
func ScriptPath(s string) (name, path string, err error) {
	name, path, ok := strings.Cut(s, ":")
	if !ok || name == "" || path == "" {
		return "", "", fmt.Errorf("script must be in format NAME:PATH: %s", s)
	}
	return name, path, nil
}

// Script parses NAME=BODY, in whose body \n, \t, \r, \\, \" and \' stand for what they
// stand for in Go, and makes a program for the shell of it.
func Script(s, shell string) (name, program string, err error) {
	name, body, err := RawScript(s)
	if err != nil {
		return "", "", err
	}
	body = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\\`, `\`, `\"`, `"`, `\'`, `'`).Replace(body)
	return name, ShellScript(shell, body), nil
}

// ShellScript makes a program for the shell, "" for /bin/sh, of its commands.
func ShellScript(shell, body string) string {
	if shell == "" {
		shell = "/bin/sh"
	}
	if !strings.Contains(shell, "/") {
		shell = "/usr/bin/env " + shell
	}
	return "#!" + shell + "\n" + strings.TrimSuffix(body, "\n") + "\n"
}
