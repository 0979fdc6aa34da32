package microsandbox

// compatVersion is the release of microsandbox whose interfaces this one speaks; the
// official SDKs and launchers compare it with their own.
const compatVersion = "0.6.18"

// SDKVersion is the version as microsandbox counts them.
func SDKVersion() string { return compatVersion }

// RuntimeVersion is the version of the runtime that new sandboxes get.
func RuntimeVersion() (string, error) { return compatVersion, nil }
