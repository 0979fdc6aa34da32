package microsandbox

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "0", "A.b-c_d", strings.Repeat("x", 128)} {
		assert.NoError(t, checkName(name), name)
	}
	for name, want := range map[string]string{
		"":                       "sandbox name is required",
		strings.Repeat("x", 129): "sandbox name must be at most 128 characters: got 129",
		"-a":                     "sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and underscores: -a",
		"..":                     "sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and underscores: ..",
		"a/b":                    "sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and underscores: a/b",
		"a\x00":                  "sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and underscores: a\x00",
		"ä":                      "sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and underscores: ä",
	} {
		err := checkName(name)
		assert.True(t, IsKind(err, ErrInvalidConfig), name)
		assert.EqualError(t, err, want)
	}
}

func TestConfigIsChecked(t *testing.T) {
	disk := func(guest string, m MountConfig) SandboxOption { return WithMounts(map[string]MountConfig{guest: m}) }
	for name, c := range map[string]struct {
		opt  SandboxOption
		want string
	}{
		"no image":            {WithImage(""), "missing required sandbox field `image`"},
		"too many processors": {WithCPUs(33), "cpus must be at most 32"},
		"ceiling below":       {func(c *SandboxConfig) { c.CPUs, c.MaxCPUs = 4, 2 }, "max_cpus 2 must be greater than or equal to cpus 4"},
		"little memory":       {WithMemory(16), "memory must be at least 64 MiB"},
		"memory ceiling":      {func(c *SandboxConfig) { c.MemoryMiB, c.MaxMemoryMiB = 512, 256 }, "max_memory 256 MiB must be greater than or equal to memory 512 MiB"},
		"default ceiling":     {WithMaxMemory(256), "max_memory 256 MiB must be greater than or equal to memory 512 MiB"},
		"long host name":      {WithHostname(strings.Repeat("h", 65)), "hostname is too long: 65 bytes (max 64)"},
		"unknown policy":      {WithPullPolicy("sometimes"), "unknown pull policy"},
		"unknown profile":     {WithSecurityProfile("strict"), "unknown security profile"},
		"unknown level":       {WithLogLevel("loud"), "unknown log level"},
		"unknown pages":       {WithTHP("huge"), "unknown huge page policy"},
		"shell with space":    {WithShell("/bin/sh -x"), "is not a program"},
		"shell is root":       {WithShell("/"), "is not a program"},
		"relative init":       {WithInit(Init.Cmd("init", InitOptions{})), "neither an absolute path nor auto"},
		"init environment":    {WithInit(Init.Cmd("/i", InitOptions{Env: map[string]string{"MSB_A": ""}})), "reserved MSB_ prefix"},
		"reserved variable":   {WithEnv(map[string]string{"MSB_X": "1"}), `environment variable "MSB_X" uses the reserved MSB_ prefix`},
		"variable with =":     {WithEnv(map[string]string{"a=b": ""}), "is not a valid name"},
		"variable with NUL":   {WithEnv(map[string]string{"A": "\x00"}), "has a NUL in its value"},
		"reserved label":      {WithLabel("service.name", "x"), "label key 'service.name' uses reserved prefix 'service.'"},
		"empty label":         {WithLabel("", "x"), "label key must not be empty"},
		"unknown limit":       {WithRlimits(Rlimit{"files", 1, 1}), "unknown rlimit resource"},
		"soft above hard":     {WithRlimits(Rlimit{"nofile", 2, 1}), "soft 2 exceeds hard 1"},
		"relative mount":      {disk("data", Mount.Tmpfs(TmpfsOptions{})), "is not absolute"},
		"mount over root":     {disk("//", Mount.Tmpfs(TmpfsOptions{})), "cannot mount over /"},
		"mount with dots":     {disk("/a/../b", Mount.Tmpfs(TmpfsOptions{})), "must not contain .."},
		"nothing mounted":     {disk("/a", MountConfig{}), "choose a host path, a volume, a tmpfs or a disk image"},
		"two things mounted":  {disk("/a", MountConfig{Tmpfs: true, Disk: "/d"}), "choose a host path, a volume, a tmpfs or a disk image"},
		"colon in path":       {disk("/a", Mount.Disk("/d:ro", DiskOptions{})), "must not contain a colon"},
		"two kinds mounted":   {disk("/a", MountConfig{Bind: "/b", Disk: "/d"}), "choose a host path, a volume, a tmpfs or a disk image"},
		"comma in bind":       {disk("/a", Mount.Bind("/b,c", MountOptions{})), "must not contain a colon, a comma"},
		"stat mode":           {disk("/a", Mount.Bind("/b", MountOptions{StatVirtualization: "x"})), "use strict, relaxed or off"},
		"permissions mode":    {disk("/a", Mount.Bind("/b", MountOptions{HostPermissions: "x"})), "use private or mirror"},
		"mirror without stat": {disk("/a", Mount.Bind("/b", MountOptions{StatVirtualization: StatVirtualizationOff, HostPermissions: HostPermissionsMirror})), "leave out mirror"},
		"sized bind":          {disk("/a", MountConfig{Bind: "/b", SizeMiB: 1}), "has no size"},
		"quota of a tmpfs":    {disk("/a", MountConfig{Tmpfs: true, QuotaMiB: 1}), "belong to bind mounts and volumes"},
		"sized disk":          {disk("/a", MountConfig{Disk: "/d", SizeMiB: 1}), "has the size it has"},
		"colon in the guest":  {disk("/a:b", Mount.Tmpfs(TmpfsOptions{})), "must not contain a colon, a semicolon or a comma"},
		"owner of a disk":     {disk("/a", MountConfig{Disk: "/d", Owner: &MountOwner{}}), "belong to bind mounts and volumes"},
		"kind of a bind":      {disk("/a", MountConfig{Bind: "/d", NamedKind: "dir"}), "belong to named volumes"},
		"mode of a tmpfs":     {disk("/a", MountConfig{Tmpfs: true, NamedMode: "create"}), "belong to bind mounts and volumes"},
		"unknown format":      {disk("/a", Mount.Disk("/d", DiskOptions{Format: "iso"})), "use raw, qcow2 or vmdk"},
		"writable vmdk":       {disk("/a", Mount.Disk("/d.vmdk", DiskOptions{})), "only be mounted read-only"},
		"odd file system":     {disk("/a", Mount.Disk("/d", DiskOptions{Fstype: "a=b"})), "must not contain any of"},
		"volume name":         {disk("/a", Mount.Named("../v", MountOptions{})), "volume name must start with an alphanumeric character and contain only"},
		"volume mode":         {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{Mode: "maybe"})), "use existing, create or ensure-exists"},
		"volume kind":         {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{Kind: "tape"})), "use dir or disk"},
		"kind of new volume":  {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{Mode: "create", Kind: "tape"})), "use dir or disk"},
		"quota of existing":   {disk("/a", Mount.Named("v", MountOptions{QuotaMiB: 1})), "has its own size and quota"},
		"size of existing":    {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{SizeMiB: 1})), "has its own size and quota"},
		"format of a volume":  {disk("/a", MountConfig{Named: "v", Format: "raw"}), "the volume says"},
		"size of a directory": {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{Mode: "create", SizeMiB: 1})), "a directory has no size"},
		"disk without size":   {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{Mode: "create", Kind: "disk"})), "a disk needs a size"},
		"disk with quota":     {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{Mode: "create", Kind: "disk", SizeMiB: 64, QuotaMiB: 1})), "a disk has no quota"},
		"huge disk":           {disk("/a", Mount.NamedWith("v", MountOptions{}, NamedVolumeOptions{Mode: "create", Kind: "disk", SizeMiB: 1 << 24})), "a disk has 8 to"},
		"modes of a disk":     {disk("/a", Mount.NamedWith("v", MountOptions{StatVirtualization: StatVirtualizationOff}, NamedVolumeOptions{Kind: "disk"})), "belong to directory volumes"},
		"volume stat mode":    {disk("/a", Mount.Named("v", MountOptions{StatVirtualization: "x"})), "use strict, relaxed or off"},
		"long volume id":      {disk("/日本語日本語日本語日本語", Mount.Named("v", MountOptions{})), "must begin with ASCII"},
		"long disk id":        {disk("/日本語日本語日本語日本語", Mount.Disk("/d", DiskOptions{})), "must begin with ASCII"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &SandboxConfig{Name: "a", Image: "i"}
			c.opt(cfg)
			err := cfg.validate()
			require.True(t, IsKind(err, ErrInvalidConfig), "%v", err)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestImagesThatCannotBe(t *testing.T) {
	newHome(t)
	ctx := testContext(t)
	for image, kind := range map[string]ErrorKind{
		"UPPER":         ErrInvalidConfig,
		"127.0.0.1:1/x": ErrImagePullFailed, // nobody serves there
		"./none.raw":    ErrInvalidConfig,
		"/dev/null":     ErrInvalidConfig,
		"missing.raw":   ErrInvalidConfig,
	} {
		_, err := CreateSandbox(ctx, "a", WithImage(image))
		assert.True(t, IsKind(err, kind), "%s: %v", image, err)
	}
	_, err := CreateSandbox(ctx, "a", WithImage("alpine"), WithPullPolicy(PullPolicyNever))
	assert.EqualError(t, err, "image error: image not cached: docker.io/library/alpine:latest")
	_, err = CreateSandbox(ctx, "a", WithImage("127.0.0.1:1/x"), WithPullPolicy(PullPolicyAlways))
	assert.True(t, IsKind(err, ErrImagePullFailed))
}

func TestDurations(t *testing.T) {
	assert.Nil(t, wholeSeconds(0))
	assert.Nil(t, wholeSeconds(-time.Second))
	assert.Equal(t, uint64(1), *wholeSeconds(1))
	assert.Equal(t, uint64(2), *wholeSeconds(1001 * time.Millisecond))
}
