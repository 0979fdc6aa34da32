// Standalone is a program of somebody's: it imports the SDK and is all that its machine has
// of gomsb. It runs a sandbox from an image archive and holds it until its input ends.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"

	microsandbox "github.com/gomsb/gomsb/sdk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 3 {
		log.Fatal("usage: standalone NAME ARCHIVE")
	}
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, name, archive string) error {
	images, err := microsandbox.Image.Load(ctx, archive)
	if err != nil {
		return err
	}
	sb, err := microsandbox.CreateSandbox(ctx, name,
		microsandbox.WithImage(images[0].Reference()),
		microsandbox.WithMemory(128),
		microsandbox.WithEphemeral(true),
	)
	if err != nil {
		return err
	}
	defer sb.Close()

	out, err := sb.Shell(ctx, "echo from $(cat)", microsandbox.WithExecStdin(strings.NewReader("the guest")))
	if err != nil {
		return err
	}
	fmt.Print(out.Stdout())

	h, err := sb.ExecStream(ctx, "sh", []string{"-c", "echo working; exit 3"})
	if err != nil {
		return err
	}
	defer h.Close()
	for e, err := range h.Events(ctx) {
		switch {
		case err != nil:
			return err
		case e.Kind == microsandbox.ExecEventStdout:
			fmt.Printf("stdout: %s", e.Data)
		case e.Kind == microsandbox.ExecEventExited:
			fmt.Println("code:", e.ExitCode)
		}
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
