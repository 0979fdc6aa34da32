package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gomsb/gomsb/guestagent/proto"
	"github.com/gomsb/gomsb/internal/launch"
	"github.com/gomsb/gomsb/internal/store"
)

var handoffInit = proto.HandoffInit{Cmd: "auto"}

// What a sandbox that does not become ready leaves.
func TestBootFailures(t *testing.T) {
	t.Parallel()
	const (
		other   = launch.StageOther
		image   = launch.StageImage
		mount   = launch.StageMount
		network = launch.StageNetwork
		config  = launch.StageConfig
		buildVM = launch.StageBuildVM
	)
	errno := func(n int) *int { return &n }
	for name, c := range map[string]struct {
		prepare func(*home)
		plan    fakePlan
		stage   launch.Stage
		message string // a part of it
		errno   *int
		reason  store.Reason // empty: no run row
	}{
		"root disk is missing": {
			func(h *home) { h.config.Rootfs.Disk = pointer("/no/such/disk") }, fakePlan{}, image, "disk image: open /no/such/disk", errno(2), store.InternalError,
		},
		"no root at all": {func(h *home) { h.config.Rootfs.Disk = nil }, fakePlan{}, image, "names no root disk", nil, store.InternalError},
		"unknown format": {
			func(h *home) { h.config.Rootfs.DiskFormat = pointer("vhd") }, fakePlan{}, image, `disk format "vhd"`, nil, store.InternalError,
		},
		"data disk is missing": {
			func(h *home) { h.config.Disks = []string{"d:/no/such/disk:raw"} }, fakePlan{}, mount, "/no/such/disk", errno(2), store.InternalError,
		},
		"data disk is the root disk": {
			func(h *home) { h.config.Disks = []string{"d:" + *h.config.Rootfs.Disk + ":raw:ro"} }, fakePlan{}, mount, "the same disk image twice", nil, store.InternalError,
		},
		"disk is in use": {
			func(h *home) {
				f, err := launch.LockDisk(*h.config.Rootfs.Disk, true)
				require.NoError(h.t, err)
				h.t.Cleanup(func() { _ = f.Close() })
			}, fakePlan{}, mount, "already attached with an incompatible disk mode: in use by process ", nil, store.InternalError,
		},
		"shared file is missing": {
			func(h *home) { h.config.FileMounts = []launch.FileMount{{Mount: "t:/no/such/file", Filename: "file"}} }, fakePlan{}, mount, "/no/such/file", errno(2), store.InternalError,
		},
		"bad mount": {func(h *home) { h.config.Mounts = []string{"t"} }, fakePlan{}, mount, "want tag:host", nil, store.InternalError},
		"published port": {
			func(h *home) {
				n := launch.DefaultNetworkConfig()
				n.Ports = []launch.PublishedPort{{HostPort: 1, GuestPort: 2, Protocol: "tcp", HostBind: "203.0.113.1"}}
				n.Interface.IPv4Address = pointer("172.16.0.6") // whatever routes this machine has
				h.config.Network = &launch.Network{Config: n}
			}, fakePlan{}, network, "cannot publish port 203.0.113.1:1/tcp", errno(99), store.InternalError,
		},
		"half an authority": {
			func(h *home) {
				n := launch.DefaultNetworkConfig()
				n.TLS.Enabled, n.TLS.InterceptCA.CertPath = true, pointer("ca.crt")
				h.config.Network = &launch.Network{Config: n}
			}, fakePlan{}, network, "intercept CA config is incomplete; set both cert_path and key_path", nil, store.InternalError,
		},
		"vsock port of the agent": {
			func(h *home) { h.config.Vsock = []launch.VsockRoute{{HostSocket: "/s", Port: AgentPort}} }, fakePlan{}, network, "belongs to the guest agent", nil,
			store.InternalError,
		},
		"init of the guest's own": {
			func(h *home) { h.config.InitPath = pointer("/sbin/init") }, fakePlan{}, config, "init_path /sbin/init", nil, store.InternalError,
		},
		"no database": {
			func(h *home) { h.config.DBPath = filepath.Join(h.dir, "other.db") }, fakePlan{}, config, "no database at", nil, "",
		},
		"sandbox is not in the database": {func(h *home) { h.id = 99 }, fakePlan{}, config, "sandbox not found: id 99", nil, ""},
		"socket path is taken by a file": {
			func(h *home) {
				require.NoError(h.t, os.MkdirAll(filepath.Dir(h.config.AgentSock), 0o700))
				require.NoError(h.t, os.WriteFile(h.config.AgentSock, nil, 0o600))
			}, fakePlan{}, config, "is not a socket: remove it", nil, "",
		},
		"machine cannot be built": {nil, fakePlan{BuildError: "open /dev/kvm"}, buildVM, "open /dev/kvm: permission denied (os error 13)", errno(13), store.InternalError},
		"machine cannot start":    {nil, fakePlan{StartError: "no thread"}, buildVM, "no thread", nil, store.InternalError},
		"guest resets at once":    {nil, fakePlan{DiesAtBoot: true}, other, "the guest stopped before its agent was ready: reset", nil, store.Failed},
		"guest reports a mount": {
			nil, fakePlan{BootFailure: bootFailure("mount", "/dev/vda: bad superblock")}, mount, "guest agent: mount: /dev/vda: bad superblock", nil, store.Failed,
		},
		"guest reports something else": {nil, fakePlan{BootFailure: bootFailure("weird", "?")}, other, "weird: ?", nil, store.Failed},
		"nobody connects":              {nil, fakePlan{NoAgent: true, ReadyTimeoutMS: 100}, other, "did not become ready in time (100ms)", nil, store.AgentUnresponsive},
		"never ready":                  {nil, fakePlan{NeverReady: true, ReadyTimeoutMS: 100}, other, "did not become ready in time (100ms)", nil, store.AgentUnresponsive},
		"garbage instead of ready":     {nil, fakePlan{Raw: []byte{0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff}}, other, "guest agent broke the protocol", nil, store.Failed},
		"frame too long":               {nil, fakePlan{Raw: []byte{0xff, 0, 0, 0}}, other, "guest agent broke the protocol: ", nil, store.Failed},
		"agent hangs up":               {nil, fakePlan{Raw: []byte{}}, other, "wait for the guest: EOF", nil, store.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			h.env = []string{"MSB_SHUTDOWN_FLUSH_TIMEOUT_MS=100"}
			if c.prepare != nil {
				c.prepare(h)
			}
			p := h.spawn(c.plan)
			assert.Equal(t, 1, p.code())
			e, err := launch.ReadBootError(h.config.LogDir)
			require.NoError(t, err)
			assert.Equal(t, c.stage, e.Stage)
			assert.Contains(t, e.Message, c.message)
			assert.Equal(t, c.errno, e.Errno)
			assert.Contains(t, h.log("runtime.log"), "sandbox error: ")
			if c.plan.DiesAtBoot {
				assert.Equal(t, []string{"Kernel panic - not syncing", "discredited"}, e.KernelLog[len(e.KernelLog)-2:], "the sandbox is not to blame")
			}
			if c.stage != other {
				assert.NotContains(t, h.log("kernel.log"), "discredited", "the sandbox is to blame")
			}
			assert.NotContains(t, h.log("exec.log"), "started")
			if name == "socket path is taken by a file" {
				assert.FileExists(t, h.config.AgentSock)
				return
			}
			h.assertNothingLeft()
			if c.reason == "" {
				return
			}
			box, run := h.rows()
			assert.Equal(t, c.reason, run.Reason)
			assert.Equal(t, store.Stopped, box.Status)
			assert.False(t, run.Active)
		})
	}
}

// A defect of the runtime leaves a boot error and a stack for whoever mends it.
func TestPanicIsReported(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{BuildPanic: true})
	assert.Equal(t, 2, p.code())
	e, err := launch.ReadBootError(h.config.LogDir)
	require.NoError(t, err)
	assert.Equal(t, launch.StageOther, e.Stage)
	assert.Equal(t, "panic: a defect", e.Message)
	assert.Contains(t, h.log("runtime.log"), "fakePlan.build")
}

// The file is what official programs read.
func TestBootErrorFile(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p := h.spawn(fakePlan{BuildError: "open /dev/kvm"})
	assert.Equal(t, 1, p.code())
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(h.log("boot-error.json")), &doc))
	assert.Equal(t, "build_vm", doc["stage"])
	assert.InDelta(t, 13, doc["errno"], 0)
	assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, doc["t"])
	files, err := os.ReadDir(h.config.LogDir)
	require.NoError(t, err)
	for _, f := range files {
		assert.False(t, strings.HasSuffix(f.Name(), ".tmp"), f.Name())
	}
}
