//go:build linux && fuse

package passthrough

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// programs are what people run in shared directories; each is a shell script that fails
// if anything is not as it should be.
var programs = map[string]string{
	"git": `
git init -q a; cd a; git config user.email a@b; git config user.name n
for i in $(seq 100); do mkdir -p d$((i%10)); echo line $i >d$((i%10))/f$i; done
ln -s d1 link; printf '#!/bin/sh\n' >run; chmod 755 run
git add .; git commit -qm one; git checkout -q -b b; echo more >>d1/f1; git commit -qam two; git checkout -q -; git merge -q b
git gc -q; git fsck --full --strict; test -z "$(git status --porcelain)"; cd ..
git clone -q a c; diff -r a/d1 c/d1; test -L c/link; test -x c/run; git -C c worktree add -q ../w; test -f w/d1/f1`,
	"sqlite3": `
sqlite3 wal.db 'pragma journal_mode=wal; create table t(a); with recursive c(x) as (select 1 union all select x+1 from c where x<20000) insert into t select x from c;'
test "$(sqlite3 wal.db 'select count(*) from t; pragma integrity_check;')" = "20000
ok"
sqlite3 many.db 'create table t(a)'
for i in 1 2 3 4; do (for j in $(seq 15); do sqlite3 -cmd '.timeout 60000' many.db "insert into t values($j)"; done) & done; wait
test "$(sqlite3 many.db 'select count(*) from t')" = 60`,
	"pip": `
python3 -m venv --system-site-packages v; mkdir -p p/pkg; echo 'answer = 42' >p/pkg/__init__.py
printf 'from setuptools import setup\nsetup(name="pkg", version="1", packages=["pkg"], entry_points={"console_scripts": ["pkgcmd=pkg:answer"]})\n' >p/setup.py
v/bin/pip install -q --no-index --no-build-isolation ./p
test "$(v/bin/python -c 'import pkg; print(pkg.answer)')" = 42; test -x v/bin/pkgcmd; v/bin/pip uninstall -q -y pkg; test ! -e v/bin/pkgcmd`,
	"npm": `
mkdir dep app; echo '{"name":"dep","version":"1.0.0","bin":{"depcmd":"c.js"}}' >dep/package.json; printf '#!/usr/bin/env node\nconsole.log(7)\n' >dep/c.js
(cd dep && npm pack --silent >/dev/null); echo '{"name":"app","version":"1.0.0"}' >app/package.json
cd app; HOME=$PWD npm install --offline --no-audit --no-fund --silent ../dep/dep-1.0.0.tgz; test "$(node_modules/.bin/depcmd)" = 7; test -L node_modules/.bin/depcmd
HOME=$PWD npm ci --offline --no-audit --no-fund --silent; test "$(node_modules/.bin/depcmd)" = 7; rm -rf node_modules`,
	"tar": `
tar -C /usr/share -cf x.tar perl5 python3; mkdir t; tar -C t -xf x.tar; diff -r --no-dereference /usr/share/python3 t/python3
cp -a t u; diff -r --no-dereference t u; tar -C t -cf - . | tar -C u -df -; rm -rf t u; test ! -e t`,
	"mmap": `
python3 - <<'P'
import mmap, fcntl, os, subprocess
f = open('m', 'w+b'); f.truncate(1 << 20); m = mmap.mmap(f.fileno(), 1 << 20); m[5:10] = b'hello'; m.flush(); m.close()
assert open('m', 'rb').read(10)[5:] == b'hello'
a, b = open('m'), open('m'); fcntl.flock(a, fcntl.LOCK_EX)
try:
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB); raise SystemExit('both have the lock')
except BlockingIOError:
    pass
P
cp /bin/ls ./program; ./program >/dev/null; cp /bin/true ./new; mv new program; ./program`,
}

// TestPrograms runs in shares of every kind what people run there.
func TestPrograms(t *testing.T) {
	for _, cfg := range []Config{{Stat: StatStrict}, {Stat: StatRelaxed}, {Stat: StatOff}, {Stat: StatStrict, Descriptors: 2, Quota: 8 << 30, HostLocks: true}} {
		name := string(cfg.Stat)
		if cfg.HostLocks {
			name += " with locks"
		}
		t.Run(name, func(t *testing.T) {
			cfg.Root = t.TempDir()
			_, share := mounted(t, cfg)
			for name, script := range programs {
				dir := filepath.Join(share, name)
				require.NoError(t, os.Mkdir(dir, 0o755))
				cmd := exec.Command("bash", "-euc", script)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				assert.NoError(t, err, "%s: %s", name, out)
			}
		})
	}
}

// TestHostLocks keeps a process of the host and one of the guest apart.
func TestHostLocks(t *testing.T) {
	cfg := Config{Root: t.TempDir(), HostLocks: true}
	_, share := mounted(t, cfg)
	open := func(dir string) int {
		fd, err := unix.Open(dir+"/f", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	guest, host := open(share), open(cfg.Root)
	lock := func(fd int, kind int16) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Len: 10})
	}
	for _, fds := range [][2]int{{guest, host}, {host, guest}} {
		require.NoError(t, lock(fds[0], unix.F_WRLCK))
		assert.ErrorIs(t, lock(fds[1], unix.F_RDLCK), unix.EAGAIN)
		require.NoError(t, lock(fds[0], unix.F_UNLCK))
		require.NoError(t, lock(fds[1], unix.F_RDLCK))
		require.NoError(t, lock(fds[1], unix.F_UNLCK))
		require.NoError(t, unix.Flock(fds[0], unix.LOCK_EX))
		assert.ErrorIs(t, unix.Flock(fds[1], unix.LOCK_SH|unix.LOCK_NB), unix.EAGAIN)
		require.NoError(t, unix.Flock(fds[0], unix.LOCK_UN))
	}
	// A guest that waits gets the lock when the host lets go of it.
	require.NoError(t, unix.Flock(host, unix.LOCK_EX))
	got := make(chan error)
	go func() { got <- unix.Flock(guest, unix.LOCK_EX) }()
	require.NoError(t, unix.Flock(host, unix.LOCK_UN))
	assert.NoError(t, <-got)
}
