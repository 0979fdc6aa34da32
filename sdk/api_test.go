package microsandbox_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	msb "github.com/gomsb/gomsb/sdk"
)

type (
	bg       = context.Context
	names    = map[string]string
	sandbox  = *msb.Sandbox
	handle   = *msb.SandboxHandle
	fsOps    = *msb.SandboxFSOps
	opt      = msb.SandboxOption
	artifact = *msb.SnapshotArtifact
)

// The API of the official SDK, name by name: that this compiles is the test.
var (
	_ func(bg, ...msb.SetupOption) error                           = msb.EnsureInstalled
	_ func() msb.SetupOption                                       = msb.WithSkipDownload
	_ func() bool                                                  = msb.IsInstalled
	_ func() string                                                = msb.SDKVersion
	_ func() (string, error)                                       = msb.RuntimeVersion
	_ func() (msb.BackendInfo, error)                              = msb.DefaultBackendInfo
	_ func(error, msb.ErrorKind) bool                              = msb.IsKind
	_ func(bg, string, ...opt) (sandbox, error)                    = msb.CreateSandbox
	_ func(bg, string) (handle, error)                             = msb.GetSandbox
	_ func(bg, string) (sandbox, error)                            = msb.StartSandbox
	_ func(bg, string) (sandbox, error)                            = msb.StartSandboxDetached
	_ func(bg, string) error                                       = msb.RemoveSandbox
	_ func(bg) (*msb.SandboxPage, error)                           = msb.ListSandboxes
	_ func(bg, ...msb.SandboxListOption) (*msb.SandboxPage, error) = msb.ListSandboxesWith
	_ func(bg) (map[string]*msb.Metrics, error)                    = msb.AllSandboxMetrics

	_ func(sandbox) string                                                            = sandbox.Name
	_ func(sandbox) msb.BackendKind                                                   = sandbox.BackendKind
	_ func(sandbox, bg, string, []string, ...msb.ExecOption) (*msb.ExecOutput, error) = sandbox.Exec
	_ func(sandbox, bg, string, ...msb.ExecOption) (*msb.ExecOutput, error)           = sandbox.Shell
	_ func(sandbox, bg, string, []string, ...msb.ExecOption) (*msb.ExecHandle, error) = sandbox.ExecStream
	_ func(sandbox, bg, string, ...msb.ExecOption) (*msb.ExecHandle, error)           = sandbox.ShellStream
	_ func(sandbox, bg, ...msb.ExecOption) (*msb.ExecOutput, error)                   = sandbox.ExecDefault
	_ func(sandbox, bg, ...msb.ExecOption) (*msb.ExecHandle, error)                   = sandbox.ExecDefaultStream
	_ func(sandbox, bg, string, ...string) (int, error)                               = sandbox.Attach
	_ func(sandbox, bg) (int, error)                                                  = sandbox.AttachShell
	_ func(sandbox, bg, string, []string, ...msb.AttachOption) (int, error)           = sandbox.AttachWith
	_ func(sandbox, bg, ...msb.AttachOption) (int, error)                             = sandbox.AttachDefault
	_ func(sandbox) fsOps                                                             = sandbox.FS
	_ func(sandbox, bg) (*msb.Metrics, error)                                         = sandbox.Metrics
	_ func(sandbox, bg, time.Duration) (*msb.MetricsStreamHandle, error)              = sandbox.MetricsStream
	_ func(sandbox, bg, msb.LogOptions) ([]msb.LogEntry, error)                       = sandbox.Logs
	_ func(sandbox, bg, msb.LogStreamOptions) (*msb.LogStreamHandle, error)           = sandbox.LogStream
	_ func(sandbox, bg, ...msb.StopOption) error                                      = sandbox.Stop
	_ func(sandbox, bg, ...msb.KillOption) error                                      = sandbox.Kill
	_ []func(sandbox, bg) error                                                       = []func(sandbox, bg) error{sandbox.RequestStop, sandbox.RequestKill, sandbox.RequestDrain, sandbox.Detach}
	_ func(sandbox, bg) (*msb.SandboxStopResult, error)                               = sandbox.WaitUntilStopped
	_ func(sandbox) error                                                             = sandbox.Close
	_ func(sandbox) (bool, error)                                                     = sandbox.OwnsLifecycle
	_ func(sandbox) bool                                                              = sandbox.OwnsLifecycleOrFalse
	_ func(sandbox, bg) (*msb.SandboxPingResult, error)                               = sandbox.Ping
	_ func(sandbox, bg) (*msb.SandboxTouchResult, error)                              = sandbox.Touch

	_ func(sandbox, bg, msb.ModifyOptions) (*msb.SandboxModificationPlan, error) = sandbox.Modify
	_ func(handle, bg, msb.ModifyOptions) (*msb.SandboxModificationPlan, error)  = handle.Modify

	_ []func(handle) string                                                = []func(handle) string{handle.Name, handle.ConfigJSON}
	_ func(handle) msb.SandboxStatus                                       = handle.Status
	_ []func(handle) time.Time                                             = []func(handle) time.Time{handle.CreatedAt, handle.UpdatedAt}
	_ func(handle) (*msb.SandboxConfig, error)                             = handle.Config
	_ func(handle, bg) (handle, error)                                     = handle.Refresh
	_ []func(handle, bg) (sandbox, error)                                  = []func(handle, bg) (sandbox, error){handle.Connect, handle.Start, handle.StartDetached}
	_ []func(handle, bg) error                                             = []func(handle, bg) error{handle.RequestStop, handle.RequestKill, handle.RequestDrain, handle.Remove}
	_ func(handle, bg, ...msb.StopOption) error                            = handle.Stop
	_ func(handle, bg, ...msb.KillOption) error                            = handle.Kill
	_ func(handle, bg) (*msb.SandboxStopResult, error)                     = handle.WaitUntilStopped
	_ func(handle, bg) (*msb.Metrics, error)                               = handle.Metrics
	_ func(handle, bg, msb.LogOptions) ([]msb.LogEntry, error)             = handle.Logs
	_ func(handle, bg, msb.LogStreamOptions) (*msb.LogStreamHandle, error) = handle.LogStream
	_ func(handle, bg, string) (artifact, error)                           = handle.Snapshot
	_ func(handle, bg) (*msb.SandboxPingResult, error)                     = handle.Ping
	_ func(handle, bg) (*msb.SandboxTouchResult, error)                    = handle.Touch
	_ func(handle) msb.BackendKind                                         = handle.BackendKind

	_ []func(string) opt = []func(string) opt{msb.WithImage, msb.WithBindRootfs, msb.WithFromSnapshot, msb.WithPlacementProfile, msb.WithWorkdir, msb.WithShell, msb.WithUser,
		msb.WithHostname, msb.WithRegistryCACertsPath}
	_ func(string, string) opt             = msb.WithImageDisk
	_ func(string, string) opt             = msb.WithLabel
	_ []func(uint8) opt                    = []func(uint8) opt{msb.WithCPUs, msb.WithMaxCPUs}
	_ []func(uint32) opt                   = []func(uint32) opt{msb.WithMemory, msb.WithMaxMemory, msb.WithOCIUpperSize}
	_ func(msb.CPUPlacement) opt           = msb.WithCPUPlacement
	_ func(msb.THPPolicy) opt              = msb.WithTHP
	_ func(msb.RootDiskConfig) opt         = msb.WithRootDisk
	_ []func(names) opt                    = []func(names) opt{msb.WithEnv, msb.WithLabels, msb.WithScripts}
	_ []func(...string) opt                = []func(...string) opt{msb.WithEntrypoint, msb.WithCmd}
	_ func(msb.InitConfig) opt             = msb.WithInit
	_ func(...msb.PatchConfig) opt         = msb.WithPatches
	_ func(map[string]msb.MountConfig) opt = msb.WithMounts
	_ []func(map[uint16]uint16) opt        = []func(map[uint16]uint16) opt{msb.WithPorts, msb.WithPortsUDP}
	_ func(...msb.PortBinding) opt         = msb.WithPortBindings
	_ func(...msb.VsockRoute) opt          = msb.WithVsock
	_ func(*msb.NetworkConfig) opt         = msb.WithNetwork
	_ func(...msb.SecretEntry) opt         = msb.WithSecrets
	_ func(msb.PullPolicy) opt             = msb.WithPullPolicy
	_ func(msb.RegistryAuth) opt           = msb.WithRegistryAuth
	_ func([]byte) opt                     = msb.WithRegistryCACerts
	_ func(msb.LogLevel) opt               = msb.WithLogLevel
	_ []func(time.Duration) opt            = []func(time.Duration) opt{msb.WithMaxDuration, msb.WithIdleTimeout, msb.WithReplaceWithTimeout}
	_ []func() opt                         = []func() opt{msb.WithRegistryInsecure, msb.WithQuietLogs, msb.WithDetached, msb.WithReplace}
	_ func(bool) opt                       = msb.WithEphemeral
	_ func(msb.SecurityProfile) opt        = msb.WithSecurityProfile
	_ func(msb.DeploymentProfile) opt      = msb.WithDeploymentProfile
	_ func(time.Duration) msb.StopOption   = msb.WithStopTimeout
	_ func(time.Duration) msb.KillOption   = msb.WithKillTimeout
	_ []msb.SandboxListOption              = []msb.SandboxListOption{msb.WithListLabels(nil), msb.WithListLimit(1), msb.WithListCursor("")}
	_ []msb.ExecOption                     = []msb.ExecOption{msb.WithExecCwd(""), msb.WithExecTimeout(0), msb.WithExecUser(""), msb.WithExecEnv(nil), msb.WithExecStdinPipe(), msb.WithExecTTY(true)}
	_ []msb.AttachOption                   = []msb.AttachOption{msb.WithAttachCwd(""), msb.WithAttachUser(""), msb.WithAttachEnv(nil), msb.WithAttachDetachKeys("")}
	_ []msb.VolumeOption                   = []msb.VolumeOption{msb.WithVolumeQuota(1), msb.WithVolumeLabels(nil), msb.WithVolumeKind(msb.VolumeKindDir), msb.WithVolumeSize(1)}

	_ []msb.MountConfig = []msb.MountConfig{msb.Mount.Bind("", msb.MountOptions{}), msb.Mount.Named("", msb.MountOptions{QuotaMiB: 1}), msb.Mount.NamedWith("", msb.MountOptions{}, msb.NamedVolumeOptions{}),
		msb.Mount.Tmpfs(msb.TmpfsOptions{SizeMiB: 1}), msb.Mount.Disk("", msb.DiskOptions{Format: "raw"})}
	_ []msb.PatchConfig = []msb.PatchConfig{msb.Patch.Text("", "", msb.PatchOptions{}), msb.Patch.Append("", ""), msb.Patch.Mkdir("", msb.PatchOptions{}), msb.Patch.Remove(""),
		msb.Patch.Symlink("", "", msb.PatchOptions{}), msb.Patch.CopyFile("", "", msb.PatchOptions{}), msb.Patch.CopyDir("", "", msb.PatchOptions{})}
	_ []msb.InitConfig     = []msb.InitConfig{msb.Init.Auto(), msb.Init.Cmd("", msb.InitOptions{})}
	_ msb.SecretEntry      = msb.Secret.Env("", "", msb.SecretEnvOptions{})
	_ []msb.RootDiskConfig = []msb.RootDiskConfig{msb.RootDisk.Managed(1), msb.RootDisk.Tmpfs(msb.RootDiskTmpfsOptions{SizeMiB: 1}), msb.RootDisk.Disk("", msb.RootDiskImageOptions{}),
		msb.RootDisk.Flat(msb.RootDiskFlatOptions{Clone: msb.FlatCloneAuto})}
	_ []func() *msb.NetworkConfig                             = []func() *msb.NetworkConfig{msb.NetworkPolicy.None, msb.NetworkPolicy.AllowAll}
	_ func(...msb.NetworkProfile) *msb.NetworkConfig          = msb.NetworkPolicy.FromProfiles
	_ func(...msb.NetworkProfile) (*msb.NetworkConfig, error) = msb.NetworkPolicy.FromProfilesChecked
	_ []func() msb.PolicyRule                                 = []func() msb.PolicyRule{msb.Rule.AllowDNS, msb.Rule.DenyDNS}

	_ []func(*msb.ExecOutput) string                     = []func(*msb.ExecOutput) string{(*msb.ExecOutput).Stdout, (*msb.ExecOutput).Stderr}
	_ []func(*msb.ExecOutput) []byte                     = []func(*msb.ExecOutput) []byte{(*msb.ExecOutput).StdoutBytes, (*msb.ExecOutput).StderrBytes}
	_ func(*msb.ExecOutput) int                          = (*msb.ExecOutput).ExitCode
	_ func(*msb.ExecOutput) bool                         = (*msb.ExecOutput).Success
	_ func(*msb.ExecHandle, bg) (*msb.ExecEvent, error)  = (*msb.ExecHandle).Recv
	_ func(*msb.ExecHandle, bg) (*msb.ExecOutput, error) = (*msb.ExecHandle).Collect
	_ func(*msb.ExecHandle, bg) (int, error)             = (*msb.ExecHandle).Wait
	_ func(*msb.ExecHandle, bg, int) error               = (*msb.ExecHandle).Signal
	_ func(*msb.ExecHandle, bg) error                    = (*msb.ExecHandle).Kill
	_ func(*msb.ExecHandle) (string, error)              = (*msb.ExecHandle).ID
	_ func(*msb.ExecHandle) *msb.ExecSink                = (*msb.ExecHandle).TakeStdin
	_ func(*msb.ExecHandle) error                        = (*msb.ExecHandle).Close
	_ func(*msb.ExecHandle, bg, uint16, uint16) error    = (*msb.ExecHandle).Resize
	_ io.WriteCloser                                     = (*msb.ExecSink)(nil)
	_ func(*msb.ExecSink, bg, []byte) (int, error)       = (*msb.ExecSink).WriteCtx

	_ func(fsOps, bg, string) ([]byte, error)               = fsOps.Read
	_ func(fsOps, bg, string) (string, error)               = fsOps.ReadString
	_ func(fsOps, bg, string, []byte) error                 = fsOps.Write
	_ func(fsOps, bg, string) ([]msb.FsEntry, error)        = fsOps.List
	_ func(fsOps, bg, string) (*msb.FsStat, error)          = fsOps.Stat
	_ func(fsOps, bg, string) (bool, error)                 = fsOps.Exists
	_ []func(fsOps, bg, string) error                       = []func(fsOps, bg, string) error{fsOps.Mkdir, fsOps.Remove, fsOps.RemoveDir}
	_ []func(fsOps, bg, string, string) error               = []func(fsOps, bg, string, string) error{fsOps.WriteString, fsOps.Copy, fsOps.Rename, fsOps.CopyFromHost, fsOps.CopyToHost}
	_ func(fsOps, bg, string) (*msb.FsReadStream, error)    = fsOps.ReadStream
	_ func(fsOps, bg, string) (*msb.FsWriteStream, error)   = fsOps.WriteStream
	_ func(*msb.FsReadStream, bg) ([]byte, error)           = (*msb.FsReadStream).Recv
	_ io.WriterTo                                           = (*msb.FsReadStream)(nil)
	_ io.Closer                                             = (*msb.FsReadStream)(nil)
	_ func(*msb.FsReadStream, bg, io.Writer) (int64, error) = (*msb.FsReadStream).CopyTo
	_ io.Writer                                             = (*msb.FsWriteStream)(nil)
	_ func(*msb.FsWriteStream, bg, []byte) (int, error)     = (*msb.FsWriteStream).WriteCtx
	_ func(*msb.FsWriteStream, bg) error                    = (*msb.FsWriteStream).Close

	_ func(*msb.LogStreamHandle, bg) (*msb.LogEntry, error)    = (*msb.LogStreamHandle).Recv
	_ func(*msb.MetricsStreamHandle, bg) (*msb.Metrics, error) = (*msb.MetricsStreamHandle).Recv

	_ func(bg, string, ...msb.VolumeOption) (*msb.Volume, error) = msb.CreateVolume
	_ func(bg, string) (*msb.VolumeHandle, error)                = msb.GetVolume
	_ func(bg) (*msb.VolumeHandle, error)                        = msb.GetDefaultVolume
	_ func(bg) ([]*msb.VolumeHandle, error)                      = msb.ListVolumes
	_ func(bg, string) error                                     = msb.RemoveVolume
	_ func(*msb.VolumeHandle) *uint64                            = (*msb.VolumeHandle).CapacityBytes
	_ []func(*msb.VolumeFs, bg, string) error                    = []func(*msb.VolumeFs, bg, string) error{(*msb.VolumeFs).Mkdir, (*msb.VolumeFs).Remove, (*msb.VolumeFs).RemoveAll}
	_ func(*msb.VolumeFs, bg, string) (bool, error)              = (*msb.VolumeFs).Exists

	_ func(bg, string) (*msb.ImageHandle, error)               = msb.Image.Get
	_ func(bg) ([]*msb.ImageHandle, error)                     = msb.Image.List
	_ func(bg, string) (*msb.ImageDetail, error)               = msb.Image.Inspect
	_ func(bg, string, bool) error                             = msb.Image.Remove
	_ func(bg) (*msb.ImagePruneReport, error)                  = msb.Image.Prune
	_ func(bg, string, ...string) ([]*msb.ImageHandle, error)  = msb.Image.Load
	_ func(bg, []string, string, msb.ImageArchiveFormat) error = msb.Image.Save

	_ func(bg, msb.SnapshotCreateOptions) (artifact, error)   = msb.Snapshot.Create
	_ func(bg, string) (artifact, error)                      = msb.Snapshot.Open
	_ func(bg, string) (*msb.SnapshotHandle, error)           = msb.Snapshot.Get
	_ func(bg) ([]*msb.SnapshotHandle, error)                 = msb.Snapshot.List
	_ func(bg, string, bool) error                            = msb.Snapshot.Remove
	_ func(bg, string) (uint32, error)                        = msb.Snapshot.Reindex
	_ func(bg, string, string, msb.SnapshotSaveOptions) error = msb.Snapshot.Save
	_ func(bg, string, string) (*msb.SnapshotHandle, error)   = msb.Snapshot.Load
	_ func(artifact, bg) (*msb.SnapshotVerifyReport, error)   = artifact.Verify

	_ func(bg, string) (*msb.AgentClient, error)                          = msb.ConnectAgentSandbox
	_ func(bg, string) (*msb.AgentClient, error)                          = msb.ConnectAgentPath
	_ func(string) (string, error)                                        = msb.AgentSocketPath
	_ func(*msb.AgentClient, bg, uint8, []byte) (*msb.RawFrame, error)    = (*msb.AgentClient).Request
	_ func(*msb.AgentClient, bg, uint8, []byte) (*msb.AgentStream, error) = (*msb.AgentClient).Stream
	_ func(*msb.AgentClient, bg, uint32, uint8, []byte) error             = (*msb.AgentClient).Send
	_ func(*msb.AgentClient) []byte                                       = (*msb.AgentClient).ReadyBytes
	_ func(*msb.AgentClient, bg) error                                    = (*msb.AgentClient).CloseCtx
	_ func(*msb.AgentStream) uint32                                       = (*msb.AgentStream).ID
	_ func(*msb.AgentStream, bg) (*msb.RawFrame, error)                   = (*msb.AgentStream).Next

	_ func(bg, string) ([]artifact, error) = msb.Snapshot.ListDir

	_ func(sandbox) *msb.SandboxSSHOps                                               = sandbox.SSH
	_ func(*msb.SandboxSSHOps, bg, ...msb.SSHClientOption) (*msb.SSHClient, error)   = (*msb.SandboxSSHOps).OpenClient
	_ func(*msb.SandboxSSHOps, bg, ...msb.SSHServerOption) (*msb.SSHServer, error)   = (*msb.SandboxSSHOps).PrepareServer
	_ func(*msb.SSHClient, bg, string, ...msb.SSHExecOption) (*msb.SSHOutput, error) = (*msb.SSHClient).Exec
	_ func(*msb.SSHClient, bg, ...msb.SSHAttachOption) (int, error)                  = (*msb.SSHClient).Attach
	_ func(*msb.SSHClient, bg) (*msb.SFTPClient, error)                              = (*msb.SSHClient).SFTP
	_ []func(*msb.SSHServer, bg) error                                               = []func(*msb.SSHServer, bg) error{(*msb.SSHServer).ServeConnection, (*msb.SSHServer).Close}
	_ func(*msb.SSHOutput) bool                                                      = (*msb.SSHOutput).Success
	_ func(*msb.SFTPClient, bg, string) ([]byte, error)                              = (*msb.SFTPClient).Read
	_ func(*msb.SFTPClient, bg, string, []byte) error                                = (*msb.SFTPClient).Write
	_ []func(*msb.SFTPClient, bg, string) error                                      = []func(*msb.SFTPClient, bg, string) error{(*msb.SFTPClient).Mkdir, (*msb.SFTPClient).RemoveFile, (*msb.SFTPClient).RemoveDir}
	_ []func(*msb.SFTPClient, bg, string, string) error                              = []func(*msb.SFTPClient, bg, string, string) error{(*msb.SFTPClient).Rename, (*msb.SFTPClient).Symlink}
	_ []func(*msb.SFTPClient, bg, string) (string, error)                            = []func(*msb.SFTPClient, bg, string) (string, error){(*msb.SFTPClient).ReadLink, (*msb.SFTPClient).RealPath}
	_ []msb.SSHClientOption                                                          = []msb.SSHClientOption{msb.WithSSHUser(""), msb.WithSSHTerm(""), msb.WithSSHClientSFTP(true), msb.WithSSHClientInactivityTimeout(0)}
	_ []msb.SSHServerOption                                                          = []msb.SSHServerOption{msb.WithSSHHostKeyPath(""), msb.WithSSHAuthorizedKeysPath(""), msb.WithSSHServerUser(""), msb.WithSSHServerSFTP(true), msb.WithSSHServerInactivityTimeout(0)}
	_ msb.SSHExecOption                                                              = msb.WithSSHTTY(true)
	_ []msb.SSHAttachOption                                                          = []msb.SSHAttachOption{msb.WithSSHAttachTerm(""), msb.WithSSHDetachKeys("")}
	_                                                                                = msb.ModifyOptions{CPUs: 0, MaxCPUs: 0, MemoryMiB: 0, MaxMemoryMiB: 0, RootDiskSizeMiB: 0, Env: nil, EnvRemove: nil, Labels: nil,
		LabelsRemove: nil, Workdir: "", Secrets: map[string]msb.SecretModifySpec{"": {Env: "", Value: "", Store: "", Placeholder: "", AllowedHosts: nil}}, SecretsRemove: nil, Policy: "", DryRun: false}

	_ = msb.SandboxConfig{Name: "", Image: "", ImageFstype: "", ImageBind: "", Snapshot: "", RootDisk: nil, OCIUpperSizeMiB: 0, MemoryMiB: 0, CPUs: 0, MaxMemoryMiB: 0, MaxCPUs: 0, CPUPlacement: "",
		PlacementProfile: "", THP: "", Workdir: "", Shell: "", SecurityProfile: "", DeploymentProfile: "", Hostname: "", User: "", Replace: false, ReplaceWithTimeout: nil, Env: nil, Labels: nil, Detached: false,
		Ephemeral: false, Entrypoint: nil, Cmd: nil, Init: nil, LogLevel: "", QuietLogs: false, Scripts: nil, PullPolicy: "", MaxDuration: 0, IdleTimeout: 0, RegistryAuth: nil, RegistryInsecure: false,
		RegistryCACerts: nil, RegistryCACertPaths: nil, Ports: nil, PortsUDP: nil, PortBindings: nil, Vsock: nil, Network: nil, Secrets: nil, Patches: nil, Volumes: nil}
	_ = msb.ExecConfig{Cwd: "", Timeout: 0, StdinPipe: false, TTY: false, User: "", Env: nil}
	_ = msb.AttachConfig{Cwd: "", User: "", Env: nil, DetachKeys: ""}
	_ = msb.VolumeConfig{QuotaMiB: 0, Kind: "", SizeMiB: 0, Labels: nil}
	_ = msb.NetworkConfig{DNSRebindProtection: nil, DNS: &msb.DNSConfig{}, TLS: &msb.TLSConfig{}, RateLimiter: &msb.NetworkRateLimiterConfig{}}
	_ = msb.SnapshotFileState{Format: "", Fstype: "", UpperFile: "", SizeBytes: 0, HasIntegrity: false, Integrity: msb.SnapshotIntegrity{}}
	_ = msb.SandboxStopResult{Name: "", Status: "", ExitCode: nil, Signal: nil, ObservedAt: time.Time{}, Source: nil}
)

// Constants have the values that documents and wires have.
func TestConstants(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"running": string(msb.SandboxStatusRunning), "stopped": string(msb.SandboxStatusStopped), "crashed": string(msb.SandboxStatusCrashed), "draining": string(msb.SandboxStatusDraining), "paused": string(msb.SandboxStatusPaused),
		"file": string(msb.FsEntryKindFile), "directory": string(msb.FsEntryKindDirectory), "symlink": string(msb.FsEntryKindSymlink), "other": string(msb.FsEntryKindOther),
		"stdout": string(msb.LogSourceStdout), "stderr": string(msb.LogSourceStderr), "output": string(msb.LogSourceOutput), "system": string(msb.LogSourceSystem),
		"trace": string(msb.LogLevelTrace), "debug": string(msb.LogLevelDebug), "info": string(msb.LogLevelInfo), "warn": string(msb.LogLevelWarn), "error": string(msb.LogLevelError),
		"always": string(msb.PullPolicyAlways), "if-missing": string(msb.PullPolicyIfMissing), "never": string(msb.PullPolicyNever),
		"allow": string(msb.PolicyActionAllow), "deny": string(msb.PolicyActionDeny),
		"egress": string(msb.PolicyDirectionEgress), "ingress": string(msb.PolicyDirectionIngress), "any": string(msb.PolicyDirectionAny),
		"tcp": string(msb.PolicyProtocolTCP), "udp": string(msb.PortProtocolUDP), "icmpv4": string(msb.PolicyProtocolICMPv4), "icmpv6": string(msb.PolicyProtocolICMPv6),
		"public": string(msb.NetworkProfilePublic), "private": string(msb.NetworkProfilePrivate), "host": string(msb.NetworkProfileHost),
		"text": string(msb.PatchKindText), "append": string(msb.PatchKindAppend), "mkdir": string(msb.PatchKindMkdir), "remove": string(msb.PatchKindRemove), "copy_file": string(msb.PatchKindCopyFile), "copy_dir": string(msb.PatchKindCopyDir),
		"strict": string(msb.StatVirtualizationStrict), "relaxed": string(msb.StatVirtualizationRelaxed), "off": string(msb.StatVirtualizationOff), "mirror": string(msb.HostPermissionsMirror),
		"block": string(msb.ViolationActionBlock), "block-and-log": string(msb.ViolationActionBlockAndLog), "block-and-terminate": string(msb.ViolationActionBlockAndTerminate),
		"default": string(msb.SecurityProfileDefault), "restricted": string(msb.SecurityProfileRestricted), "dir": string(msb.VolumeKindDir), "disk": string(msb.VolumeKindDisk),
		"copy": string(msb.FlatCloneCopy), "reflink": string(msb.FlatCloneReflink), "docker": string(msb.ImageArchiveDocker), "oci": string(msb.ImageArchiveOCI),
		"inherit": string(msb.CPUPlacementInherit), "auto": string(msb.CPUPlacementAuto), "spread": string(msb.CPUPlacementSpread), "compact": string(msb.CPUPlacementCompact), "madvise": string(msb.THPMadvise),
		"single-tenant": string(msb.DeploymentProfileSingleTenant), "multi-tenant": string(msb.DeploymentProfileMultiTenant), "stream": string(msb.VsockSocketTypeStream), "dgram": string(msb.VsockSocketTypeDgram),
		"no_restart": string(msb.ModificationPolicyNoRestart), "next_start": string(msb.ModificationPolicyNextStart), "restart": string(msb.ModificationPolicyRestart),
		"local": string(msb.BackendLocal), "cloud": string(msb.BackendCloud), "unknown": string(msb.BackendUnknown), "resumable": msb.SnapshotScopeResumable,
		"": string(msb.LogLevelDefault) + string(msb.PullPolicyDefault) + string(msb.StatVirtualizationDefault) + string(msb.HostPermissionsDefault) + string(msb.ViolationActionDefault),
	} {
		assert.Equal(t, want, got)
	}
	assert.Equal(t, []uint8{1, 2, 4, 1, 2, 4}, []uint8{msb.FlagTerminal, msb.FlagSessionStart, msb.FlagShutdown, msb.FLAG_TERMINAL, msb.FLAG_SESSION_START, msb.FLAG_SHUTDOWN})
	assert.Equal(t, []msb.MountKind{1, 2, 3, 4}, []msb.MountKind{msb.MountKindBind, msb.MountKindNamed, msb.MountKindTmpfs, msb.MountKindDisk})
	assert.Equal(t, []msb.RootDiskKind{1, 2, 3, 4}, []msb.RootDiskKind{msb.RootDiskKindManaged, msb.RootDiskKindTmpfs, msb.RootDiskKindDiskImage, msb.RootDiskKindFlat})
	assert.Equal(t, "NoDefaultCommand", msb.ErrNoDefaultCommand.String())
}
