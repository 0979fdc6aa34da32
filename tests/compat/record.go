package compat

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	_ "modernc.org/sqlite" // the driver of the database
)

// Record is all that a script showed, by the name of the observable.
type Record map[string]string

// Run runs a script, its nth step with programs[n % len(programs)], so that several share a home in turn.
func (s Script) Run(ctx context.Context, h Home, programs ...Program) (Record, error) {
	record := Record{}
	for i, step := range s.Steps {
		if h.Progress != nil {
			h.Progress(step)
		}
		o, err := programs[i%len(programs)].Do(ctx, h, step)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		name := s.Name + " | " + step
		record[name+" | stdout"] = o.Stdout
		record[name+" | stderr"] = o.Stderr
		record[name+" | code"] = fmt.Sprint(o.Code)
	}
	if err := h.files(record, s.Name); err != nil {
		return nil, err
	}
	return record, h.rows(ctx, record, s.Name)
}

// Compare lists what differs from the record of the official program.
func (r Record) Compare(other Record, who string) []Difference {
	names := maps.Clone(r)
	maps.Copy(names, other)
	var all []Difference
	for _, id := range slices.Sorted(maps.Keys(names)) {
		theirs, one := r[id]
		ours, two := other[id]
		if one != two || theirs != ours {
			all = append(all, Difference{ID: id, Official: orNone(theirs, one), Other: orNone(ours, two), Who: who})
		}
	}
	return all
}

func orNone(text string, ok bool) string {
	if !ok {
		return "(none)"
	}
	return text
}

// named are parts of file names that differ between runs.
var named = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{24}|msb-[0-9a-f]{8}`)

// files records what there is in the data root, but not the modes: ours are for the owner alone.
func (h Home) files(record Record, script string) error {
	return filepath.WalkDir(h.Root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != h.Root {
			return nil // somebody in the background has removed it
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(h.Root, path)
		if err != nil {
			return err
		}
		name = script + " | file " + named.ReplaceAllString(name, "<hash>")
		record[name] = d.Type().String()
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			record[name] += " " + named.ReplaceAllString(target, "<hash>")
		}
		return nil
	})
}

// rows records every column of every table of the database, in the order of the rows.
func (h Home) rows(ctx context.Context, record Record, script string) error {
	path := filepath.Join(h.Root, "db", "msb.db")
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return nil
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer db.Close()
	var tables []string
	if err := each(ctx, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name", func(row map[string]any) error {
		tables = append(tables, row["name"].(string))
		return nil
	}); err != nil {
		return err
	}
	for _, table := range tables {
		n := 0
		err := each(ctx, db, "SELECT * FROM "+table+" ORDER BY 1, 2", func(row map[string]any) error {
			n++
			for column, value := range row {
				name := fmt.Sprintf("%s | row %s.%s", script, table, column)
				record[name] += h.value(column, value) + "\n"
			}
			return nil
		})
		if err != nil {
			return err
		}
		record[fmt.Sprintf("%s | rows of %s", script, table)] = fmt.Sprint(n)
	}
	return nil
}

// value is a database value as text, JSON with its keys in order.
func (h Home) value(column string, value any) string {
	if value == nil {
		return "NULL"
	}
	text := fmt.Sprint(value)
	switch column {
	case "pid", "applied_at", "id":
		return "<" + column + ">"
	}
	var parsed map[string]any
	if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &parsed) == nil {
		if sorted, err := json.MarshalIndent(parsed, "", " "); err == nil {
			text = string(sorted)
		}
	}
	return h.plain(Program{}, text)
}

func each(ctx context.Context, db *sql.DB, query string, f func(map[string]any) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values := make([]any, len(columns))
		pointers := make([]any, len(columns))
		for i := range values {
			pointers[i] = &values[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			return err
		}
		row := map[string]any{}
		for i, column := range columns {
			row[column] = values[i]
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}
