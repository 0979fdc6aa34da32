package microsandbox

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// writeOutput has write make the file at path, which appears when it is complete. What is
// there and no regular file, such as a pipe, is written to as it is.
func writeOutput(path string, write func(w io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return wrap(ErrIO, err)
		}
		return wrap(ErrIO, errors.Join(write(f), f.Close()))
	}
	clearParts(path)
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	part := partPrefix(path) + hex.EncodeToString(random[:]) + partSuffix
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return wrap(ErrIO, err)
	}
	// While it is locked, nobody clears it away.
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = write(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return wrap(ErrIO, err)
}

// A file that is being written is called .NAME.<8 hex>.msb-part. It is locked, but for a
// moment after it was made.
const (
	partSuffix   = ".msb-part"
	partUnlocked = time.Minute
)

func partPrefix(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".")
}

// clearParts removes what killed processes left of earlier writes of the file. It is a
// courtesy: what cannot be removed stays.
func clearParts(path string) {
	entries, _ := os.ReadDir(filepath.Dir(path)) // then there are none
	for _, e := range entries {
		part := filepath.Join(filepath.Dir(path), e.Name())
		random, begins := strings.CutPrefix(part, partPrefix(path))
		random, ends := strings.CutSuffix(random, partSuffix)
		info, err := e.Info()
		if !begins || !ends || len(random) != 8 || err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < partUnlocked {
			continue
		}
		f, err := os.Open(part)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.Remove(part)
		}
		_ = f.Close()
	}
}
