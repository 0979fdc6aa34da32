package store

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSnapshotRows(t *testing.T) {
	s, ctx, size := fresh(t), context.Background(), int64(4<<30)
	made := time.Date(2026, 5, 1, 12, 0, 0, 5, time.UTC)
	row := func(digest, name, parent string) Snapshot {
		made = made.Add(time.Second)
		return Snapshot{Digest: digest, Name: name, ParentDigest: parent, ImageRef: "alpine", ImageManifestDigest: "sha256:m",
			Format: "raw", Fstype: "ext4", Path: "/s/" + digest, SizeBytes: &size, CreatedAt: made}
	}
	children := func(digest string) int {
		got, err := s.Snapshot(ctx, digest)
		require.NoError(t, err)
		return got.Children
	}
	want := row("a", "base", "")
	require.NoError(t, s.SaveSnapshot(ctx, row("b", "child", "a")))
	require.NoError(t, s.SaveSnapshot(ctx, want))
	got, err := s.Snapshot(ctx, "a")
	require.NoError(t, err)
	require.False(t, got.IndexedAt.IsZero())
	want.IndexedAt, want.Children = got.IndexedAt, 1
	want.Scope, want.StateKind, want.Locality, want.Availability, want.MigrationState = "disk", "file", "embedded", "ready", "canonical"
	require.Equal(t, want, got)

	require.NoError(t, s.SaveSnapshot(ctx, row("c", "", "a")))
	require.NoError(t, s.SaveSnapshot(ctx, row("d", "", "")), "rows without a name do not replace each other")
	require.Equal(t, 2, children("a"))
	require.NoError(t, s.SaveSnapshot(ctx, row("e", "child", "a")), "takes the name of b")
	require.Equal(t, 2, children("a"))
	_, err = s.Snapshot(ctx, "b")
	require.ErrorIs(t, err, ErrNotFound)

	list, err := s.Snapshots(ctx)
	require.NoError(t, err)
	var order string
	for _, l := range list {
		order += l.Digest
	}
	require.Equal(t, "edca", order)

	require.NoError(t, s.RemoveSnapshot(ctx, "c"))
	require.Equal(t, 1, children("a"))
	require.ErrorIs(t, s.RemoveSnapshot(ctx, "c"), ErrNotFound)
	_, err = s.db.ExecContext(ctx, `UPDATE snapshot_index SET child_count = 9`)
	require.NoError(t, err)
	require.NoError(t, s.RecountSnapshots(ctx))
	require.Equal(t, 1, children("a"))
	require.Equal(t, 0, children("e"))
}
