package microsandbox_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	microsandbox "github.com/gomsb/gomsb/sdk"
)

// Warm up once, fork often: each copy goes on with the interpreter loaded and the data read.
func ExampleSandbox_Branch() {
	ctx := context.Background()
	warm, err := microsandbox.CreateSandbox(ctx, "warm", microsandbox.WithImage("python:3.12"))
	if err != nil {
		log.Fatal(err)
	}
	defer warm.Close()
	if _, err := warm.Shell(ctx, "python3 /srv/server.py > /dev/null 2>&1 &"); err != nil {
		log.Fatal(err)
	}
	copies, err := warm.Branch(ctx, []string{"one", "two", "three"})
	for _, sb := range copies {
		defer sb.Close()
	}
	var some *microsandbox.BranchError
	if errors.As(err, &some) {
		fmt.Println("run:", some.Up)
	} else if err != nil {
		log.Fatal(err)
	}

	// The same, to be continued some other day.
	_, err = microsandbox.Snapshot.Create(ctx, microsandbox.SnapshotCreateOptions{Name: "warm", FromSandbox: "warm", Resumable: true})
	if err != nil {
		log.Fatal(err)
	}
	later, err := microsandbox.Restore(ctx, "warm", "later")
	if err != nil {
		log.Fatal(err)
	}
	defer later.Close()
}
