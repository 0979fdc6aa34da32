package microsandbox_test

import (
	"context"
	"fmt"
	"log"

	microsandbox "github.com/gomsb/gomsb/sdk"
)

// Prepare once, start often: each sandbox of a snapshot has its own copy of the disk.
func Example_snapshot() {
	ctx := context.Background()
	base, err := microsandbox.CreateSandbox(ctx, "base", microsandbox.WithImage("python:3.12"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := base.Shell(ctx, "pip install requests"); err != nil {
		log.Fatal(err)
	}
	if err := base.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	s, err := microsandbox.Snapshot.Create(ctx, microsandbox.SnapshotCreateOptions{Name: "requests", FromSandbox: "base"})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		sb, err := microsandbox.CreateSandbox(ctx, name, microsandbox.WithFromSnapshot("requests"))
		if err != nil {
			log.Fatal(err)
		}
		defer sb.Close()
	}
	// Another machine needs neither the registry nor this one's cache.
	if err := microsandbox.Snapshot.Save(ctx, "requests", "requests.tar.zst", microsandbox.SnapshotSaveOptions{WithImage: true}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Digest())
}
