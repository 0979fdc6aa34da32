//go:build linux

package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// extract unpacks the layers of a docker archive into root with GNU tar, one over the
// other. It returns the directories, quoted as tree.Entry.Path, whose time says when that
// happened: a layer changed them without describing them.
func extract(root, archive string) (map[string]bool, error) {
	manifest, err := member(archive, "manifest.json")
	if err != nil {
		return nil, err
	}
	var images []struct{ Layers []string }
	if err := json.Unmarshal(manifest, &images); err != nil {
		return nil, err
	}
	touched := map[string]bool{}
	for _, image := range images {
		for _, layer := range image.Layers {
			plain, err := os.CreateTemp(filepath.Dir(root), "layer-")
			if err != nil {
				return nil, err
			}
			err = errors.Join(unpack(root, archive, layer, plain, touched), plain.Close(), os.Remove(plain.Name()))
			if err != nil {
				return nil, err
			}
		}
	}
	return touched, nil
}

func member(archive, name string) ([]byte, error) {
	return exec.Command("tar", "-xOf", archive, name).Output()
}

func unpack(root, archive, layer string, plain *os.File, touched map[string]bool) error {
	outer := exec.Command("tar", "-xOf", archive, layer)
	outer.Stdout = plain
	outer.Stderr = os.Stderr
	if err := outer.Run(); err != nil {
		return fmt.Errorf("layer %s: %w", layer, err)
	}
	if err := makeRoom(root, plain, touched); err != nil {
		return fmt.Errorf("layer %s: %w", layer, err)
	}
	return run(exec.Command("tar", "-C", root, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--warning=no-timestamp", "--exclude=.wh.?*", "-xpf", plain.Name()))
}

// makeRoom does to root what a layer's whiteouts, and its files in place of directories,
// ask for. GNU tar knows of neither.
func makeRoom(root string, layer *os.File, touched map[string]bool) error {
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	described := map[string]bool{}
	for r := tar.NewReader(layer); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		name := filepath.Join("/", h.Name)
		parent, base := filepath.Split(name)
		parent = filepath.Clean(parent)
		touched[fmt.Sprintf("%+q", parent)] = true
		if h.Typeflag == tar.TypeDir {
			described[fmt.Sprintf("%+q", name)] = true
		}
		if err := hide(root, parent, base, h); err != nil {
			return err
		}
	}
	for dir := range described {
		delete(touched, dir)
	}
	return nil
}

func hide(root, parent, base string, h *tar.Header) error {
	hidden, whiteout := strings.CutPrefix(base, ".wh.")
	switch {
	case base == ".wh..wh..opq":
		all, err := os.ReadDir(filepath.Join(root, parent))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, e := range all {
			err = errors.Join(err, os.RemoveAll(filepath.Join(root, parent, e.Name())))
		}
		return err
	case whiteout:
		return os.RemoveAll(filepath.Join(root, parent, hidden))
	}
	old, err := os.Lstat(filepath.Join(root, parent, base))
	if err == nil && old.IsDir() && h.Typeflag != tar.TypeDir {
		return os.RemoveAll(filepath.Join(root, parent, base))
	}
	return nil
}
