package microsandbox

import "github.com/gomsb/gomsb/guestagent/proto"

// SDKVersion is the version as microsandbox counts them.
func SDKVersion() string { return proto.Release }

// RuntimeVersion is the version of the runtime that new sandboxes get.
func RuntimeVersion() (string, error) { return proto.Release, nil }
