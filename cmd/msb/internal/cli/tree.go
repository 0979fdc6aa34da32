package cli

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// valueNames are the names that the values of flags go by in usage texts, where it is not
// the flag's own in capitals. "COMMAND FLAG" comes before "FLAG".
var valueNames = map[string]string{
	"create label": "KEY[=VALUE]", "run label": "KEY[=VALUE]", "branch label": "KEY[=VALUE]", "restore label": "KEY[=VALUE]",
	"branch names": "NAME,...", "branch secret": "ENV", "restore secret": "ENV",
	"snapshot create label": "K=V", "snapshot create dest-dir": "DIR", "snapshot create from": "SANDBOX",
	"modify env": "KEY=VALUE", "modify label": "KEY=VALUE", "modify max-memory": "MAX_MEMORY", "modify root-disk": "SIZE", "modify secret": "NAME@HOST[,HOST...]",
	"load input": "PATH", "image load input": "PATH", "load tag": "REF", "image load tag": "REF", "save output": "PATH", "image save output": "PATH",
	"ca-certs": "PATH", "conf": "PATH", "fs-conf": "PATH", "net-conf": "PATH", "resource-conf": "PATH", "runtime-conf": "PATH", "script-conf": "PATH", "secret-conf": "PATH",
	"copy": "SRC:DST", "copy-dir": "SRC:DST", "copy-file": "SRC:DST", "cpu-placement": "POLICY",
	"dns-nameserver": "ADDR", "dns-query-timeout-ms": "MS", "env-rm": "KEY", "from-snapshot": "PATH_OR_NAME",
	"inactivity-timeout": "DURATION", "init": "PATH|auto", "init-arg": "STR", "init-env": "KEY=VALUE", "interval": "DURATION", "label-rm": "KEY",
	"max-memory": "SIZE", "mkdir": "PATH", "mount-dir": "SOURCE:DEST[:OPTIONS]", "mount-disk": "SOURCE:DEST[:OPTIONS]", "mount-file": "SOURCE:DEST[:OPTIONS]",
	"mount-named": "NAME:DEST[:OPTIONS]", "net": "PROFILE", "net-default": "ACTION", "net-default-egress": "ACTION", "net-default-ingress": "ACTION",
	"net-egress-bandwidth": "SIZE[/DURATION]", "net-egress-bandwidth-burst": "SIZE", "net-egress-ops": "COUNT[/DURATION]", "net-egress-ops-burst": "COUNT",
	"net-ingress-bandwidth": "SIZE[/DURATION]", "net-ingress-bandwidth-burst": "SIZE", "net-ingress-ops": "COUNT[/DURATION]", "net-ingress-ops-burst": "COUNT",
	"net-ipv4-pool": "CIDR", "net-ipv6-pool": "CIDR", "net-rule": "TOKENS", "placement-profile": "NAME", "proxy": "socks[4|5]://IP:PORT",
	"replace-with-timeout": "DURATION", "rm": "PATH", "root-disk": "SPEC", "script": "NAME=BODY", "script-path": "NAME:PATH", "script-raw": "NAME=BODY",
	"secret-rm": "NAME", "socks4-user-id": "USER_ID", "socks5-password-env": "ENV_VAR", "socks5-username": "USERNAME", "sort": "COLUMN", "thp": "POLICY",
	"tls-no-verify-upstream-for": "PATTERN", "tls-upstream-ca-cert-for": "PATTERN=PATH", "vsock": "HOST_PATH:PORT[/stream|/dgram]",
	"modify workdir": "PATH",
}

// argument is how usage texts call a flag: --name, or --name <VALUE>.
func argument(cmd *cobra.Command, f *pflag.Flag) string {
	if f.NoOptDefVal != "" {
		return "--" + f.Name
	}
	_, path, _ := strings.Cut(cmd.CommandPath(), " ")
	if value, ok := valueNames[path+" "+f.Name]; ok {
		return "--" + f.Name + " <" + value + ">"
	}
	return withValue(f.Name)
}

// withValue is argument for a flag whose value has the same name in all commands.
func withValue(flag string) string {
	return "--" + flag + " <" + cmp.Or(valueNames[flag], strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))) + ">"
}

// branch is one line of the command tree and what hangs below it.
type branch struct {
	text, description string
	below             []branch
}

// printTree prints a command with its arguments, its flags and its subcommands.
func printTree(w io.Writer, c *cobra.Command) {
	below := branches(c)
	fmt.Fprintln(w, c.CommandPath())
	printBranches(w, below, "", width(below, 0)+2)
}

func branches(c *cobra.Command) (all []branch) {
	for _, p := range positionals(c) {
		all = append(all, branch{text: strings.TrimSuffix(p.text, "...")})
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || slices.Contains([]string{"help", "tree", "version"}, f.Name) {
			return
		}
		text := argument(c, f)
		if f.Shorthand != "" {
			text = "-" + f.Shorthand + ", " + text
		}
		name, value, ok := strings.Cut(text, "<")
		if ok {
			text = name + "<" + strings.ToUpper(value)
		}
		all = append(all, branch{text: text, description: f.Usage})
	})
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		b := branch{text: sub.Name(), description: sub.Short, below: branches(sub)}
		if len(sub.Aliases) > 0 {
			b.text += " (aliases: " + strings.Join(sub.Aliases, ", ") + ")"
		}
		all = append(all, b)
	}
	return all
}

// width is how wide the tree is without the descriptions.
func width(all []branch, depth int) (wide int) {
	for _, b := range all {
		wide = max(wide, 4*(depth+1)+utf8.RuneCountInString(b.text), width(b.below, depth+1))
	}
	return wide
}

func printBranches(w io.Writer, all []branch, indent string, column int) {
	for i, b := range all {
		fork, rest := "├── ", "│   "
		if i == len(all)-1 {
			fork, rest = "└── ", "    "
		}
		line := indent + fork + b.text
		if b.description != "" {
			line += strings.Repeat(" ", column-utf8.RuneCountInString(line)) + b.description
		}
		fmt.Fprintln(w, line)
		printBranches(w, b.below, indent+rest, column)
	}
}
