package descriptor

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample() *Descriptor {
	return &Descriptor{
		CreatedAt:           time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		ImageRef:            "docker.io/library/python:3.12",
		ImageManifestDigest: "sha256:" + strings.Repeat("a", 64),
		SourceSandbox:       "build-1",
		Format:              "raw",
		Fstype:              "ext4",
		Upper: Upper{File: "upper.ext4", SizeBytes: 4294967296,
			Integrity: &Integrity{Algorithm: SparseSHA256, Digest: "sha256:" + strings.Repeat("b", 64)}},
		Labels: map[string]string{"stage": "post-pip-install", "owner": "alice"},
	}
}

func TestGoldenDigest(t *testing.T) {
	got, err := sample().Digest()
	require.NoError(t, err)
	require.Equal(t, "sha256:5b9ca7611f40ec61fea70c1b1ac9881ed63a16091922682028222cdaef997572", got)
}

func TestRoundTrip(t *testing.T) {
	merkle := sample()
	merkle.Upper.Integrity = &Integrity{Algorithm: MerkleBLAKE3, Digest: "blake3:" + strings.Repeat("c", 64)}
	merkle.Parent = "sha256:" + strings.Repeat("d", 64)
	merkle.Extensions = map[string]any{"z": []any{nil, true, "\u2028<&>\x01"}, "a": map[string]any{"k": "v"}}
	merkle.Requires = []string{"a", "z"}
	bare := sample()
	bare.Upper.Integrity, bare.SourceSandbox = nil, ""
	for _, d := range []*Descriptor{sample(), merkle, bare} {
		b, err := d.Encode()
		require.NoError(t, err)
		back, err := Decode(b)
		require.NoError(t, err, "%s", b)
		again, err := back.Encode()
		require.NoError(t, err)
		require.Equal(t, string(b), string(again))
	}
}

// FuzzDecode reads descriptors of both schemas; a good one has one identity, however often
// it is written and read.
func FuzzDecode(f *testing.F) {
	b, err := sample().Encode()
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(legacy))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, decode := range []func([]byte) (*Descriptor, error){Decode, DecodeLegacy} {
			d, err := decode(b)
			if err != nil {
				continue
			}
			text, err := d.Encode()
			if err != nil {
				continue // canonical bytes may be too many where the input was not
			}
			back, err := Decode(text)
			require.NoError(t, err, "%s", text)
			again, err := back.Encode()
			require.NoError(t, err)
			require.Equal(t, string(text), string(again))
		}
	})
}

const legacy = `{"schema":1,"format":"raw","fstype":"ext4","image":{"ref":"mini:latest","manifest_digest":"sha256:a5930eba96e3d5db411b0ebd78393e29a594a770845ef081ee1d26f5c0f3fd9d"},` +
	`"parent":null,"created_at":"2026-05-01T12:00:00.100Z","labels":{"a":"1","b":"2"},"upper":{"file":"upper.ext4","size_bytes":536870912,"integrity":null},"source_sandbox":"box"}`

// TestLegacy reads a descriptor of 0.5.7; the identity is the one that 0.6.18 gives it.
func TestLegacy(t *testing.T) {
	d, err := DecodeLegacy([]byte(legacy))
	require.NoError(t, err)
	id, err := d.Digest()
	require.NoError(t, err)
	require.Equal(t, "sha256:7ba7e9e01d5e93811795d30635efafd85fd7f743bd6890ade96785e8fc7636b6", id)
	_, err = DecodeLegacy([]byte(strings.Replace(legacy, `"parent":null`, `"parent":"sha256:`+strings.Repeat("a", 64)+`"`, 1)))
	require.ErrorIs(t, err, ErrLegacyParent)
	for _, change := range []string{`"schema":1|"schema":2`, `"source_sandbox":"box"|"source_sandbox":""`, `"format":"raw",|`, `"format":"raw"|"format":"raw","format":"raw"`, `"labels":{|"labels":{"c":1,`} {
		from, to, _ := strings.Cut(change, "|")
		_, err = DecodeLegacy([]byte(strings.Replace(legacy, from, to, 1)))
		require.ErrorIs(t, err, ErrInvalid, change)
	}
	_, err = Decode([]byte(legacy))
	require.ErrorIs(t, err, ErrInvalid)
}

func TestTimeIsNormalised(t *testing.T) {
	b, err := sample().Encode()
	require.NoError(t, err)
	d, err := Decode([]byte(strings.Replace(string(b), "2026-05-01T12:00:00Z", "2026-05-01T14:00:00.500000+02:00", 1)))
	require.NoError(t, err)
	b, err = d.Encode()
	require.NoError(t, err)
	require.Contains(t, string(b), `"2026-05-01T12:00:00.5Z"`)
}

func TestDecodeRefuses(t *testing.T) {
	b, err := sample().Encode()
	require.NoError(t, err)
	for name, change := range map[string][2]string{
		"schema":           {`"schema":1`, `"schema":2`},
		"unknown field":    {`"parent":null`, `"parent":null,"more":1`},
		"missing field":    {`"parent":null,`, ``},
		"other case":       {`"parent"`, `"Parent"`},
		"repeated key":     {`"parent":null`, `"parent":null,"parent":null`},
		"repeated label":   {`"owner":"alice"`, `"owner":"alice","owner":"bob"`},
		"empty source":     {`"build-1"`, `""`},
		"traversal":        {`"upper.ext4"`, `"../upper.ext4"`},
		"shadows itself":   {`"upper.ext4"`, `"snapshot.json"`},
		"negative size":    {`4294967296`, `-1`},
		"huge size":        {`4294967296`, `9007199254740992`},
		"fraction":         {`4294967296`, `1.5`},
		"uppercase digest": {strings.Repeat("a", 64), strings.Repeat("A", 64)},
		"algorithm":        {SparseSHA256, "md5"},
		"requires":         {`"requires":[]`, `"requires":["x"]`},
		"scope":            {`"disk"`, `"resumable"`},
		"deep":             {`"extensions":{}`, `"extensions":{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`},
		"trailing":         {`"requires":[]}`, `"requires":[]}{}`},
		"not UTF-8":        {`alice`, "\xff"},
	} {
		changed := strings.Replace(string(b), change[0], change[1], 1)
		require.NotEqual(t, string(b), changed, name)
		_, err := Decode([]byte(changed))
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	checkpoint := strings.Replace(string(b), `"scope":"disk"`, `"scope":"resumable"`, 1)
	checkpoint = strings.Replace(checkpoint, `"kind":"file"`, `"kind":"checkpoint"`, 1)
	_, err = Decode([]byte(checkpoint))
	require.ErrorIs(t, err, ErrUnsupported)
}
