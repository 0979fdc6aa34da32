package tls

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/internal/atomicfile"
	"github.com/gomsb/gomsb/internal/filelock"
)

// Files of the host's own authority, in a directory of theirs.
const (
	certName = "ca.crt"
	keyName  = "ca.key"
	lockName = ".lock"
)

// PersistedAuthority is the host's own authority in dir, for all its sandboxes. It is made
// when it is first needed; several processes may need it at once. It fails with an error
// that wraps ErrAuthority.
func PersistedAuthority(ctx context.Context, dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	defer unlock()
	if err := ensure(filepath.Join(dir, certName), filepath.Join(dir, keyName)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	return LoadAuthority(filepath.Join(dir, certName), filepath.Join(dir, keyName))
}

// ensure makes the two files if there are none. The key is written first: one without a
// certificate, which a crash may leave, has signed nothing yet and gets another.
func ensure(certFile, keyFile string) error {
	haveCert, err := exists(certFile)
	if err != nil {
		return err
	}
	haveKey, err := exists(keyFile)
	switch {
	case err != nil || haveCert && haveKey:
		return err
	case haveCert:
		return fmt.Errorf("%s is there, but its key %s is not: put it back, or remove the certificate to have another authority made", certFile, keyFile)
	}
	cert, key, err := generate()
	if err != nil {
		return err
	}
	if haveKey { // its permissions would stay as they are
		if err := os.Remove(keyFile); err != nil {
			return err
		}
	}
	if err := atomicfile.Write(keyFile, key, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(certFile, cert, 0o644)
}

func exists(name string) (bool, error) {
	_, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// lock takes a lock on a file that is never unlinked.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
