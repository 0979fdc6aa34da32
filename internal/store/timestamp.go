package store

import (
	"database/sql"
	"fmt"
	"time"
)

// timeLayout is how official programs store time: UTC, nine digits of a second, no zone.
const timeLayout = "2006-01-02 15:04:05.000000000"

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// parseTime reads any of the forms that SQLite tools write; NULL is the zero time.
func parseTime(s sql.NullString) (time.Time, error) {
	if !s.Valid || s.String == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00"} {
		if t, err := time.Parse(layout, s.String); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: timestamp %q", ErrCorrupt, s.String)
}

func (s *Store) stamp() string { return formatTime(s.now()) }
