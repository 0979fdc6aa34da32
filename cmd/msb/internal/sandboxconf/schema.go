package sandboxconf

import (
	"cmp"

	"go.yaml.in/yaml/v3"
)

// In the tags of fields, oneof lists the values that there are, and must says what a value
// may not do without.

// Config is what one file, or several that were laid over each other, say. Nil and empty
// fields were left out.
type Config struct {
	Image      *Image    `yaml:"image"`
	PullPolicy Text      `yaml:"pull_policy" oneof:"missing always never"`
	Registry   *Registry `yaml:"registry"`
	Resources  `yaml:",inline"`
	Runtime    `yaml:",inline"`
	Files      `yaml:",inline"`
	Network    *Network        `yaml:"network"`
	Secrets    Secrets         `yaml:"secrets"`
	Scripts    map[string]Text `yaml:"scripts"`
	Ports      []Text          `yaml:"ports"` // of Network; Load moves them there
}

// Resources are the fields of a resource configuration.
type Resources struct {
	CPUs        *uint8   `yaml:"cpus"`
	Memory      Text     `yaml:"memory" must:"not be empty"`
	MaxDuration Text     `yaml:"max_duration" must:"not be empty"`
	IdleTimeout Text     `yaml:"idle_timeout" must:"not be empty"`
	Rlimits     []Rlimit `yaml:"rlimits"`
}

// Rlimit is a resource limit; without Hard it is Soft.
type Rlimit struct {
	Resource Text    `yaml:"resource" must:"be there"`
	Soft     uint64  `yaml:"soft" must:"be there"`
	Hard     *uint64 `yaml:"hard"`
}

// Runtime are the fields of a runtime configuration.
type Runtime struct {
	Workdir    Text            `yaml:"workdir"`
	Shell      Text            `yaml:"shell" must:"not be empty"`
	User       Text            `yaml:"user"`
	Hostname   Text            `yaml:"hostname" must:"not be empty"`
	Security   Text            `yaml:"security" oneof:"default restricted"`
	Entrypoint *[]Text         `yaml:"entrypoint"` // empty clears the image's
	Cmd        *[]Text         `yaml:"cmd"`
	Env        map[string]Text `yaml:"env"`
	Labels     map[string]Text `yaml:"labels"`
	Init       *Init           `yaml:"init"`
}

// Init is the program that PID 1 is handed to.
type Init struct {
	Cmd  Text            `yaml:"cmd"`
	Args []Text          `yaml:"args"`
	Env  map[string]Text `yaml:"env"`
}

// Files are the fields of a file system configuration.
type Files struct {
	Mounts     []Mount `yaml:"mounts"`
	PatchFiles []Text  `yaml:"patch_files"` // whose patches come before Patches
	Patches    []Patch `yaml:"patches"`
}

// Image is where the root comes from: one of Ref, OCI, Snapshot, Disk and Bind.
type Image struct {
	Ref       Text `yaml:"="` // a string in the image's place
	OCI       Text `yaml:"oci"`
	UpperSize Text `yaml:"upper_size"` // with OCI
	Snapshot  Text `yaml:"snapshot"`
	Disk      Text `yaml:"disk"`
	Fstype    Text `yaml:"fstype"` // with Disk
	Bind      Text `yaml:"bind"`
}

// Source is where the root comes from, empty if nothing is said.
func (i *Image) Source() string {
	if i == nil {
		return ""
	}
	return string(cmp.Or(i.Ref, i.OCI, i.Snapshot, i.Disk, i.Bind))
}

// Registry are credentials; the password is in a variable of the environment.
type Registry struct {
	Username    Text `yaml:"username"`
	PasswordEnv Text `yaml:"password_env"`
}

// Mount is one of Spec, Bind, Named, Tmpfs and Disk, the last four with a Target.
type Mount struct {
	Spec      Text    `yaml:"="` // a string in the mount's place, HOST:/GUEST[:OPTIONS]
	Bind      Text    `yaml:"bind"`
	Named     Text    `yaml:"named"`
	Tmpfs     *Tmpfs  `yaml:"tmpfs"`
	Disk      Text    `yaml:"disk"`
	Target    Text    `yaml:"target"`
	Create    Text    `yaml:"create" oneof:"existing create ensure-exists"` // of a named volume
	Format    Text    `yaml:"format" oneof:"raw qcow2 vmdk"`                // of a disk
	Fstype    Text    `yaml:"fstype"`                                       // of a disk
	Readonly  Bool    `yaml:"readonly"`
	Noexec    Bool    `yaml:"noexec"`
	Nosuid    Bool    `yaml:"nosuid"`
	Nodev     Bool    `yaml:"nodev"`
	StatVirt  Text    `yaml:"stat_virtualization" oneof:"strict relaxed off"`
	HostPerms Text    `yaml:"host_permissions" oneof:"private mirror"`
	UID       *uint32 `yaml:"uid"`
	GID       *uint32 `yaml:"gid"`
}

// Tmpfs is a file system in memory.
type Tmpfs struct {
	Size Text `yaml:"size"`
}

// PatchFile is what a file of PatchFiles has.
type PatchFile struct {
	Patches []Patch `yaml:"patches"`
}

// Patch is one change of the root file system.
type Patch struct {
	Text     *TextPatch    `yaml:"text"`
	File     *BinaryPatch  `yaml:"file"`
	CopyFile *CopyPatch    `yaml:"copy_file"`
	CopyDir  *CopyDirPatch `yaml:"copy_dir"`
	Symlink  *SymlinkPatch `yaml:"symlink"`
	Mkdir    *MkdirPatch   `yaml:"mkdir"`
	Remove   *RemovePatch  `yaml:"remove"`
	Append   *AppendPatch  `yaml:"append"`
}

// The patches' fields. Modes are four octal digits in quotes.
type (
	TextPatch struct {
		Path    Text `yaml:"path" must:"be there"`
		Content Text `yaml:"content" must:"be there"`
		Mode    Text `yaml:"mode"`
		Replace Bool `yaml:"replace"`
	}
	BinaryPatch struct {
		Path    Text `yaml:"path" must:"be there"`
		Content Text `yaml:"content_base64" must:"be there"`
		Mode    Text `yaml:"mode"`
		Replace Bool `yaml:"replace"`
	}
	CopyPatch struct {
		Src     Text `yaml:"src" must:"be there"`
		Dst     Text `yaml:"dst" must:"be there"`
		Mode    Text `yaml:"mode"`
		Replace Bool `yaml:"replace"`
	}
	CopyDirPatch struct {
		Src     Text `yaml:"src" must:"be there"`
		Dst     Text `yaml:"dst" must:"be there"`
		Replace Bool `yaml:"replace"`
	}
	SymlinkPatch struct {
		Target  Text `yaml:"target" must:"be there"`
		Link    Text `yaml:"link" must:"be there"`
		Replace Bool `yaml:"replace"`
	}
	MkdirPatch struct {
		Path Text `yaml:"path" must:"be there"`
		Mode Text `yaml:"mode"`
	}
	RemovePatch struct {
		Path Text `yaml:"path" must:"be there"`
	}
	AppendPatch struct {
		Path    Text `yaml:"path" must:"be there"`
		Content Text `yaml:"content" must:"be there"`
	}
)

// Network are the fields of a network configuration.
type Network struct {
	Policy         Text    `yaml:"policy" oneof:"none public open"`
	Allow          []Text  `yaml:"allow"` // targets of rules; any makes the rest denied
	Deny           []Text  `yaml:"deny"`
	Ports          []Text  `yaml:"ports"`
	DNS            DNS     `yaml:"dns"`
	TLS            TLS     `yaml:"tls"`
	Strict         *Bool   `yaml:"strict"`
	TrustHostCAs   *Bool   `yaml:"trust_host_cas"`
	MaxConnections *uint32 `yaml:"max_connections"`
}

// DNS is how names are resolved.
type DNS struct {
	RebindProtection *Bool  `yaml:"rebind_protection"`
	Nameservers      []Text `yaml:"nameservers"`
	QueryTimeout     Text   `yaml:"query_timeout"`
}

// TLS is what is intercepted.
type TLS struct {
	Enabled        *Bool  `yaml:"enabled"`
	Bypass         []Text `yaml:"bypass"`
	VerifyUpstream *Bool  `yaml:"verify_upstream"`
	BlockQUIC      *Bool  `yaml:"block_quic"`
}

// Secrets are secrets by their names in the environment of the guest.
type Secrets map[string]Secret

// Secret is one of Secrets.
type Secret struct {
	Value              Value   `yaml:"value"`
	Allow              []Text  `yaml:"allow"`
	Inject             *[]Text `yaml:"inject" oneof:"headers basic_auth query_params"` // headers alone without
	RequireTLSIdentity *Bool   `yaml:"require_tls_identity"`
}

// UnmarshalYAML implements yaml.Unmarshaler: a secret that there is already keeps what
// the node does not say.
func (s *Secrets) UnmarshalYAML(n *yaml.Node) error {
	if *s == nil {
		*s = Secrets{}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		one := (*s)[n.Content[i].Value]
		if err := n.Content[i+1].Decode(&one); err != nil {
			return err
		}
		(*s)[n.Content[i].Value] = one
	}
	return nil
}

// Value is a secret's value: text, or the variable of the environment that has it.
type Value struct{ Text, Env string }

// envTag marks a value that is ${NAME} and nothing else.
const envTag = "!env"

// UnmarshalYAML implements yaml.Unmarshaler.
func (v *Value) UnmarshalYAML(n *yaml.Node) error {
	*v = Value{Text: n.Value}
	if n.Tag == envTag {
		*v = Value{Env: n.Value}
	}
	return nil
}

// Text is a string; numbers and the like have to be quoted to be one.
type Text string

// Bool is true or false, and not yes, no, on or off.
type Bool bool
