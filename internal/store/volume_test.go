package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVolumeRows(t *testing.T) {
	s, ctx := fresh(t), t.Context()
	now := time.Date(2026, 11, 28, 8, 1, 49, 468707292, time.UTC)
	s.now = func() time.Time { return now }
	quota, capacity := uint32(64), int64(128<<20)
	dir, err := s.InsertVolume(ctx, Volume{Name: "lab", Kind: "dir", QuotaMiB: &quota, Labels: map[string]string{"z": "1", "a": `x"y`}})
	require.NoError(t, err)
	assert.Equal(t, Volume{ID: 1, Name: "lab", Kind: "dir", QuotaMiB: &quota, Labels: map[string]string{"z": "1", "a": `x"y`}, CreatedAt: now, UpdatedAt: now}, dir)
	var text string
	require.NoError(t, s.db.QueryRow(`SELECT labels || kind || quota_mib || created_at FROM volume`).Scan(&text))
	assert.Equal(t, `[["a","x\"y"],["z","1"]]dir642026-11-28 08:01:49.468707292`, text, "as 0.6.18 stores it")
	now = now.Add(time.Second)
	disk, err := s.InsertVolume(ctx, Volume{Name: "dk", Kind: "disk", Capacity: &capacity, Format: "raw", Fstype: "ext4"})
	require.NoError(t, err)
	require.NoError(t, s.db.QueryRow(`SELECT count(*) FROM volume WHERE labels IS NULL AND quota_mib IS NULL AND size_bytes IS NULL`).Scan(&text))
	assert.Equal(t, "1", text)

	_, err = s.InsertVolume(ctx, Volume{Name: "dk", Kind: "dir"})
	assert.ErrorIs(t, err, ErrExists)
	got, err := s.Volume(ctx, "dk")
	require.NoError(t, err)
	assert.Equal(t, disk, got)
	all, err := s.Volumes(ctx)
	require.NoError(t, err)
	assert.Equal(t, []Volume{disk, dir}, all, "newest first")

	there, err := s.DeleteVolume(ctx, disk.ID)
	require.NoError(t, err)
	assert.True(t, there)
	there, err = s.DeleteVolume(ctx, disk.ID)
	require.NoError(t, err)
	assert.False(t, there)
	_, err = s.Volume(ctx, "dk")
	assert.ErrorIs(t, err, ErrNotFound)
}

// Rows of other programs are read for what they say.
func TestForeignVolumeRows(t *testing.T) {
	s := fresh(t)
	_, err := s.db.Exec(`INSERT INTO volume(name, kind, quota_mib, labels) VALUES('odd', 'tape', -1, '[]'), ('torn', 'dir', NULL, '{')`)
	require.NoError(t, err)
	v, err := s.Volume(t.Context(), "odd")
	require.NoError(t, err)
	assert.Equal(t, "dir", v.Kind)
	assert.Zero(t, *v.QuotaMiB)
	assert.Nil(t, v.Labels)
	assert.True(t, v.CreatedAt.IsZero())
	_, err = s.Volume(t.Context(), "torn")
	assert.ErrorIs(t, err, ErrCorrupt)
}
