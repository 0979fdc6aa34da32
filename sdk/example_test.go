package microsandbox_test

import (
	"context"
	"fmt"
	"log"

	microsandbox "github.com/gomsb/gomsb/sdk"
)

func Example() {
	ctx := context.Background()
	if _, err := microsandbox.Image.Load(ctx, "debian.tar"); err != nil {
		log.Fatal(err)
	}
	sb, err := microsandbox.CreateSandbox(ctx, "demo", microsandbox.WithImage("debian:latest"), microsandbox.WithMemory(1024), microsandbox.WithEphemeral(true))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sb.Close() }()
	out, err := sb.Shell(ctx, "uname -a")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(out.Stdout())
}

func ExampleSandbox_ExecStream() {
	ctx := context.Background()
	sb, err := microsandbox.ConnectSandbox(ctx, "demo")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sb.Close() }()
	h, err := sb.ExecStream(ctx, "cat", nil, microsandbox.WithExecStdinPipe())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	stdin := h.TakeStdin()
	if _, err := stdin.Write([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	if err := stdin.Close(); err != nil {
		log.Fatal(err)
	}
	for {
		e, err := h.Recv(ctx)
		switch {
		case err != nil:
			log.Fatal(err)
		case e.Kind == microsandbox.ExecEventStdout:
			fmt.Printf("%s", e.Data)
		case e.Kind == microsandbox.ExecEventDone:
			return
		}
	}
}
