package microsandbox

import (
	"context"
	"testing"

	"github.com/gomsb/gomsb/internal/runtime/runtimetest"
)

// BenchmarkCreateStop is the controller's and the runtime's own share of a sandbox's
// life: the fake guest boots at once.
func BenchmarkCreateStop(b *testing.B) {
	newGuests(b, runtimetest.Guest{})
	ctx := context.Background()
	for b.Loop() {
		sb, err := CreateSandbox(ctx, "a", WithImage(testImage), WithEphemeral(true))
		if err != nil {
			b.Fatal(err)
		}
		if err := sb.Stop(ctx); err != nil {
			b.Fatal(err)
		}
		if err := sb.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExec connects, runs a command and disconnects, as msb exec does.
func BenchmarkExec(b *testing.B) {
	newGuests(b, runtimetest.Guest{})
	ctx := context.Background()
	owner, err := CreateSandbox(ctx, "a", WithImage(testImage), WithEphemeral(true))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = owner.Close() }()
	for b.Loop() {
		sb, err := ConnectSandbox(ctx, "a")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := sb.Exec(ctx, "echo", []string{"x"}); err != nil {
			b.Fatal(err)
		}
		if err := sb.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
