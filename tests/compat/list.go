package compat

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Difference is one observable that is not the same. ID names it in docs/compat.md.
type Difference struct {
	ID                   string
	Official, Other, Who string
}

func (d Difference) String() string {
	return fmt.Sprintf("%s\n--- official\n%s\n+++ %s\n%s\n", d.ID, d.Official, d.Who, d.Other)
}

// Listed are the differences that a section of docs/compat.md admits: list items that begin with names
// in backquotes and a colon. A * in a name stands for anything.
type Listed struct{ names, pending []string }

// pending is the section of what is yet to come: its differences may go at any time.
const pending = "Not there yet"

// ReadList reads the section with a title, and what is pending.
func ReadList(path, section string) (Listed, error) {
	names, err := readNames(path, section)
	if err != nil {
		return Listed{}, err
	}
	later, err := readNames(path, pending)
	return Listed{names, later}, err
}

func readNames(path, section string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, body, ok := strings.Cut(string(text), "\n## "+section+"\n")
	if !ok {
		return nil, fmt.Errorf("%s has no section %q", path, section)
	}
	body, _, _ = strings.Cut(body, "\n## ")
	var all []string
	for line := range strings.Lines(body) {
		item, ok := strings.CutPrefix(line, "- `")
		if !ok {
			continue
		}
		names, _, ok := strings.Cut(item, "`: ")
		if !ok {
			return nil, fmt.Errorf("%s: no reason in %q", path, line)
		}
		all = append(all, strings.Split(names, "`, `")...)
	}
	return all, nil
}

// Check returns the differences that are not listed, and the listed names that no
// difference has.
func (l Listed) Check(differences []Difference) (unlisted []Difference, gone []string) {
	all := append(l.names[:len(l.names):len(l.names)], l.pending...)
	met := make([]bool, len(all))
	patterns := make([]*regexp.Regexp, len(all))
	for i, name := range all {
		patterns[i] = regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, ".*") + "$")
	}
	for _, d := range differences {
		known := false
		for i, p := range patterns {
			if p.MatchString(d.ID) {
				known, met[i] = true, true
			}
		}
		if !known {
			unlisted = append(unlisted, d)
		}
	}
	for i, name := range l.names {
		if !met[i] {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	return unlisted, gone
}
