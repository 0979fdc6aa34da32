//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"

	msb "github.com/gomsb/gomsb/sdk"
)

// packageWork is what programs that are hard on file systems do in a directory of their
// own: scripts that stop at what fails.
var packageWork = []struct{ name, script string }{
	{"git", `
git init -q origin; cd origin; git config user.email a@b; git config user.name n
mkdir d; for i in 1 2 3 4 5 6 7 8; do echo line $i >d/f$i; done; ln -s d/f1 link; printf '#!/bin/sh\n' >run; chmod 755 run
git add .; git commit -qm one; cd ..
git clone -q origin near; test -L near/link; test -x near/run; diff -r origin/d near/d
git clone -q file://$PWD/origin far; git -C far fsck --strict; test -z "$(git -C far status --porcelain)"`},

	// Two processes write in turns, one is killed in the middle of a transaction that has
	// reached the file, and a lock that one process has, another cannot get.
	{"sqlite", `
cat >work.py <<'P'
import os, signal, sqlite3, subprocess, sys
name, mode = sys.argv[1] + ".db", sys.argv[1]
count = lambda: subprocess.check_output(["sqlite3", name, "select count(*) from t; pragma integrity_check"], text=True)
if len(sys.argv) > 2:
    db = sqlite3.connect(name, timeout=600, isolation_level=None)
    if sys.argv[2] == "crash":
        db.execute("pragma cache_size=5"); db.execute("begin"); db.executemany("insert into t values(?)", (("x" * 900,) for _ in range(100)))
        print("killed", flush=True); os.kill(os.getpid(), signal.SIGKILL)
    for i in range(10):
        db.execute("insert into t values(?)", (i,))
    sys.exit()
db = sqlite3.connect(name, timeout=0, isolation_level=None)
assert db.execute("pragma journal_mode=" + mode).fetchone() == (mode,)
db.execute("create table t(a)")
workers = [subprocess.Popen([sys.executable, __file__, mode, "write"]) for _ in range(2)]
assert [w.wait() for w in workers] == [0, 0]
assert count() == "20\nok\n", count()
crash = subprocess.Popen([sys.executable, __file__, mode, "crash"], stdout=subprocess.PIPE, text=True)
assert crash.communicate()[0] == "killed\n" and crash.wait() == -signal.SIGKILL
assert count() == "20\nok\n", count()
db.execute("begin immediate")
other = subprocess.run(["sqlite3", name, "insert into t values(1)"], stderr=subprocess.PIPE, text=True)
assert "locked" in other.stderr, other
db.execute("insert into t values(1)")
assert count() == "20\nok\n", "not yet committed, and a reader need not wait"
db.execute("commit")
assert count() == "21\nok\n", count()
P
python3 work.py delete; python3 work.py wal`},

	{"pip", `
mkdir -p p/pkg; echo 'answer = lambda: print(42)' >p/pkg/__init__.py
printf 'from setuptools import setup\nsetup(name="pkg", version="1", packages=["pkg"], entry_points={"console_scripts": ["pkgcmd=pkg:answer"]})\n' >p/setup.py
python3 -m pip install -q --root-user-action ignore --no-index --no-build-isolation --no-cache-dir --target lib ./p
test "$(PYTHONPATH=lib lib/bin/pkgcmd)" = 42; test -e lib/pkg-1.dist-info/RECORD`},

	{"npm", `
mkdir -p dep/package app; cd dep; echo '{"name":"dep","version":"1.0.0","bin":{"depcmd":"c.js"}}' >package/package.json
printf '#!/usr/bin/env node\nconsole.log(7)\n' >package/c.js; tar -czf ../dep.tgz package; cd ../app; echo '{"name":"app","version":"1.0.0"}' >package.json
HOME=$PWD/home npm install --offline --no-audit --no-fund --silent ../dep.tgz
test -L node_modules/.bin/depcmd; test "$(node_modules/.bin/depcmd)" = 7; grep -q integrity package-lock.json`},
}

// TestPackageManagers has git and a database work in a share and in the root, and pip and
// npm if there is time; TestClients has these install in a share anyway.
func TestPackageManagers(t *testing.T) {
	works := packageWork[:2]
	if os.Getenv(fullEnv) != "" {
		works = packageWork
	}
	sb := create(t, msb.WithImage("clients"), msb.WithMemory(1024), bind("/share", t.TempDir(), msb.MountOptions{}))
	for _, place := range []string{"/share", "/root"} {
		for _, work := range works {
			t.Run(place[1:]+"/"+work.name, func(t *testing.T) {
				dir := place + "/" + work.name
				out, err := sb.Shell(within(t, 15*patience), "set -e; mkdir "+dir+"; cd "+dir+work.script)
				if assert.NoError(t, err) {
					assert.Zero(t, out.ExitCode(), "%s%s", out.Stdout(), out.Stderr())
				}
			})
		}
	}
}
