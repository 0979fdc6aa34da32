package archive

import (
	"strings"

	"github.com/gomsb/gomsb/snapshot/descriptor"
)

// name is what the name of a member says.
type name struct {
	kind     string // "" if it belongs into no archive
	snapshot string // of a descriptor, a payload or a file of a checkpoint: the directory to unpack it to
	file     string // there, or of an image in its cache
}

// parseName reads a name of the closed set. Older releases gave snapshots another
// directory, without a parent, and images one too.
func parseName(s string) name {
	if s == inventoryName {
		return name{kind: kindInventory}
	}
	parts := strings.Split(s, "/")
	if len(parts) == 2 {
		if len(parts[0]) < 16 || !isHex(parts[0]) {
			return name{}
		}
		if parts[1] == descriptor.LegacyFileName {
			return name{kindDescriptor, parts[0], parts[1]}
		}
		return payloadOf(parts[0], parts[1])
	}
	if len(parts) > 3 || len(parts) == 3 && parts[0] == checkpointsDir {
		if file := strings.Join(parts[2:], "/"); parts[0] == checkpointsDir && isIdentity(parts[1]) && isCheckpointFile(file) {
			return name{kindCheckpoint, parts[1], file}
		}
		return name{}
	}
	if len(parts) != 3 {
		return name{}
	}
	dir, sub, file := parts[0], parts[1], parts[2]
	switch {
	case dir == "snapshots" && isIdentity(sub) && file == descriptor.FileName:
		return name{kindDescriptor, sub, file}
	case dir == "files" && isIdentity(sub):
		return payloadOf(sub, file)
	case dir == "images" || dir == "cache":
		return name{kind: imageKind(sub, file), file: sub + "/" + file}
	}
	return name{}
}

func payloadOf(snapshot, file string) name {
	if !descriptor.IsPayloadName(file) {
		return name{}
	}
	return name{kindPayload, snapshot, file}
}

// imageKind is the kind of a file of an image cache, "" if it is none.
func imageKind(dir, file string) string {
	base, suffix := file, ""
	if dot := strings.LastIndexByte(file, '.'); dot >= 0 {
		base, suffix = file[:dot], file[dot:]
	}
	switch {
	case dir == "manifests" && suffix == ".json" && isIdentity(base):
		return kindMetadata
	case (dir == "fsmeta" || dir == "layers") && suffix == ".erofs" && isDigestName(base), dir == "vmdk" && suffix == ".vmdk" && isDigestName(base):
		return kindObject
	}
	return ""
}

// isHex reports whether s is hexadecimal digits in lower case, 64 at most.
func isHex(s string) bool { return len(s) <= 64 && only(s, "0123456789abcdef") }

func isIdentity(s string) bool { return len(s) == 64 && isHex(s) }

// isDigestName reports whether s can be a digest that was made a file name.
func isDigestName(s string) bool {
	return only(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+.=_-")
}

func only(s, set string) bool { return s != "" && strings.Trim(s, set) == "" }
