package store

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// official makes a database from the schema as recorded from the official program.
func official(t *testing.T, migrations []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "msb.db")
	ddl, err := os.ReadFile("testdata/observed-schema.sql")
	require.NoError(t, err)
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for stmt := range strings.SplitSeq(string(ddl), ";\n") {
		if stmt = strings.TrimSpace(stmt); stmt != "" && !strings.Contains(stmt, "sqlite_sequence") {
			_, err := db.Exec(stmt)
			require.NoError(t, err, stmt)
		}
	}
	for _, m := range migrations {
		_, err := db.Exec(`INSERT INTO seaql_migrations VALUES(?, 1)`, m)
		require.NoError(t, err)
	}
	return path
}

// shape lists every column, index and foreign key of a database.
func shape(t *testing.T, path string) []string {
	t.Helper()
	raw, err := connect(path, Options{})
	require.NoError(t, err)
	db := raw.db
	defer func() { require.NoError(t, db.Close()) }()
	rows, err := db.Query(`
		SELECT m.name || '.' || c.name || ' ' || c.cid || ' ' || upper(c.type) || ' ' || c."notnull" || ' ' || coalesce(c.dflt_value,'-') || ' ' || c.pk
			FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
		UNION ALL SELECT m.name || ' fk ' || f."from" || ' ' || f."table" || '.' || f."to" || ' ' || f.on_delete
			FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'
		UNION ALL SELECT m.name || ' index ' || i.name || ' ' || i."unique" || ' ' || i.partial || ' ' || x.seqno || ' ' || x.name
			FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_info(i.name) x WHERE m.type = 'table'
		ORDER BY 1`)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var s string
		require.NoError(t, rows.Scan(&s))
		all = append(all, s)
	}
	require.NoError(t, rows.Err())
	return all
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, Options{Create: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestFreshDatabaseIsTheOfficialOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a dir?with#odd%20name", "msb.db")
	s := open(t, path)
	assert.Equal(t, shape(t, official(t, nil)), shape(t, path))
	observed, err := os.ReadFile("testdata/observed-migrations.txt")
	require.NoError(t, err)
	assert.Equal(t, strings.Fields(string(observed)), Migrations())
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "1", "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		require.NoError(t, s.db.QueryRow("PRAGMA "+pragma).Scan(&got))
		assert.Equal(t, want, got, pragma)
	}
	_, err = s.db.Exec(`INSERT INTO sandbox(name, config, status, network_slot) VALUES('x', '{}', 'Running', 70000)`)
	assert.Error(t, err, "the slot's range is checked")
}

func TestOpensAnOfficialDatabaseUnchanged(t *testing.T) {
	path := official(t, Migrations())
	before := shape(t, path)
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	_, err = s.InsertSandbox(t.Context(), NewSandbox{Name: "a", Config: "{}", Status: Running})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	assert.Equal(t, before, shape(t, path))
}

func TestRefusesOtherReleases(t *testing.T) {
	all := Migrations()
	future := append(append([]string(nil), all...), "m20990101_000001_the_future")
	swapped := append(append([]string(nil), all[:24]...), "m20990101_000001_the_future")
	between := append(append([]string(nil), all...), "m20260601_000001_unknown")
	for name, c := range map[string]struct {
		migrations []string
		want       error
	}{
		"newer":                 {future, ErrSchemaNewer},
		"newer, same count":     {swapped, ErrSchemaNewer},
		"unknown in the middle": {between, ErrSchemaNewer},
		"0.5.7":                 {all[:11], ErrSchemaOlder},
		"0.6.14":                {all[:23], ErrSchemaOlder},
		"gap":                   {append(append([]string(nil), all[:5]...), all[6:]...), ErrSchemaOlder},
		"none":                  {nil, ErrSchemaOlder},
	} {
		path := official(t, c.migrations)
		before := shape(t, path)
		for _, create := range []bool{false, true} {
			_, err := Open(t.Context(), path, Options{Create: create})
			assert.ErrorIs(t, err, c.want, name)
		}
		assert.Equal(t, before, shape(t, path), name)
	}
}

func TestRefusesWhatIsNoDatabase(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(t.Context(), filepath.Join(dir, "none"), Options{})
	assert.ErrorIs(t, err, ErrNoDatabase)
	junk := filepath.Join(dir, "junk")
	require.NoError(t, os.WriteFile(junk, []byte(strings.Repeat("not a database ", 1000)), 0o600))
	_, err = Open(t.Context(), junk, Options{Create: true})
	assert.ErrorIs(t, err, ErrCorrupt)
	foreign := filepath.Join(dir, "foreign")
	db, err := sql.Open("sqlite", foreign)
	require.NoError(t, err)
	_, err = db.Exec(`CREATE TABLE other(x)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = Open(t.Context(), foreign, Options{Create: true})
	assert.ErrorIs(t, err, ErrCorrupt)
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err = Open(t.Context(), empty, Options{})
	assert.ErrorIs(t, err, ErrNoDatabase)
	s, err := Open(t.Context(), empty, Options{Create: true})
	require.NoError(t, err, "an empty file becomes a database")
	require.NoError(t, s.Close())
}

func TestManyCreateTheSameDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "msb.db")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(context.Background(), path, Options{Create: true})
			if assert.NoError(t, err) {
				assert.NoError(t, s.Close())
			}
		})
	}
	wg.Wait()
	var n int
	require.NoError(t, open(t, path).db.QueryRow(`SELECT count(*) FROM seaql_migrations`).Scan(&n))
	assert.Equal(t, len(Migrations()), n)
}

// TestCreatedMeanwhile lets another process make the tables between the two questions that
// checkSchema asks.
func TestCreatedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "msb.db")
	s, err := connect(path, Options{Create: true, BusyTimeout: time.Second, Now: time.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	missing := s.compareSchema(t.Context())
	require.Error(t, missing)
	assert.ErrorIs(t, s.noSchema(t.Context(), missing), errNoSchema)
	open(t, path)
	assert.NoError(t, s.noSchema(t.Context(), missing))
}

// TestWaitForMigrationEnds with its context, whoever has the lock.
func TestWaitForMigrationEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "msb.db")
	unlock, err := lockMigration(t.Context(), path)
	require.NoError(t, err)
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, path, Options{Create: true})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "msb.db")
	s, err := Open(b.Context(), path, Options{Create: true})
	require.NoError(b, err)
	require.NoError(b, s.Close())
	for b.Loop() {
		s, err := Open(b.Context(), path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}
