//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gomsb/gomsb/tests/e2e/tree"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: prepare FOLDER ARCHIVE...")
		os.Exit(2)
	}
	if err := prepare(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func prepare(folder string, archives []string) error {
	for _, archive := range archives {
		if err := load(filepath.Join(folder, "home"), archive); err != nil {
			return err
		}
		name := strings.TrimSuffix(filepath.Base(archive), ".tar")
		if err := one(folder, name, archive); err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
	}
	return nil
}

func load(home, archive string) error {
	cmd := exec.Command(os.Getenv("MSB_PATH"), "load", "-q", "-i", archive)
	cmd.Env = append(os.Environ(), "MSB_HOME="+home)
	return run(cmd)
}

// one describes the image in archive, and makes a disk of the mini one.
func one(folder, name, archive string) error {
	root, err := os.MkdirTemp(folder, name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	touched, err := extract(root, archive)
	if err != nil {
		return err
	}
	entries, err := tree.List(root, nil)
	if err != nil {
		return err
	}
	for i := range entries {
		if touched[entries[i].Path] {
			entries[i].MTime = "" // unpacking has changed it
		}
	}
	f, err := os.Create(filepath.Join(folder, name+".tree"))
	if err != nil {
		return err
	}
	if err := tree.Write(f, entries); err != nil {
		return err
	}
	if name == "mini" {
		disk := filepath.Join(folder, "mini.raw")
		if err := run(exec.Command("/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", root, disk, "32M")); err != nil {
			return err
		}
	}
	return f.Close()
}

func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
