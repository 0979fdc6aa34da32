package cli

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	"github.com/gomsb/gomsb/cmd/msb/internal/sandboxconf"
	msb "github.com/gomsb/gomsb/sdk"
)

// configuration holds the files that --conf and its kin name, in the order of the flags,
// and their mounts that no flag can say.
type configuration struct {
	sources []sandboxconf.Source
	mounted []configuredMount
}

type configuredMount struct {
	guest string
	mount msb.MountConfig
}

// source is the value of one of the flags.
type source struct {
	kind sandboxconf.Kind
	all  *[]sandboxconf.Source
}

func (s source) String() string { return "" }
func (s source) Type() string   { return "path" }
func (s source) Set(path string) error {
	*s.all = append(*s.all, sandboxconf.Source{Kind: s.kind, Path: path})
	return nil
}

func (c *configuration) flags(f *pflag.FlagSet) {
	for kind, help := range map[sandboxconf.Kind]string{
		sandboxconf.All:       "read a sandbox configuration, a YAML file with any of what the flags say; flags go before files, later files before earlier ones (repeatable)",
		sandboxconf.Nets:      "the same with the fields of its network alone (repeatable)",
		sandboxconf.Resource:  "the same with its resources and lifetime alone (repeatable)",
		sandboxconf.Execution: "the same with how its commands run alone (repeatable)",
		sandboxconf.FS:        "the same with its mounts and patches alone (repeatable)",
		sandboxconf.Keys:      "the same with its secrets alone (repeatable)",
		sandboxconf.Commands:  "the same with its scripts alone (repeatable)",
	} {
		f.Var(source{kind, &c.sources}, string(kind), help)
	}
}

// configure reads the files and has what they say count where flags say nothing. It
// returns the image, and options that come before those of the flags.
func (c *creation) configure(f *pflag.FlagSet, image string) (string, []msb.SandboxOption, error) {
	if len(c.sources) == 0 {
		return image, nil, nil
	}
	conf, err := sandboxconf.Load(c.sources)
	if err != nil {
		return "", nil, err
	}
	return c.apply(conf, f, image)
}

// apply is configure with files that are read.
func (c *creation) apply(conf *sandboxconf.Config, f *pflag.FlagSet, image string) (string, []msb.SandboxOption, error) {
	var opts []msb.SandboxOption
	add := func(o ...msb.SandboxOption) { opts = append(opts, o...) }
	set := func(flag string, value sandboxconf.Text) error {
		if value == "" || f.Changed(flag) {
			return nil
		}
		return f.Set(flag, string(value))
	}
	var err error
	if image == "" && c.snapshot == "" {
		if image, err = c.configureImage(conf.Image, set, add); err != nil {
			return "", nil, err
		}
	}
	c.network.configuredSecrets = len(conf.Secrets) > 0
	err = firstError(
		c.configureResources(&conf.Resources, f, set, add),
		c.configureRuntime(&conf.Runtime, f, set, add),
		c.configureFiles(&conf.Files, add),
		c.network.configure(conf.Network, f, set),
		configureSecrets(conf.Secrets, add),
	)
	if err != nil {
		return "", nil, err
	}
	pull := conf.PullPolicy
	if pull == "missing" {
		pull = "if-missing"
	}
	if err := set("pull", pull); err != nil {
		return "", nil, err
	}
	if r := conf.Registry; r != nil {
		auth, err := registryAuth(r)
		if err != nil {
			return "", nil, err
		}
		add(msb.WithRegistryAuth(auth))
	}
	scripts := map[string]string{}
	for name, body := range conf.Scripts {
		scripts[name] = flagtype.ShellScript(c.shell, string(body))
	}
	add(msb.WithScripts(scripts))
	return image, opts, nil
}

// setFlag gives a flag a value unless it has one or the value is empty.
type setFlag func(flag string, value sandboxconf.Text) error

func registryAuth(r *sandboxconf.Registry) (msb.RegistryAuth, error) {
	if r.Username == "" || r.PasswordEnv == "" {
		return msb.RegistryAuth{}, errors.New("registry.username and registry.password_env must be specified together")
	}
	password, ok := os.LookupEnv(string(r.PasswordEnv))
	if !ok {
		return msb.RegistryAuth{}, fmt.Errorf("registry password environment variable %q is not set", r.PasswordEnv)
	}
	return msb.RegistryAuth{Username: string(r.Username), Password: password}, nil
}

func (c *creation) configureImage(i *sandboxconf.Image, set setFlag, add func(...msb.SandboxOption)) (string, error) {
	if i == nil {
		return "", nil
	}
	given := 0
	for _, t := range []sandboxconf.Text{i.Ref, i.OCI, i.Snapshot, i.Disk, i.Bind} {
		if t != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return "", errors.New("image object must contain exactly one of `oci`, `snapshot`, `disk`, or `bind`")
	case i.UpperSize != "" && i.OCI == "":
		return "", errors.New("image.upper_size is only valid with image.oci")
	case i.Fstype != "" && i.Disk == "":
		return "", errors.New("image.fstype is only valid with image.disk")
	}
	switch {
	case i.Snapshot != "":
		c.snapshot = string(i.Snapshot)
	case i.Disk != "":
		add(msb.WithImageDisk(string(i.Disk), string(i.Fstype)))
	case i.Bind != "":
		add(msb.WithBindRootfs(string(i.Bind)))
	case i.OCI != "":
		return string(i.OCI), set("root-disk", i.UpperSize)
	}
	return string(i.Ref), nil
}

func (c *creation) configureResources(r *sandboxconf.Resources, f *pflag.FlagSet, set setFlag, add func(...msb.SandboxOption)) error {
	if r.CPUs != nil && !f.Changed("cpus") {
		if err := f.Set("cpus", strconv.Itoa(int(*r.CPUs))); err != nil {
			return err
		}
	}
	for _, l := range r.Rlimits {
		limit := msb.Rlimit{Resource: string(l.Resource), Soft: l.Soft, Hard: l.Soft}
		if l.Hard != nil {
			limit.Hard = *l.Hard
		}
		add(msb.WithRlimits(limit))
	}
	return firstError(set("memory", r.Memory), set("max-duration", r.MaxDuration), set("idle-timeout", r.IdleTimeout))
}

func (c *creation) configureRuntime(r *sandboxconf.Runtime, f *pflag.FlagSet, set setFlag, add func(...msb.SandboxOption)) error {
	c.env, c.labels = slices.Concat(variables(r.Env), c.env), slices.Concat(variables(r.Labels), c.labels)
	if r.Entrypoint != nil && !f.Changed("entrypoint") {
		add(msb.WithEntrypoint(texts(*r.Entrypoint)...))
	}
	if r.Cmd != nil {
		add(msb.WithCmd(texts(*r.Cmd)...))
	}
	if i := r.Init; i != nil && !f.Changed("init") {
		if i.Cmd == "" {
			return errors.New("init.cmd is required")
		}
		c.init = string(i.Cmd)
		c.initArgs, c.initEnv = slices.Concat(texts(i.Args), c.initArgs), slices.Concat(variables(i.Env), c.initEnv)
	}
	return firstError(set("workdir", r.Workdir), set("shell", r.Shell), set("user", r.User), set("hostname", r.Hostname), set("security", r.Security))
}

// variables are the entries of a map as flags have them, in the order of their keys.
func variables(m map[string]sandboxconf.Text) []string {
	return assignments(slices.Sorted(maps.Keys(m)), m)
}

func texts(list []sandboxconf.Text) []string {
	out := make([]string, 0, len(list))
	for _, t := range list {
		out = append(out, string(t))
	}
	return out
}

func (c *creation) configureFiles(f *sandboxconf.Files, add func(...msb.SandboxOption)) error {
	for _, m := range f.Mounts {
		if m.Spec != "" {
			c.volumes = append(c.volumes, string(m.Spec))
			continue
		}
		mount, err := mountFrom(m)
		if err != nil {
			return err
		}
		c.mounted = append(c.mounted, configuredMount{string(m.Target), mount})
	}
	patches, err := f.AllPatches()
	if err != nil {
		return err
	}
	for _, p := range patches {
		patch, err := patchFrom(p)
		if err != nil {
			return err
		}
		add(msb.WithPatches(patch))
	}
	return nil
}

// mountFrom is a mount that a file describes field by field.
func mountFrom(m sandboxconf.Mount) (msb.MountConfig, error) {
	given := 0
	for _, there := range []bool{m.Bind != "", m.Named != "", m.Tmpfs != nil, m.Disk != ""} {
		if there {
			given++
		}
	}
	shared := m.Bind != "" || m.Named != ""
	bad := func(text string) (msb.MountConfig, error) { return msb.MountConfig{}, errors.New(text) }
	switch {
	case given != 1:
		return bad("mount object must contain exactly one of `bind`, `named`, `tmpfs`, or `disk`")
	case m.Target == "":
		return bad("mount.target is required")
	case !strings.HasPrefix(string(m.Target), "/"):
		return bad(fmt.Sprintf("mount.target must be an absolute guest path, got %q", m.Target))
	case m.Create != "" && m.Named == "":
		return bad("mount.create is only valid for a named mount")
	case (m.Format != "" || m.Fstype != "") && m.Disk == "":
		return bad("mount.format and mount.fstype are only valid for a disk mount")
	case (m.StatVirt != "" || m.HostPerms != "") && !shared:
		return bad("mount.stat_virtualization and mount.host_permissions are only valid for bind or named mounts")
	case (m.UID != nil || m.GID != nil) && !shared:
		return bad("mount.uid and mount.gid are only valid for bind or named mounts")
	case (m.UID == nil) != (m.GID == nil):
		return bad("mount.uid and mount.gid must be specified together")
	}
	ro, noexec, nosuid, nodev := bool(m.Readonly), bool(m.Noexec), bool(m.Nosuid), bool(m.Nodev)
	switch {
	case m.Disk != "":
		return msb.Mount.Disk(string(m.Disk), msb.DiskOptions{Format: string(m.Format), Fstype: string(m.Fstype), Readonly: ro, Noexec: noexec, Nosuid: nosuid, Nodev: nodev}), nil
	case m.Tmpfs != nil:
		o := msb.TmpfsOptions{Readonly: ro, Noexec: noexec, Nosuid: nosuid, Nodev: nodev}
		if m.Tmpfs.Size != "" {
			size, err := flagtype.MiB(string(m.Tmpfs.Size))
			if err != nil {
				return msb.MountConfig{}, fmt.Errorf("mount.tmpfs.size: %w", err)
			}
			o.SizeMiB = size
		}
		return msb.Mount.Tmpfs(o), nil
	}
	share := msb.MountOptions{
		Readonly: ro, Noexec: noexec, Nosuid: nosuid, Nodev: nodev,
		StatVirtualization: msb.StatVirtualization(m.StatVirt), HostPermissions: msb.HostPermissions(m.HostPerms),
	}
	if m.UID != nil {
		share.Owner = &msb.MountOwner{UID: *m.UID, GID: *m.GID}
	}
	if m.Named != "" {
		return msb.Mount.NamedWith(string(m.Named), share, msb.NamedVolumeOptions{Mode: firstOf(string(m.Create), "existing")}), nil
	}
	return msb.Mount.Bind(string(m.Bind), share), nil
}

// patchFrom is a patch that a file describes.
func patchFrom(p sandboxconf.Patch) (msb.PatchConfig, error) {
	var all []msb.PatchConfig
	var failed error
	options := func(mode sandboxconf.Text, replace sandboxconf.Bool) msb.PatchOptions {
		o := msb.PatchOptions{Replace: bool(replace)}
		if mode == "" {
			return o
		}
		n, err := strconv.ParseUint(string(mode), 8, 12)
		if err != nil || len(mode) != 4 {
			failed = errors.New(`mode must be a quoted four-digit octal string such as "0644"`)
			return o
		}
		m := uint32(n)
		o.Mode = &m
		return o
	}
	if t := p.Text; t != nil {
		all = append(all, msb.Patch.Text(string(t.Path), string(t.Content), options(t.Mode, t.Replace)))
	}
	if t := p.File; t != nil {
		content, err := base64.StdEncoding.DecodeString(string(t.Content))
		if err != nil {
			return msb.PatchConfig{}, fmt.Errorf("patch.file.content_base64: %w", err)
		}
		all = append(all, msb.Patch.Text(string(t.Path), string(content), options(t.Mode, t.Replace)))
	}
	if t := p.CopyFile; t != nil {
		all = append(all, msb.Patch.CopyFile(string(t.Src), string(t.Dst), options(t.Mode, t.Replace)))
	}
	if t := p.CopyDir; t != nil {
		all = append(all, msb.Patch.CopyDir(string(t.Src), string(t.Dst), msb.PatchOptions{Replace: bool(t.Replace)}))
	}
	if t := p.Symlink; t != nil {
		all = append(all, msb.Patch.Symlink(string(t.Target), string(t.Link), msb.PatchOptions{Replace: bool(t.Replace)}))
	}
	if t := p.Mkdir; t != nil {
		all = append(all, msb.Patch.Mkdir(string(t.Path), options(t.Mode, false)))
	}
	if t := p.Remove; t != nil {
		all = append(all, msb.Patch.Remove(string(t.Path)))
	}
	if t := p.Append; t != nil {
		all = append(all, msb.Patch.Append(string(t.Path), string(t.Content)))
	}
	switch {
	case failed != nil:
		return msb.PatchConfig{}, failed
	case len(all) != 1:
		return msb.PatchConfig{}, errors.New("a patch must contain exactly one of `text`, `file`, `copy_file`, `copy_dir`, `symlink`, `mkdir`, `remove` and `append`")
	}
	return all[0], nil
}

func configureSecrets(secrets sandboxconf.Secrets, add func(...msb.SandboxOption)) error {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		s := secrets[name]
		if len(s.Allow) == 0 {
			return fmt.Errorf("secret %q: `allow` must name at least one host", name)
		}
		e := msb.SecretEntry{EnvVar: name, Value: s.Value.Text, ValueFrom: s.Value.Env, AllowHostPatterns: texts(s.Allow)}
		if e.Value == "" && e.ValueFrom == "" {
			e.ValueFrom = name
		}
		e.Inject = &msb.SecretInjection{Headers: s.Inject == nil}
		if s.Inject != nil {
			in := func(where sandboxconf.Text) bool { return slices.Contains(*s.Inject, where) }
			*e.Inject = msb.SecretInjection{Headers: in("headers"), BasicAuth: in("basic_auth"), QueryParams: in("query_params")}
		}
		if s.RequireTLSIdentity != nil {
			e.RequireTLS = (*bool)(s.RequireTLSIdentity)
		}
		add(msb.WithSecrets(e))
	}
	return nil
}
