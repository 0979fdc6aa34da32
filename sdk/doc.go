// Package microsandbox is the Go API of gomsb: it creates, starts, drives and removes
// sandboxes, each a microVM of its own that starts from an OCI image.
//
//	sb, err := microsandbox.CreateSandbox(ctx, "demo", microsandbox.WithImage("debian:latest"))
//	if err != nil { ... }
//	defer sb.Close()
//	out, err := sb.Shell(ctx, "uname -a")
//
// A program that imports it needs nothing else installed: where there is no msb command,
// a sandbox's runtime is the program itself, started a second time.
//
// The package may import everything below it but must never be imported by anything
// except cmd and tests, and knows nothing of the command line. All errors are *Error
// values; use IsKind to tell them apart.
package microsandbox
