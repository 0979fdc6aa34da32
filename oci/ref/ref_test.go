package ref

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
)

const hexes = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestShortNamesAreOneReference(t *testing.T) {
	t.Parallel()
	first, err := Parse("python")
	require.NoError(t, err)
	for _, s := range []string{"python:latest", "library/python", first.Registry() + "/python", first.Registry() + "/library/python:latest", first.String()} {
		r, err := Parse(s)
		require.NoError(t, err, s)
		assert.Equal(t, first.String(), r.String(), s)
		assert.Equal(t, first.Key(), r.Key(), s)
		assert.Equal(t, "python:latest", r.Familiar())
		assert.Equal(t, s, r.Given())
	}
	pinned := first.WithDigest("sha256:" + hexes)
	assert.Equal(t, pinned.String(), pinned.Given(), "nobody has given this one")
	assert.Equal(t, "library/python", first.Repository())
	assert.Equal(t, "latest", first.Tag())
	assert.True(t, strings.HasSuffix(first.String(), "/library/python:latest"))
}

func TestParse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct{ registry, repository, tag, digest string }{
		"reg.example:5000/team/app":                     {"reg.example:5000", "team/app", "latest", ""},
		"reg.example/app:v1.2":                          {"reg.example", "app", "v1.2", ""},
		"localhost/app":                                 {"localhost", "app", "latest", ""},
		"reg.example/app@sha256:" + hexes:               {"reg.example", "app", "", "sha256:" + hexes},
		"reg.example/app:v1@sha256:" + hexes:            {"reg.example", "app", "v1", "sha256:" + hexes},
		"[2001:db8::1]:5000/a/b/c:t":                    {"[2001:db8::1]:5000", "a/b/c", "t", ""},
		"reg.example/" + strings.Repeat("a/", 50) + "z": {"reg.example", strings.Repeat("a/", 50) + "z", "latest", ""},
	} {
		r, err := Parse(in)
		require.NoError(t, err, in)
		assert.Equal(t, want.registry, r.Registry(), in)
		assert.Equal(t, want.repository, r.Repository(), in)
		assert.Equal(t, want.tag, r.Tag(), in)
		assert.Equal(t, want.digest, r.Digest().String(), in)
		again, err := Parse(r.String())
		require.NoError(t, err)
		assert.Equal(t, r.String(), again.String())
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", " ", "UPPER", "a:b:c", "a@sha256:12", "a@md5:" + hexes, "a//b", "../a", "/a", "a:", "a b", "a\nb", hexes,
		strings.Repeat("a", 256), strings.Repeat("a", 1<<20), "a:" + strings.Repeat("t", 129)} {
		_, err := Parse(s)
		assert.ErrorIs(t, err, oci.ErrReference, "%.60q", s)
	}
}

func TestZeroReference(t *testing.T) {
	t.Parallel()
	var r Reference
	assert.Empty(t, r.String()+r.Familiar()+r.Registry()+r.Repository()+r.Tag()+r.Digest().String())
}

func TestIsLocalPath(t *testing.T) {
	t.Parallel()
	for _, s := range []string{".", "..", "/", "/a", "./a", "../a"} {
		assert.True(t, IsLocalPath(s), s)
	}
	for _, s := range []string{"", "a", "a/b", "...", ".a", "..a", "~/a", "a.qcow2"} {
		assert.False(t, IsLocalPath(s), s)
	}
}

// compare holds Parse against the package that defines the grammar.
func compare(t *testing.T, s string) {
	t.Helper()
	got, err := Parse(s)
	named, theirs := reference.ParseNormalizedNamed(s)
	if theirs != nil || len(s) > maxLength || reference.Domain(named) == "" { // they take some hosts for paths
		assert.ErrorIs(t, err, oci.ErrReference, "%q", s)
		return
	}
	require.NoError(t, err, "%q", s)
	named = reference.TagNameOnly(named)
	assert.Equal(t, named.String(), got.String(), "%q", s)
	assert.Equal(t, reference.FamiliarString(named), got.Familiar(), "%q", s)
	assert.Equal(t, reference.Domain(named), got.Registry(), "%q", s)
	assert.Equal(t, reference.Path(named), got.Repository(), "%q", s)
}

func TestParseEqualsDistribution(t *testing.T) {
	t.Parallel()
	pieces := []string{"", "a", "A", "a0", "0", "library", "localhost", "docker.io", "index.docker.io", "r.example", "r.example:5000", "r:x", "Host", "-", ".", "_", "__", "___", "--",
		"a-b", "a--b", "a_b", "a__b", "a___b", "a.b", "a..b", "a._b", "a-", "-a", ".a", "a.", "[::1]", "[::1]:80", "[::1]x", "[]", "é"}
	tails := []string{"", ":", ":t", ":T.-_9", ":-t", ":.t", ":t:u", ":t/u", "@", "@sha256:" + hexes, "@sha256:" + strings.ToUpper(hexes), "@sha256:" + hexes[1:], ":t@sha256:" + hexes, "@x:" + hexes, "@sha256:" + hexes + ":t"}
	for _, a := range pieces {
		for _, tail := range tails {
			compare(t, a+tail)
			for _, b := range pieces {
				compare(t, a+"/"+b+tail)
			}
		}
		compare(t, a+"/b/"+a)
		compare(t, a+"/"+strings.Repeat("a", 255))
		compare(t, a+"/"+strings.Repeat("a", 256))
	}
}

func FuzzParse(f *testing.F) {
	f.Add("python")
	f.Add("reg.example:5000/a/b:t@sha256:" + hexes)
	f.Fuzz(func(t *testing.T, s string) {
		compare(t, s)
		r, err := Parse(s)
		if err != nil {
			assert.ErrorIs(t, err, oci.ErrReference)
			return
		}
		for _, form := range []string{r.String(), r.Familiar()} {
			again, err := Parse(form)
			require.NoError(t, err)
			assert.Equal(t, r.String(), again.String())
		}
		assert.NotEmpty(t, r.Tag()+r.Digest().String())
		assert.Len(t, r.Key(), 64)
	})
}
