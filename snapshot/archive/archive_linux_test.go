package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/snapshot"
	"github.com/gomsb/gomsb/snapshot/sparse"
)

var ctx = context.Background()

// artefact makes a snapshot of a file of that size with data at the offsets.
func artefact(t testing.TB, size int64, integrity bool, parent string, at ...int64) *snapshot.Artefact {
	t.Helper()
	dir := t.TempDir()
	upper := filepath.Join(dir, "disk")
	f, err := os.Create(upper)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	for _, o := range at {
		_, err := f.WriteAt(bytes.Repeat([]byte{byte(o>>12) | 1}, 100), o)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	a, err := snapshot.Create(ctx, snapshot.Config{Dir: filepath.Join(dir, "snapshots"), Name: "base", Upper: upper, ImageRef: "mini:latest",
		ImageManifestDigest: "sha256:" + strings.Repeat("a", 64), Parent: parent, CreatedAt: time.Unix(1, int64(len(at))), Integrity: integrity})
	require.NoError(t, err)
	return a
}

// files is an Images that keeps what it gets.
type files map[string][]byte

func (f files) Add(_ context.Context, name string, _ int64, r io.Reader) error {
	b, err := io.ReadAll(r)
	f[name] = b
	return err
}

func archived(t testing.TB, c Config) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Write(ctx, &b, c))
	return b.Bytes()
}

func unpack(t testing.TB, b []byte) (*Contents, files, error) {
	t.Helper()
	images := files{}
	c, err := Unpack(ctx, bytes.NewReader(b), t.TempDir(), images)
	return c, images, err
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return st.Blocks * 512
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var many []int64
	for i := range int64(200) {
		many = append(many, i*3*4096)
	}
	for name, a := range map[string]*snapshot.Artefact{
		"empty": artefact(t, 0, true, ""), "a hole": artefact(t, 512*mib, true, ""), "dense": artefact(t, 4096, true, "", 0),
		"a hole at the end": artefact(t, 64*mib, true, "", 0, 5*mib), "data at the end": artefact(t, 64*mib, false, "", mib, 64*mib-100),
		"odd size": artefact(t, mib+100, true, "", 4096, mib), "many extents": artefact(t, 16*mib, true, "", many...), "large": artefact(t, 40<<30, false, "", 39<<30),
	} {
		for _, plain := range []bool{true, false} {
			b := archived(t, Config{Head: a, Name: "my base", Plain: plain})
			assert.Equal(t, plain, b[0] == 's', "plain archives begin with a name")
			assert.Less(t, len(b), 2*mib, name)
			c, images, err := unpack(t, b)
			require.NoError(t, err, name)
			assert.Equal(t, a.Digest, c.Head.Digest)
			assert.Equal(t, "my base", c.Name)
			assert.Len(t, c.Snapshots, 1)
			assert.False(t, c.Images)
			assert.Empty(t, images)
			_, err = c.Head.Verify(ctx)
			assert.NoError(t, err, name)
			assert.LessOrEqual(t, allocated(t, c.Head.Payload()), allocated(t, a.Payload()), name)
		}
	}
}

func TestParentsAndImages(t *testing.T) {
	parent := artefact(t, 1<<20, false, "", 0)
	head := artefact(t, 1<<20, false, parent.Digest, 0, 8192)
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, []byte("layer"), 0o600))
	names := []string{"manifests/" + strings.Repeat("b", 64) + ".json", "layers/sha256_" + strings.Repeat("c", 64) + ".erofs"}
	config := Config{Head: head, Parents: []*snapshot.Artefact{parent}, WithParents: true, Name: "u\u2028<é>", Images: []File{{names[0], file}, {names[1], file}}}
	c, images, err := unpack(t, archived(t, config))
	require.NoError(t, err)
	assert.Equal(t, head.Digest, c.Head.Digest)
	assert.Equal(t, "u\u2028<é>", c.Name)
	assert.Len(t, c.Snapshots, 2)
	assert.True(t, c.Images)
	assert.Equal(t, files{names[0]: []byte("layer"), names[1]: []byte("layer")}, images)
}

// TestOfficial reads what microsandbox 0.6.18 wrote of an ext4 image of 512 MiB.
func TestOfficial(t *testing.T) {
	b, err := os.ReadFile("testdata/official-0.6.18.tar.zst")
	require.NoError(t, err)
	c, _, err := unpack(t, b)
	require.NoError(t, err)
	assert.Equal(t, "base", c.Name)
	assert.Equal(t, "box", c.Head.Descriptor.SourceSandbox)
	assert.EqualValues(t, 512<<20, c.Head.Descriptor.Upper.SizeBytes)
	assert.Less(t, allocated(t, c.Head.Payload()), int64(4<<20))
}

// part is a member with its content.
type part struct {
	member
	content []byte
}

func explode(t testing.TB, b []byte) (parts []part) {
	t.Helper()
	r := bytes.NewReader(b)
	for {
		m, err := readHeader(r)
		if err == io.EOF {
			return parts
		}
		require.NoError(t, err)
		content := make([]byte, m.stored+padding(m.stored))
		_, err = io.ReadFull(r, content)
		require.NoError(t, err)
		parts = append(parts, part{m, content[:m.stored]})
	}
}

func implode(t testing.TB, parts []part) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		require.NoError(t, writeHeader(&b, p.member))
		b.Write(p.content)
		b.Write(make([]byte, padding(int64(len(p.content)))))
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// relist changes the inventory.
func relist(t testing.TB, parts []part, change func(*inventory)) []part {
	t.Helper()
	last := &parts[len(parts)-1]
	i := &inventory{}
	require.NoError(t, json.Unmarshal(last.content, i))
	change(i)
	text, err := i.encode()
	require.NoError(t, err)
	last.content, last.stored, last.size = text, int64(len(text)), int64(len(text))
	return parts
}

func TestHostile(t *testing.T) {
	t.Parallel()
	a := artefact(t, 1<<20, false, "", 0, 8192)
	good := archived(t, Config{Head: a, Name: "base", Plain: true})
	_, _, err := unpack(t, implode(t, explode(t, good)))
	require.NoError(t, err)
	rename := func(to string) func([]part) []part {
		return func(p []part) []part { p[1].name = to; return p }
	}
	kind := func(k byte) func([]part) []part {
		return func(p []part) []part { return append([]part{{member{name: "x", kind: k}, nil}}, p...) }
	}
	extents := func(change func(e []sparse.Extent) []sparse.Extent) func([]part) []part {
		return func(p []part) []part { p[1].extents = change(p[1].extents); return p }
	}
	list := func(change func(*inventory)) func([]part) []part {
		return func(p []part) []part { return relist(t, p, change) }
	}
	for name, c := range map[string]struct {
		want   error
		change func(p []part) []part
	}{
		"name above":             {ErrArchive, rename("../upper.ext4")},
		"name above inside":      {ErrArchive, rename("files/" + strings.Repeat("a", 64) + "/..")},
		"absolute name":          {ErrArchive, rename("/etc/passwd")},
		"reserved name":          {ErrArchive, rename("files/" + a.Digest[7:] + "/snapshot.json")},
		"foreign name":           {ErrArchive, rename("README")},
		"name in upper case":     {ErrArchive, rename("files/" + strings.ToUpper(a.Digest[7:]) + "/upper.ext4")},
		"image above":            {ErrArchive, rename("images/layers/../../x.erofs")},
		"payload of no snapshot": {snapshot.ErrPayload, rename("files/" + strings.Repeat("a", 64) + "/upper.ext4")},
		"payload of other name":  {snapshot.ErrPayload, rename("files/" + a.Digest[7:] + "/lower.ext4")},
		"symbolic link":          {ErrArchive, kind('2')},
		"hard link":              {ErrArchive, kind('1')},
		"long name":              {ErrArchive, kind('L')},
		"extended header":        {ErrArchive, kind('x')},
		"device":                 {ErrArchive, kind('3')},
		"directory above":        {ErrArchive, func(p []part) []part { return append([]part{{member{name: "../d", kind: '5'}, nil}}, p...) }},
		"twice":                  {ErrArchive, func(p []part) []part { return append([]part{p[0]}, p...) }},
		"after the inventory":    {ErrArchive, func(p []part) []part { return append(p, p[0]) }},
		"nothing":                {ErrArchive, func([]part) []part { return nil }},
		"no payload":             {snapshot.ErrPayload, func(p []part) []part { return []part{p[0], p[2]} }},
		"another descriptor": {ErrMismatch, func(p []part) []part {
			p[0].content = bytes.Replace(p[0].content, []byte("mini:latest"), []byte("mini:oldest"), 1)
			return p
		}},
		"descriptor with spaces": {ErrMismatch, func(p []part) []part {
			p[0].content = append(p[0].content, ' ')
			p[0].stored++
			p[0].size++
			return p
		}},
		"changed byte":    {ErrMismatch, func(p []part) []part { p[1].content[50] ^= 1; return p }},
		"shorter payload": {snapshot.ErrPayload, func(p []part) []part { p[1].size -= 512; p[1].extents[2].Offset -= 512; return p }},
		"overlap":         {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent { e[1].Offset = 512; return e })},
		"out of order":    {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent { e[0], e[1] = e[1], e[0]; return e })},
		"beyond the end":  {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent { e[1].Offset = 1<<20 + 512; return e })},
		"overflow":        {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent { e[1].Length = 1<<63 - 512; return e })},
		"no end":          {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent { return e[:2] })},
		"crooked":         {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent { e[1].Offset++; return e })},
		"empty in between": {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent {
			return append(e[:1:1], append([]sparse.Extent{{Offset: 4096}}, e[1:]...)...)
		})},
		"more than stored":  {ErrArchive, extents(func(e []sparse.Extent) []sparse.Extent { e[1].Length += 512; return e })},
		"sparse descriptor": {ErrLimit, func(p []part) []part { p[0].kind, p[0].extents = 'S', []sparse.Extent{{Length: p[0].size}}; return p }},
		"directory content": {ErrArchive, func(p []part) []part { p[1].kind = '5'; return p }},
		"false size":        {ErrMismatch, list(func(i *inventory) { i.Entries[0].ApparentSize++ })},
		"false stored size": {ErrMismatch, list(func(i *inventory) { i.Entries[0].EncodedSize++ })},
		"false digest": {ErrMismatch, list(func(i *inventory) {
			i.Entries[0].TransportIntegrity = &digest{transportAlgorithm, "blake3:" + strings.Repeat("0", 64)}
		})},
		"no digest":         {ErrMismatch, list(func(i *inventory) { i.Entries[0].TransportIntegrity = nil })},
		"false kind":        {ErrMismatch, list(func(i *inventory) { i.Entries[0].Kind = kindObject })},
		"no owner":          {ErrMismatch, list(func(i *inventory) { i.Entries[0].OwnerSnapshot = nil })},
		"false integrity":   {ErrMismatch, list(func(i *inventory) { i.Entries[0].Integrity = ownIntegrity(a.Digest) })},
		"not listed":        {ErrMismatch, list(func(i *inventory) { i.Entries = i.Entries[1:] })},
		"not included":      {ErrMismatch, list(func(i *inventory) { i.Entries[0].Included = false })},
		"listed twice":      {ErrMismatch, list(func(i *inventory) { i.Entries = append(i.Entries, i.Entries[0]) })},
		"listed only":       {ErrMismatch, list(func(i *inventory) { i.Entries = append(i.Entries, entry{Path: "x", Included: true}) })},
		"snapshots missing": {ErrMismatch, list(func(i *inventory) { i.Snapshots = nil })},
		"unknown snapshot":  {ErrMismatch, list(func(i *inventory) { i.Snapshots[0].SnapshotID = i.Snapshots[0].Descriptor })},
		"unknown head":      {ErrArchive, list(func(i *inventory) { i.Head = "sha256:" + strings.Repeat("0", 64) })},
		"false images":      {ErrMismatch, list(func(i *inventory) { i.WithImage = true })},
		"unknown demand":    {ErrUnsupported, list(func(i *inventory) { i.Requires = append(i.Requires, "x") })},
		"protection":        {ErrUnsupported, list(func(i *inventory) { i.ProtectionRequirements = []json.RawMessage{[]byte("1")} })},
		"incomplete":        {ErrUnsupported, list(func(i *inventory) { i.Completeness = "half" })},
		"schema":            {ErrUnsupported, list(func(i *inventory) { i.Schema = 2 })},
		"inventory with spaces": {ErrArchive, func(p []part) []part {
			p[2].content = append(p[2].content, '\n')
			p[2].stored++
			p[2].size++
			return p
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpack(t, implode(t, c.change(explode(t, good))))
			require.ErrorIs(t, err, c.want)
		})
	}
}

// TestDamaged cuts an archive short at every block, flips a bit in every block, and adds
// to its end.
func TestDamaged(t *testing.T) {
	t.Parallel()
	good := archived(t, Config{Head: artefact(t, 1<<20, false, "", 0, 8192), Name: "base", Plain: true})
	for at := 0; at < len(good); at += 512 {
		_, _, err := unpack(t, good[:at])
		require.ErrorIs(t, err, ErrArchive, "cut at %d", at)
		if at < len(good)-1024 {
			bad := bytes.Clone(good)
			bad[at+3] ^= 4
			_, _, err = unpack(t, bad)
			require.Error(t, err, "bit %d", at)
		}
	}
	_, _, err := unpack(t, append(bytes.Clone(good), make([]byte, 9000)...))
	require.NoError(t, err, "tar fills up with zeros")
	_, _, err = unpack(t, append(bytes.Clone(good), "more"...))
	require.ErrorIs(t, err, ErrArchive)
	_, _, err = unpack(t, append(bytes.Clone(good), make([]byte, maxPadding+1)...))
	require.ErrorIs(t, err, ErrArchive)
	packed := archived(t, Config{Head: artefact(t, 1<<20, false, "", 0, 8192)})
	for at := 0; at < len(packed); at += 13 {
		_, _, err := unpack(t, packed[:at])
		require.ErrorIs(t, err, ErrArchive, "cut at %d", at)
	}
	_, _, err = unpack(t, []byte(strings.Repeat("something else\n", 100)))
	require.ErrorIs(t, err, ErrArchive)
	assert.ErrorContains(t, err, "no tar archive")
}

// TestZeroBomb unpacks 256 MiB of zeros from a few kilobytes and finds no disk used.
func TestZeroBomb(t *testing.T) {
	t.Parallel()
	const size = 256 << 20
	id := strings.Repeat("a", 64)
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	require.NoError(t, err)
	require.NoError(t, writeHeader(z, member{name: "files/" + id + "/upper.ext4", kind: typeRegular, stored: size, size: size}))
	_, err = io.CopyN(z, zeroReader{}, size)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.Less(t, b.Len(), 1<<20)
	dir := t.TempDir()
	_, err = Unpack(ctx, &b, dir, files{})
	require.ErrorIs(t, err, ErrArchive, "it is cut short")
	require.Less(t, allocated(t, filepath.Join(dir, id, "upper.ext4")), int64(1<<20))
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCancelled(t *testing.T) {
	a := artefact(t, 1<<20, false, "", 0)
	b := archived(t, Config{Head: a})
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, Write(over, io.Discard, Config{Head: a}), context.Canceled)
	_, err := Unpack(over, bytes.NewReader(b), t.TempDir(), files{})
	require.ErrorIs(t, err, context.Canceled)
}

// TestReplacedMeanwhile replaces a snapshot between its opening and its writing.
func TestReplacedMeanwhile(t *testing.T) {
	a := artefact(t, 1<<20, false, "", 0)
	_, err := snapshot.Create(ctx, snapshot.Config{Dir: filepath.Dir(a.Path), Name: "base", Upper: a.Payload(), ImageRef: "other:latest",
		ImageManifestDigest: "sha256:" + strings.Repeat("b", 64), CreatedAt: time.Unix(2, 0), Force: true})
	require.NoError(t, err)
	require.ErrorIs(t, Write(ctx, io.Discard, Config{Head: a}), sparse.ErrChanged)
}

// TestWriteFails lets each write to the archive's file fail.
func TestWriteFails(t *testing.T) {
	a := artefact(t, 1<<20, false, "", 0, 8192)
	full := errors.New("disk full")
	for _, plain := range []bool{true, false} {
		for room := range 20 {
			err := Write(ctx, &fullWriter{room: room, err: full}, Config{Head: a, Plain: plain})
			if err == nil {
				require.NotZero(t, room)
				break
			}
			require.ErrorIs(t, err, full)
		}
	}
}

// fullWriter fails after some writes.
type fullWriter struct {
	room int
	err  error
}

func (f *fullWriter) Write(p []byte) (int, error) {
	if f.room--; f.room < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// TestLegacy reads an archive of the form of 0.5.7.
func TestLegacy(t *testing.T) {
	text := []byte(`{"schema":1,"format":"raw","fstype":"ext4","image":{"ref":"mini:latest","manifest_digest":"sha256:a5930eba96e3d5db411b0ebd78393e29a594a770845ef081ee1d26f5c0f3fd9d"},` +
		`"parent":null,"created_at":"2026-05-01T12:00:00.100Z","labels":{"a":"1","b":"2"},"upper":{"file":"upper.ext4","size_bytes":536870912,"integrity":null},"source_sandbox":"box"}`)
	prefix := strings.Repeat("4", 16) + "/"
	parts := []part{
		{member{name: prefix, kind: '5'}, nil},
		{member{name: prefix + "manifest.json", kind: '0', stored: int64(len(text)), size: int64(len(text))}, text},
		{member{name: prefix + "upper.ext4", kind: 'S', stored: 512, size: 512 << 20, extents: []sparse.Extent{{Offset: 4096, Length: 512}, {Offset: 512 << 20}}}, bytes.Repeat([]byte("x"), 512)},
		{member{name: "cache/layers/sha256_x.erofs", kind: '0', stored: 3, size: 3}, []byte("abc")},
	}
	c, images, err := unpack(t, implode(t, parts))
	require.NoError(t, err)
	assert.Equal(t, "sha256:7ba7e9e01d5e93811795d30635efafd85fd7f743bd6890ade96785e8fc7636b6", c.Head.Digest)
	assert.Equal(t, c.Head.Digest[7:], filepath.Base(c.Head.Path))
	assert.Equal(t, files{"layers/sha256_x.erofs": []byte("abc")}, images)
	entries, err := os.ReadDir(c.Head.Path)
	require.NoError(t, err)
	assert.Len(t, entries, 2)

	second := append([]part{}, parts...)
	for _, p := range parts[1:3] {
		p.name = strings.Repeat("5", 16) + p.name[16:]
		p.content = bytes.Replace(p.content, []byte(`"box"`), []byte(`"bob"`), 1)
		second = append(second, p)
	}
	_, _, err = unpack(t, implode(t, second))
	require.ErrorIs(t, err, ErrArchive, "two heads")
	for i := range second { // the same snapshot twice
		second[i].content = bytes.Replace(second[i].content, []byte(`"bob"`), []byte(`"box"`), 1)
	}
	_, _, err = unpack(t, implode(t, second))
	require.Error(t, err)
}

// TestManyExtents asks for fewer extents than there are.
func TestManyExtents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for i := range int64(100) {
		_, err := f.WriteAt([]byte("x"), i*i*8192)
		require.NoError(t, err)
	}
	info, err := f.Stat()
	require.NoError(t, err)
	for _, most := range []int{1, 10, 99, 200} {
		all, err := allExtents(ctx, f, info.Size(), most)
		require.NoError(t, err)
		require.LessOrEqual(t, len(all), most)
		for i := range int64(100) {
			covered := false
			for _, e := range all {
				covered = covered || i*i*8192 >= e.Offset && i*i*8192 < e.End()
			}
			require.True(t, covered, "%d of %d", i, most)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	a := artefact(f, 1<<20, true, "", 0, 8192)
	f.Add(archived(f, Config{Head: a, Plain: true}))
	f.Add(archived(f, Config{Head: a}))
	b, err := os.ReadFile("testdata/official-0.6.18.tar.zst")
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := filepath.Join(t.TempDir(), "in")
		require.NoError(t, os.Mkdir(dir, 0o700))
		c, err := Unpack(ctx, bytes.NewReader(b), dir, files{})
		if err == nil {
			require.NotNil(t, c.Head)
			for _, s := range c.Snapshots {
				require.Equal(t, dir, filepath.Dir(s.Path))
			}
		}
		around, err := os.ReadDir(filepath.Dir(dir))
		require.NoError(t, err)
		require.Len(t, around, 1, "nothing was written beside the directory")
	})
}

// FuzzInventory reads inventories; a good one is the same when it is written again.
func FuzzInventory(f *testing.F) {
	parts := explode(f, archived(f, Config{Head: artefact(f, 4096, true, "", 0), Name: "base\u2028", Plain: true}))
	f.Add(parts[2].content)
	f.Fuzz(func(t *testing.T, text []byte) {
		i, err := decodeInventory(text)
		if err != nil {
			return
		}
		again, err := i.encode()
		require.NoError(t, err)
		require.Equal(t, string(text), string(again))
	})
}

// FuzzHeader reads headers; a good one is written and read again the same.
func FuzzHeader(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, writeHeader(&b, member{name: "files/x", kind: 'S', stored: 1024, size: 1 << 40, extents: []sparse.Extent{{Length: 512}, {Offset: 1 << 35, Length: 512}, {Offset: 1 << 40}}}))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readHeader(bytes.NewReader(b))
		if err != nil || m.kind == typeDirectory {
			return
		}
		require.LessOrEqual(t, m.stored, m.size)
		var again bytes.Buffer
		require.NoError(t, writeHeader(&again, m))
		back, err := readHeader(&again)
		require.NoError(t, err)
		require.Equal(t, m, back)
	})
}
