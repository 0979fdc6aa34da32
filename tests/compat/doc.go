// Package compat runs the same scripts with the official msb and with ours, and compares what
// can be observed: output, exit codes, files of the data root, rows of the database. What may
// differ is listed in docs/compat.md with the reason, and nothing else may; an entry that no
// longer holds is a failure as well.
//
// Its tests need a build tag. `official` are those without a virtual machine, for which
// hack/kernel/official.sh fetches the official release; `e2e` are those that boot sandboxes,
// with each front end on each runtime, which hack/compat runs.
package compat
