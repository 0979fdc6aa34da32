package cli

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/gomsb/gomsb/cmd/msb/internal/flagtype"
	msb "github.com/gomsb/gomsb/sdk"
)

// changes holds the flags that change the root file system before the first start.
type changes struct {
	copies, copyFiles, copyDirs        []string
	mkdirs, removals                   []string
	scripts, rawScripts, scriptsByPath []string
}

func (c *changes) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&c.copies, "copy", nil, "copy a file or directory of this machine, PATH:/GUEST (repeatable)")
	f.StringArrayVar(&c.copyFiles, "copy-file", nil, "the same of a file (repeatable)")
	f.StringArrayVar(&c.copyDirs, "copy-dir", nil, "the same of a directory (repeatable)")
	f.StringArrayVar(&c.mkdirs, "mkdir", nil, "make a directory, /GUEST (repeatable)")
	f.StringArrayVar(&c.removals, "rm", nil, "remove a file or directory of the image, /GUEST (repeatable)")
	f.StringArrayVar(&c.scripts, "script", nil, `add a shell script to the commands, NAME=BODY with \n for new lines (repeatable)`)
	f.StringArrayVar(&c.rawScripts, "script-raw", nil, "the same with the whole file as it is, its first line included, NAME=BODY (repeatable)")
	f.StringArrayVar(&c.scriptsByPath, "script-path", nil, "the same with the content of a file of this machine, NAME:PATH (repeatable)")
}

// options turns the flags into options for the sdk.
func (c *changes) options(shell string) ([]msb.SandboxOption, error) {
	patches, err := c.patches()
	if err != nil {
		return nil, err
	}
	scripts, err := c.allScripts(shell)
	return []msb.SandboxOption{msb.WithPatches(patches...), msb.WithScripts(scripts)}, err
}

func (c *changes) patches() (patches []msb.PatchConfig, err error) {
	for _, list := range []struct {
		values []string
		isDir  func(src string) bool
	}{
		{c.copies, func(src string) bool {
			info, err := os.Stat(src)
			return err == nil && info.IsDir()
		}},
		{c.copyFiles, func(string) bool { return false }},
		{c.copyDirs, func(string) bool { return true }},
	} {
		for _, v := range list.values {
			src, dst, err := flagtype.CopyPatch(v)
			if err != nil {
				return nil, err
			}
			if list.isDir(src) {
				patches = append(patches, msb.Patch.CopyDir(src, dst, msb.PatchOptions{}))
			} else {
				patches = append(patches, msb.Patch.CopyFile(src, dst, msb.PatchOptions{}))
			}
		}
	}
	for _, p := range c.mkdirs {
		patches = append(patches, msb.Patch.Mkdir(p, msb.PatchOptions{}))
	}
	for _, p := range c.removals {
		patches = append(patches, msb.Patch.Remove(p))
	}
	return patches, nil
}

func (c *changes) allScripts(shell string) (map[string]string, error) {
	all := map[string]string{}
	add := func(name, content string) error {
		if _, twice := all[name]; twice {
			return fmt.Errorf("two scripts called %s", name)
		}
		all[name] = content
		return nil
	}
	for _, list := range []struct {
		values []string
		parse  func(string) (name, content string, err error)
	}{
		{c.scripts, func(s string) (string, string, error) { return flagtype.Script(s, shell) }},
		{c.rawScripts, flagtype.RawScript},
		{c.scriptsByPath, readScript},
	} {
		for _, v := range list.values {
			name, content, err := list.parse(v)
			if err != nil {
				return nil, err
			}
			if err := add(name, content); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func readScript(s string) (name, content string, err error) {
	name, path, err := flagtype.ScriptPath(s)
	if err != nil {
		return "", "", err
	}
	b, err := os.ReadFile(path)
	return name, string(b), err
}
