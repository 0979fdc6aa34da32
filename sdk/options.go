package microsandbox

import (
	"maps"
	"strings"
	"time"
)

// SandboxOption changes one thing about the sandbox that CreateSandbox makes. Options
// apply in order: scalars overwrite, maps merge with the later key winning, lists
// append.
type SandboxOption func(*SandboxConfig)

// PullPolicy says when an image is fetched.
type PullPolicy string

// Pull policies; the default is PullPolicyIfMissing.
const (
	PullPolicyDefault   PullPolicy = ""
	PullPolicyAlways    PullPolicy = "always"
	PullPolicyIfMissing PullPolicy = "if-missing"
	PullPolicyNever     PullPolicy = "never"
)

// LogLevel is the detail of a sandbox's runtime.log.
type LogLevel string

// Log levels; the default is the runtime's own.
const (
	LogLevelDefault LogLevel = ""
	LogLevelTrace   LogLevel = "trace"
	LogLevelDebug   LogLevel = "debug"
	LogLevelInfo    LogLevel = "info"
	LogLevelWarn    LogLevel = "warn"
	LogLevelError   LogLevel = "error"
)

// DeploymentProfile is whom the sandbox's configuration comes from.
type DeploymentProfile string

// Deployment profiles. In DeploymentProfileMultiTenant it comes from somebody who is not
// trusted with the host's network: the guest reaches the public Internet at most, and
// addresses, ports, name servers and more than 256 connections are not its to choose.
const (
	DeploymentProfileSingleTenant DeploymentProfile = "single-tenant"
	DeploymentProfileMultiTenant  DeploymentProfile = "multi-tenant"
)

// SecurityProfile is how much a guest process may do to its own guest.
type SecurityProfile string

// Security profiles. Restricted sets no_new_privs, drops CAP_SYS_ADMIN and mounts
// nosuid,nodev.
const (
	SecurityProfileDefault    SecurityProfile = "default"
	SecurityProfileRestricted SecurityProfile = "restricted"
)

// THPPolicy says when guest memory uses huge pages.
type THPPolicy string

// Huge page policies; the default is THPMadvise.
const (
	THPAlways  THPPolicy = "always"
	THPMadvise THPPolicy = "madvise"
	THPNever   THPPolicy = "never"
)

// SandboxConfig is what the options of CreateSandbox set, one field per option. The
// zero value of a field means its default.
type SandboxConfig struct {
	Name                string
	Image               string // OCI reference, or path of a disk image or of a directory
	ImageFstype         string // of a disk image; "" tries what the guest kernel knows
	ImageBind           string // directory of the host that is the root, instead of Image
	Snapshot            string // to start from, instead of Image
	DiskOnly            bool   // leave the memory of Snapshot alone
	TrustConfig         bool   // give Snapshot, of another's making, what it wants of this host
	RootDisk            *RootDiskConfig
	OCIUpperSizeMiB     uint32 // of a managed root disk, where RootDisk is nil
	CPUs                uint8  // default 1
	MaxCPUs             uint8
	MemoryMiB           uint32 // default 512
	MaxMemoryMiB        uint32
	CPUPlacement        CPUPlacement
	PlacementProfile    string
	THP                 THPPolicy
	Workdir             string
	Shell               string // default /bin/sh
	User                string
	Hostname            string
	SecurityProfile     SecurityProfile
	DeploymentProfile   DeploymentProfile
	Env                 map[string]string
	Labels              map[string]string
	Entrypoint          []string // nil: the image's; empty: none
	Cmd                 []string // nil: the image's; empty: none
	Init                *InitConfig
	Rlimits             []Rlimit
	Scripts             map[string]string // content by name
	Patches             []PatchConfig
	Volumes             map[string]MountConfig // by path in the guest
	DisableNetwork      bool
	Network             *NetworkConfig // nil: the public Internet, and no ports
	Secrets             []SecretEntry
	Ports               map[uint16]uint16 // TCP, host to guest, on the host's loopback
	PortsUDP            map[uint16]uint16
	PortBindings        []PortBinding
	Vsock               []VsockRoute
	PullPolicy          PullPolicy
	RegistryAuth        *RegistryAuth
	RegistryInsecure    bool
	RegistryCACerts     [][]byte // PEM
	RegistryCACertPaths []string
	LogLevel            LogLevel
	QuietLogs           bool
	MaxDuration         time.Duration
	IdleTimeout         time.Duration
	Detached            bool
	Ephemeral           bool
	Replace             bool
	ReplaceWithTimeout  *time.Duration // nil: 10 s

	envOrder    []string // keys of Env, in the order they were first set
	volumeOrder []string // keys of Volumes, likewise
	startup     *startupCommand
	mustGoOn    bool // from the memory of Snapshot

	pullProgress func(PullEvent)
}

// Rlimit is one resource limit of setrlimit(2), by its lower-case name without the
// RLIMIT_ prefix.
type Rlimit struct {
	Resource   string
	Soft, Hard uint64
}

// InitConfig hands PID 1 of the guest to a program of the image.
type InitConfig struct {
	Cmd  string // absolute path, or "auto"
	Args []string
	Env  map[string]string
}

type initFactory struct{}

// Init makes InitConfig values.
var Init initFactory

// Auto picks the image's own init.
func (initFactory) Auto() InitConfig { return InitConfig{Cmd: "auto"} }

// InitOptions are the arguments and environment of an init program.
type InitOptions struct {
	Args []string
	Env  map[string]string
}

// Cmd names the program that becomes PID 1.
func (initFactory) Cmd(cmd string, o InitOptions) InitConfig {
	return InitConfig{Cmd: cmd, Args: o.Args, Env: o.Env}
}

// MountKind says what a MountConfig is.
type MountKind uint8

// Kinds of mount; 0 is none.
const (
	MountKindBind  MountKind = 1
	MountKindNamed MountKind = 2
	MountKindTmpfs MountKind = 3
	MountKindDisk  MountKind = 4
)

// MountConfig is one mount, made by Mount.
type MountConfig struct {
	Bind                            string // directory or file of the host
	Named, NamedMode, NamedKind     string // volume, and what NamedVolumeOptions say of it
	QuotaMiB                        uint32 // of a bind, 0 is 4096; of a volume that the mount makes, 0 is none
	FollowRootSymlinks              bool   // this and the next three of a bind or a directory volume
	StatVirtualization              StatVirtualization
	HostPermissions                 HostPermissions
	Owner                           *MountOwner
	Tmpfs                           bool
	Disk, Format, Fstype            string
	SizeMiB                         uint32 // of a tmpfs, or of a disk volume that the mount makes
	Readonly, Noexec, Nosuid, Nodev bool
}

// Kind tells what it is, 0 if it is nothing, or more than one thing.
func (m MountConfig) Kind() MountKind {
	var kind MountKind
	for k, is := range map[MountKind]bool{MountKindBind: m.Bind != "", MountKindNamed: m.Named != "", MountKindTmpfs: m.Tmpfs, MountKindDisk: m.Disk != ""} {
		switch {
		case is && kind != 0:
			return 0
		case is:
			kind = k
		}
	}
	return kind
}

type mountFactory struct{}

// Mount makes MountConfig values.
var Mount mountFactory

// TmpfsOptions are the options of a tmpfs mount; SizeMiB 0 leaves the guest's default.
type TmpfsOptions struct {
	SizeMiB                         uint32
	Readonly, Noexec, Nosuid, Nodev bool
}

// Tmpfs mounts a file system in guest memory.
func (mountFactory) Tmpfs(o TmpfsOptions) MountConfig {
	return MountConfig{Tmpfs: true, SizeMiB: o.SizeMiB, Readonly: o.Readonly, Noexec: o.Noexec, Nosuid: o.Nosuid, Nodev: o.Nodev}
}

// DiskOptions are the options of a disk image mount. Format is raw, qcow2 or vmdk, which
// is read-only; "" goes by the file's extension, and raw without one of these. Fstype ""
// tries what the guest kernel knows.
type DiskOptions struct {
	Format, Fstype                  string
	Readonly, Noexec, Nosuid, Nodev bool
}

// Disk mounts a disk image of the host.
func (mountFactory) Disk(hostPath string, o DiskOptions) MountConfig {
	return MountConfig{Disk: hostPath, Format: o.Format, Fstype: o.Fstype, Readonly: o.Readonly, Noexec: o.Noexec, Nosuid: o.Nosuid, Nodev: o.Nodev}
}

// WithImage names the OCI image, or the disk image file, that the sandbox starts from.
func WithImage(ref string) SandboxOption { return func(c *SandboxConfig) { c.Image = ref } }

// WithImageDisk boots from a disk image file with the given file system ("" = detect).
func WithImageDisk(path, fstype string) SandboxOption {
	return func(c *SandboxConfig) { c.Image, c.ImageFstype = path, fstype }
}

// WithCPUs sets the number of virtual processors, 1 to 32.
func WithCPUs(n uint8) SandboxOption { return func(c *SandboxConfig) { c.CPUs = n } }

// WithMaxCPUs sets the ceiling that later changes may raise CPUs to.
func WithMaxCPUs(n uint8) SandboxOption { return func(c *SandboxConfig) { c.MaxCPUs = n } }

// WithMemory sets guest memory in MiB.
func WithMemory(mib uint32) SandboxOption { return func(c *SandboxConfig) { c.MemoryMiB = mib } }

// WithMaxMemory sets the ceiling, in MiB, that later changes may raise memory to.
func WithMaxMemory(mib uint32) SandboxOption {
	return func(c *SandboxConfig) { c.MaxMemoryMiB = mib }
}

// WithTHP says when the guest uses huge pages.
func WithTHP(p THPPolicy) SandboxOption { return func(c *SandboxConfig) { c.THP = p } }

// WithWorkdir sets the working directory of commands.
func WithWorkdir(p string) SandboxOption { return func(c *SandboxConfig) { c.Workdir = p } }

// WithShell sets the program that Shell runs.
func WithShell(p string) SandboxOption { return func(c *SandboxConfig) { c.Shell = p } }

// WithUser sets the user of commands: NAME or UID, optionally with :GROUP or :GID.
func WithUser(u string) SandboxOption { return func(c *SandboxConfig) { c.User = u } }

// WithHostname sets the guest's host name, at most 64 bytes.
func WithHostname(h string) SandboxOption { return func(c *SandboxConfig) { c.Hostname = h } }

// WithEnv adds environment variables for every command.
func WithEnv(env map[string]string) SandboxOption {
	return func(c *SandboxConfig) {
		for _, k := range sortedKeys(env) {
			c.setEnv(k, env[k])
		}
	}
}

func (c *SandboxConfig) setEnv(k, v string) {
	if c.Env == nil {
		c.Env = map[string]string{}
	}
	if _, ok := c.Env[k]; !ok {
		c.envOrder = append(c.envOrder, k)
	}
	c.Env[k] = v
}

// WithLabel adds one label.
func WithLabel(key, value string) SandboxOption {
	return WithLabels(map[string]string{key: value})
}

// WithLabels adds labels.
func WithLabels(labels map[string]string) SandboxOption {
	return func(c *SandboxConfig) {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		maps.Copy(c.Labels, labels)
	}
}

// WithEntrypoint replaces the image's ENTRYPOINT; no arguments clear it.
func WithEntrypoint(argv ...string) SandboxOption {
	return func(c *SandboxConfig) { c.Entrypoint = append([]string{}, argv...) }
}

// WithCmd replaces the image's CMD; no arguments clear it.
func WithCmd(argv ...string) SandboxOption {
	return func(c *SandboxConfig) { c.Cmd = append([]string{}, argv...) }
}

// WithInit hands PID 1 to a program of the image.
func WithInit(i InitConfig) SandboxOption { return func(c *SandboxConfig) { c.Init = &i } }

// WithRlimits adds resource limits for the guest's init, inherited by every command.
func WithRlimits(limits ...Rlimit) SandboxOption {
	return func(c *SandboxConfig) { c.Rlimits = append(c.Rlimits, limits...) }
}

// WithMounts adds mounts by their path in the guest.
func WithMounts(mounts map[string]MountConfig) SandboxOption {
	return func(c *SandboxConfig) {
		if c.Volumes == nil {
			c.Volumes = map[string]MountConfig{}
		}
		for _, k := range sortedKeys(mounts) {
			if _, ok := c.Volumes[k]; !ok {
				c.volumeOrder = append(c.volumeOrder, k)
			}
			c.Volumes[k] = mounts[k]
		}
	}
}

// WithoutNetwork lets no connection out of the sandbox and none in.
func WithoutNetwork() SandboxOption { return func(c *SandboxConfig) { c.DisableNetwork = true } }

// WithPullPolicy says when to fetch the image.
func WithPullPolicy(p PullPolicy) SandboxOption { return func(c *SandboxConfig) { c.PullPolicy = p } }

// WithPullProgress has f called with the steps of fetching the image, one at a time. It
// must not block.
func WithPullProgress(f func(PullEvent)) SandboxOption {
	return func(c *SandboxConfig) { c.pullProgress = f }
}

// WithRegistryAuth gives the credentials for the image's registry. They are not stored.
func WithRegistryAuth(a RegistryAuth) SandboxOption {
	return func(c *SandboxConfig) { c.RegistryAuth = &a }
}

// WithRegistryInsecure speaks plain HTTP with the image's registry.
func WithRegistryInsecure() SandboxOption {
	return func(c *SandboxConfig) { c.RegistryInsecure = true }
}

// WithRegistryCACerts trusts more certificate authorities for the image's registry, as a
// PEM bundle.
func WithRegistryCACerts(pem []byte) SandboxOption {
	return func(c *SandboxConfig) { c.RegistryCACerts = append(c.RegistryCACerts, pem) }
}

// WithRegistryCACertsPath is WithRegistryCACerts for a file, which is read when the image
// is fetched.
func WithRegistryCACertsPath(path string) SandboxOption {
	return func(c *SandboxConfig) { c.RegistryCACertPaths = append(c.RegistryCACertPaths, path) }
}

// WithLogLevel sets the detail of runtime.log.
func WithLogLevel(l LogLevel) SandboxOption {
	return func(c *SandboxConfig) { c.LogLevel, c.QuietLogs = l, false }
}

// WithQuietLogs leaves runtime.log to errors.
func WithQuietLogs() SandboxOption {
	return func(c *SandboxConfig) { c.LogLevel, c.QuietLogs = "", true }
}

// WithMaxDuration ends the sandbox after d, rounded up to seconds; 0 or less is never.
func WithMaxDuration(d time.Duration) SandboxOption {
	return func(c *SandboxConfig) { c.MaxDuration = d }
}

// WithIdleTimeout ends the sandbox after d without activity, rounded up to seconds.
func WithIdleTimeout(d time.Duration) SandboxOption {
	return func(c *SandboxConfig) { c.IdleTimeout = d }
}

// WithDetached lets the sandbox survive this process.
func WithDetached() SandboxOption { return func(c *SandboxConfig) { c.Detached = true } }

// WithEphemeral makes the runtime delete all of the sandbox's state when it ends.
func WithEphemeral(on bool) SandboxOption { return func(c *SandboxConfig) { c.Ephemeral = on } }

// WithReplace removes a sandbox of the same name first, stopping it if it runs.
func WithReplace() SandboxOption {
	return func(c *SandboxConfig) { c.Replace = true }
}

// WithReplaceWithTimeout is WithReplace with another grace period; 0 kills at once.
func WithReplaceWithTimeout(d time.Duration) SandboxOption {
	return func(c *SandboxConfig) { c.Replace, c.ReplaceWithTimeout = true, &d }
}

// WithSecurityProfile chooses how much guest processes may do.
func WithSecurityProfile(p SecurityProfile) SandboxOption {
	return func(c *SandboxConfig) { c.SecurityProfile = p }
}

// deploymentProfile is the profile of a name in documents, which write _ for -.
func deploymentProfile(name string) DeploymentProfile {
	return DeploymentProfile(strings.ReplaceAll(name, "_", "-"))
}

// document is the profile's name in documents; the default is single_tenant.
func (p DeploymentProfile) document() string {
	return strings.ReplaceAll(string(orDefault(p, DeploymentProfileSingleTenant)), "-", "_")
}

// WithDeploymentProfile says whom the sandbox's configuration comes from.
func WithDeploymentProfile(p DeploymentProfile) SandboxOption {
	return func(c *SandboxConfig) { c.DeploymentProfile = p }
}

// WithStartup makes a detached sandbox run a command and stop when it ends.
func WithStartup(cmd string, args ...string) SandboxOption {
	return func(c *SandboxConfig) { c.startup = &startupCommand{cmd, args} }
}

// WithStartupDefault makes a detached sandbox run its own ENTRYPOINT and CMD and stop
// when they end.
func WithStartupDefault() SandboxOption {
	return func(c *SandboxConfig) { c.startup = &startupCommand{} }
}
