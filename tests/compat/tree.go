package compat

import "strings"

// Tree parses the output of msb --tree: each command with its aliases, and each of its arguments and
// flags with the name of the value. Descriptions and order are left out.
func Tree(text string) Record {
	record := Record{}
	var path []string
	for line := range strings.Lines(text) {
		rest := strings.TrimLeft(line, "│├└─ \u00a0")
		indent := len([]rune(line)) - len([]rune(rest))
		item, _, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), "  ")
		depth := indent / 4
		if depth == 0 || item == "" {
			continue
		}
		parent := strings.Join(path[:min(depth-1, len(path))], " ")
		if strings.HasPrefix(item, "-") || strings.HasPrefix(item, "[") || strings.HasPrefix(item, "<") {
			record[strings.TrimSpace("msb "+parent)+": "+item] = item
			continue
		}
		name, _, _ := strings.Cut(item, " (")
		path = append(path[:depth-1], name)
		record["msb "+strings.Join(path, " ")] = item
	}
	return record
}
