// Package sandboxconf reads sparse configuration files of sandboxes: YAML that says what
// the creation flags of msb say, as far as it says anything. It may import the YAML
// library and the standard library only, and must never act on what it reads: what the
// values mean is for the caller.
//
// The YAML is strict: no unknown or repeated fields, one document, no anchors, aliases,
// merge keys and tags, and every value of its field's own type. ${NAME} in a string is
// replaced by a variable of the environment, which must be there.
package sandboxconf
