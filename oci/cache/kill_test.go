package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/oci"
	"github.com/gomsb/gomsb/oci/manifest"
	"github.com/gomsb/gomsb/oci/registry"
	"github.com/gomsb/gomsb/oci/registry/registrytest"
)

// Variables that make a copy of the test binary pull an image until it is killed.
const (
	pullerCache = "GOMSB_TEST_PULLER_CACHE"
	pullerImage = "GOMSB_TEST_PULLER_IMAGE"
)

// pullUntilKilled is the body of that copy.
func pullUntilKilled(t *testing.T) {
	c, err := Open(os.Getenv(pullerCache))
	require.NoError(t, err)
	c.Platform = manifest.Platform{OS: "linux", Architecture: "amd64"}
	remote, err := registry.New(registry.Config{Retry: quick})
	require.NoError(t, err)
	fmt.Println("ready")
	_, err = c.Pull(t.Context(), os.Getenv(pullerImage), remote, PullOptions{})
	require.NoError(t, err)
	fmt.Println("done.")
	select {}
}

// victimRegistry serves an image slowly enough to be killed at any stage of a pull.
func victimRegistry(t *testing.T) (*registrytest.Server, string) {
	s := registrytest.New(t)
	layers := [][]byte{base(t), top(t)}
	for n := range 4 {
		layers = append(layers, pack(t, file(fmt.Sprint("bulk", n), noise(150_000, byte(n)))))
	}
	s.Push(t, "app", "latest", registrytest.Image{Layers: layers, Compression: "gzip"})
	s.Break(registrytest.Fault{Path: "/blobs/", Times: -1, Serve: registrytest.Slow(20_000, time.Millisecond)})
	return s, s.Host() + "/app"
}

// TestKilledPullsResume kills pulls at 200 random moments. Whatever is left, no file that
// counts is wrong, the next pull goes on from there, and after the last one the image is
// what it would have been.
func TestKilledPullsResume(t *testing.T) {
	if os.Getenv(pullerCache) != "" {
		pullUntilKilled(t)
	}
	t.Parallel()
	s, name := victimRegistry(t)
	reference := open(t)
	_, err := reference.Pull(t.Context(), name, client(t, quick), PullOptions{})
	require.NoError(t, err)
	want := sums(t, reference)
	s.Forget()

	kills := 200
	if testing.Short() {
		kills = 20
	}
	c := open(t)
	random := rand.New(rand.NewPCG(1, 2))
	// Pulls are left as much time as lets some of them end, however fast this machine is.
	whole, most := 0, 40*time.Millisecond
	for range kills {
		killPull(t, c.dir, name, time.Duration(random.Int64N(int64(most))))
		for path, sum := range sums(t, c) {
			require.Equal(t, want[path], sum, path)
		}
		i, err := c.Image(t.Context(), name)
		if errors.Is(err, oci.ErrNotFound) {
			most = min(most+most/10, time.Second)
			continue
		}
		require.NoError(t, err)
		checkRoot(t, i)
		most = max(most/2, time.Millisecond)
		// Begin anew, with every other image's parts still there.
		whole++
		_, _, err = c.Remove(t.Context(), name)
		require.NoError(t, err)
	}
	resumed := 0
	for _, r := range s.Requests("/blobs/") {
		if r.Range != "" {
			resumed++
		}
	}
	assert.Positive(t, whole, "some pulls must get to their end")
	assert.Positive(t, resumed, "some transfers must go on from what was left")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	i, err := c.Pull(ctx, name, client(t, quick), PullOptions{})
	require.NoError(t, err)
	checkRoot(t, i)
	assert.Equal(t, want, sums(t, c))
	c.sweep(time.Now().Add(2 * unlockedFor))
	left, err := os.ReadDir(c.tmp())
	require.NoError(t, err)
	for _, e := range left {
		assert.True(t, strings.HasSuffix(e.Name(), lockSuffix), "%s is left behind", e.Name())
	}
	t.Logf("%d kills: %d whole images, %d resumed transfers", kills, whole, resumed)
}

// sums are the contents of all images of layers and of what follows from them, by name.
func sums(t *testing.T, c *Cache) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range []string{layersDir, fsmetaDir} {
		entries, err := os.ReadDir(filepath.Join(c.dir, dir))
		require.NoError(t, err)
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), lockSuffix) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(c.dir, dir, e.Name()))
			require.NoError(t, err)
			all[dir+"/"+e.Name()] = fmt.Sprintf("%x", sha256.Sum256(data))
		}
	}
	return all
}

// killPull starts a pull, lets it work for a while once it is ready, and kills it.
func killPull(t *testing.T, dir, name string, after time.Duration) {
	t.Helper()
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledPullsResume$", "-test.timeout=60s")
	process.Env = append(os.Environ(), pullerCache+"="+dir, pullerImage+"="+name)
	out, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	ready := make([]byte, 5)
	_, err = io.ReadFull(out, ready)
	require.NoError(t, err)
	require.Equal(t, "ready", string(ready))
	<-time.After(after)
	require.NoError(t, process.Process.Kill())
	require.Error(t, process.Wait(), "a killed process does not succeed")
}
