package microsandbox

import (
	"encoding/json"
	"fmt"
	"strings"
)

// document is a JSON object that is edited without losing what this release does not know.
type document map[string]any

// parseDocument decodes text, numbers as they are written.
func parseDocument(text string) (document, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var doc document
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("sandbox configuration: %w", err)
	}
	return doc, nil
}

// within is the object at the end of path, made where there is none.
func (d document) within(path ...string) map[string]any {
	at := map[string]any(d)
	for _, key := range path {
		next, ok := at[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[key] = next
		}
		at = next
	}
	return at
}

// set stores v at the end of path.
func (d document) set(v any, path ...string) {
	last := len(path) - 1
	d.within(path[:last]...)[path[last]] = v
}

// remove deletes what is at the end of path.
func (d document) remove(path ...string) {
	last := len(path) - 1
	delete(d.within(path[:last]...), path[last])
}

// text is the string field of an object, "" if there is none.
func text(object any, field string) string {
	m, _ := object.(map[string]any)
	s, _ := m[field].(string)
	return s
}
