package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Image is one reference of the image cache with what it points to. Sizes are bytes.
type Image struct {
	Reference    string
	Digest       string // of the manifest
	MediaType    string
	ConfigDigest string
	Architecture string
	OS           string
	Variant      string
	LayerCount   int
	TotalSize    int64 // compressed
	CreatedAt    time.Time
	UpdatedAt    time.Time // last used
	Config       ImageConfig
	Layers       []Layer // lowest first; filled by Image, not by Images
}

// ImageConfig is what a container of the image runs with unless told otherwise.
type ImageConfig struct {
	Env        []string // "K=V"
	Cmd        []string
	Entrypoint []string
	WorkingDir string
	User       string
	Labels     map[string]string
	StopSignal string
}

// Layer is one layer of an image.
type Layer struct {
	DiffID         string
	BlobDigest     string
	MediaType      string
	CompressedSize int64
	ErofsSize      int64
}

// SaveImage records an image and points its reference at it, all or nothing.
func (s *Store) SaveImage(ctx context.Context, img Image) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		now := s.stamp()
		var manifest int64
		err := tx.QueryRowContext(ctx, `INSERT INTO manifest
			(digest, media_type, config_digest, architecture, os, variant, layer_count, total_size_bytes, created_at)
			VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT(digest) DO UPDATE SET media_type = excluded.media_type, config_digest = excluded.config_digest,
			architecture = excluded.architecture, os = excluded.os, variant = excluded.variant,
			layer_count = excluded.layer_count, total_size_bytes = excluded.total_size_bytes RETURNING id`,
			img.Digest, orNull(img.MediaType), orNull(img.ConfigDigest), orNull(img.Architecture), orNull(img.OS), orNull(img.Variant),
			len(img.Layers), img.TotalSize, now).Scan(&manifest)
		if err != nil {
			return err
		}
		if err := saveConfig(ctx, tx, manifest, img, now); err != nil {
			return err
		}
		if err := saveLayers(ctx, tx, manifest, img.Layers, now); err != nil {
			return err
		}
		return s.pointReference(ctx, tx, img.Reference, manifest)
	})
}

// pointReference makes a reference stand for a manifest, and notes its use.
func (s *Store) pointReference(ctx context.Context, tx *sql.Tx, reference string, manifest int64) error {
	now := s.stamp()
	_, err := tx.ExecContext(ctx, `INSERT INTO image_ref(reference, manifest_id, created_at, updated_at) VALUES(?, ?, ?, ?)
		ON CONFLICT(reference) DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = excluded.updated_at`,
		reference, manifest, now, now)
	return err
}

func saveConfig(ctx context.Context, tx *sql.Tx, manifest int64, img Image, now string) error {
	c := img.Config
	var text [4]any
	for i, v := range []any{c.Env, c.Cmd, c.Entrypoint, c.Labels} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if len(b) > 2 && string(b) != "null" { // absent and empty are the same
			text[i] = string(b)
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO config
		(manifest_id, digest, env, cmd, entrypoint, labels, working_dir, user, stop_signal, created_at) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT(manifest_id) DO UPDATE SET digest = excluded.digest, env = excluded.env, cmd = excluded.cmd,
		entrypoint = excluded.entrypoint, labels = excluded.labels, working_dir = excluded.working_dir, user = excluded.user,
		stop_signal = excluded.stop_signal`,
		manifest, img.ConfigDigest, text[0], text[1], text[2], text[3], orNull(c.WorkingDir), orNull(c.User), orNull(c.StopSignal), now)
	return err
}

func saveLayers(ctx context.Context, tx *sql.Tx, manifest int64, layers []Layer, now string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM manifest_layer WHERE manifest_id = ?`, manifest); err != nil {
		return err
	}
	for i, l := range layers {
		var id int64
		err := tx.QueryRowContext(ctx, `INSERT INTO layer
			(diff_id, blob_digest, media_type, compressed_size_bytes, erofs_size_bytes, created_at, last_used_at) VALUES(?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT(diff_id) DO UPDATE SET blob_digest = excluded.blob_digest, media_type = excluded.media_type,
			compressed_size_bytes = excluded.compressed_size_bytes, erofs_size_bytes = excluded.erofs_size_bytes,
			last_used_at = excluded.last_used_at RETURNING id`,
			l.DiffID, l.BlobDigest, orNull(l.MediaType), l.CompressedSize, l.ErofsSize, now, now).Scan(&id)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO manifest_layer(manifest_id, layer_id, position) VALUES(?, ?, ?)`, manifest, id, i); err != nil {
			return err
		}
	}
	return nil
}

const imageQuery = `SELECT r.reference, r.created_at, r.updated_at, m.digest, m.media_type, m.config_digest, m.architecture, m.os, m.variant,
	m.layer_count, m.total_size_bytes, c.env, c.cmd, c.entrypoint, c.labels, c.working_dir, c.user, c.stop_signal
	FROM image_ref r JOIN manifest m ON m.id = r.manifest_id LEFT JOIN config c ON c.manifest_id = m.id`

func scanImage(row scanner) (Image, error) {
	var i Image
	var created, updated, media, config, arch, os, variant, dir, user, signal sql.NullString
	var text [4]sql.NullString
	var count, size sql.NullInt64
	err := row.Scan(&i.Reference, &created, &updated, &i.Digest, &media, &config, &arch, &os, &variant,
		&count, &size, &text[0], &text[1], &text[2], &text[3], &dir, &user, &signal)
	if err != nil {
		return Image{}, err
	}
	i.MediaType, i.ConfigDigest, i.Architecture, i.OS, i.Variant = media.String, config.String, arch.String, os.String, variant.String
	i.LayerCount, i.TotalSize = int(count.Int64), size.Int64
	i.Config.WorkingDir, i.Config.User, i.Config.StopSignal = dir.String, user.String, signal.String
	var errs [6]error
	i.CreatedAt, errs[0] = parseTime(created)
	i.UpdatedAt, errs[1] = parseTime(updated)
	for n, dst := range []any{&i.Config.Env, &i.Config.Cmd, &i.Config.Entrypoint, &i.Config.Labels} {
		if text[n].String != "" {
			if err := json.Unmarshal([]byte(text[n].String), dst); err != nil {
				errs[n+2] = fmt.Errorf("%w: image %s: %w", ErrCorrupt, i.Reference, err)
			}
		}
	}
	return i, errors.Join(errs[:]...)
}

// Images lists all references, newest first, without their layers.
func (s *Store) Images(ctx context.Context) ([]Image, error) {
	return queryAll(ctx, s, scanImage, imageQuery+` ORDER BY r.created_at DESC, r.id DESC`)
}

// Manifests returns the digests of all manifests that are known.
func (s *Store) Manifests(ctx context.Context) ([]string, error) {
	return queryAll(ctx, s, func(row scanner) (digest string, err error) { return digest, row.Scan(&digest) }, `SELECT digest FROM manifest ORDER BY digest`)
}

// Image returns what a reference points to, with its layers, or [ErrNotFound].
func (s *Store) Image(ctx context.Context, reference string) (img Image, err error) {
	err = retry(ctx, func() error {
		img, err = scanImage(s.db.QueryRowContext(ctx, imageQuery+` WHERE r.reference = ?`, reference))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("image %w: %s", ErrNotFound, reference)
	}
	if err != nil {
		return Image{}, err
	}
	img.Layers, err = queryAll(ctx, s, scanLayer, `SELECT l.diff_id, l.blob_digest, l.media_type, l.compressed_size_bytes, l.erofs_size_bytes
		FROM manifest_layer ml JOIN layer l ON l.id = ml.layer_id JOIN manifest m ON m.id = ml.manifest_id
		WHERE m.digest = ? ORDER BY ml.position`, img.Digest)
	return img, err
}

func scanLayer(row scanner) (Layer, error) {
	var l Layer
	var media sql.NullString
	var compressed, erofs sql.NullInt64
	err := row.Scan(&l.DiffID, &l.BlobDigest, &media, &compressed, &erofs)
	l.MediaType, l.CompressedSize, l.ErofsSize = media.String, compressed.Int64, erofs.Int64
	return l, err
}
