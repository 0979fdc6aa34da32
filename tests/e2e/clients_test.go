//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	msb "github.com/gomsb/gomsb/sdk"
)

// clients are scripts of real programs that stop at what fails. SUM is what sha256sum says
// of the web site's /body. Git pushes by HTTP/1.1: on a socket that is full its libcurl
// 7.88.1 with GnuTLS sends DATA of HTTP/2 again, whatever is in between, and the server
// resets the stream that is longer than it was said to be.
var clients = []struct{ name, script string }{
	{"curl", `
test "$(curl -4 -sS --http1.1 https://www.good.test/hello)" = "HTTP/1.1 www.good.test www.good.test"
test "$(curl -6 -sS --http2 https://www.good.test/hello)" = "HTTP/2.0 www.good.test www.good.test"
curl -4 -sS -Z --http2 -o a1 https://www.good.test/body -o a2 https://www.good.test/body -o a3 https://www.good.test/body
test "$(sha256sum a1 a2 a3 | cut -d' ' -f1 | uniq)" = SUM
test "$(curl -6 -sS --data-binary @a1 https://www.good.test/sum)" = SUM`},

	{"wget", `
wget -q -O b4 https://v4.good.test/body; wget -q -O b6 https://v6.good.test/body
test "$(sha256sum b4 b6 | cut -d' ' -f1 | uniq)" = SUM`},

	{"requests", `
cat >r.py <<'P'
import requests
for host in "v4.good.test", "v6.good.test":
    s, u = requests.Session(), "https://" + host
    for i in range(5):
        assert s.get(u + "/hello").text == "HTTP/1.1 %s %s\n" % (host, host)
    body = s.get(u + "/body", stream=True).raw.read()
    sent = (body[i:i + 100000] for i in range(0, len(body), 100000))
    assert s.post(u + "/sum", data=sent).text.strip() == "SUM", "chunks"
P
python3 r.py`},

	{"pip", `
python3 -m pip install -q --root-user-action ignore --no-cache-dir --disable-pip-version-check --index-url https://v6.good.test/simple/ --target lib answer
test "$(PYTHONPATH=lib python3 -c 'import answer; print(answer.value)')" = 42`},

	{"npm", `
echo '{"name":"app","version":"1.0.0"}' >package.json
npm install --no-audit --no-fund --silent --registry https://v4.good.test/npm/ answer
test "$(node -p 'require("answer")')" = 42; grep -q 'https://v4.good.test/npm/answer/-/' package-lock.json`},

	{"git", `
git clone -q https://v6.good.test/git/answer a; cd a; head -c 300000 /dev/urandom >random
git add .; git -c user.email=a@b -c user.name=n commit -qm two; git -c http.version=HTTP/1.1 push -q; cd ..
git clone -q https://v4.good.test/git/answer b; cmp a/random b/random`},

	{"ssh", `
head -c 1000000 /dev/urandom >random; printf '%s' "$IDENTITY" >identity; chmod 600 identity; printf '%s' "$KNOWN" >known
options="-i identity -o BatchMode=yes -o UserKnownHostsFile=known"
ssh $options user@v4.good.test cat <random | cmp - random
code=0; ssh $options user@v6.good.test fail || code=$?; test $code = 3`},

	{"dig", `
test "$(dig +short www.good.test)" = WORLD4; test "$(dig +short AAAA www.good.test)" = WORLD6
test "$(dig +tcp +short www.good.test)" = WORLD4
test "$(dig +short @WORLD4 www.good.test)" = WORLD4; test "$(dig +tcp +short @WORLD4 www.good.test)" = WORLD4
test "$(dig +short @$(ip -6 route | sed -n 's/default via \([^ ]*\).*/\1/p') www.good.test)" = WORLD4
dig unknown.test | grep -q 'status: NXDOMAIN'; dig +noall +comments TXT www.good.test | grep -q 'status: NOERROR'`},

	{"ping", `ping -4 -q -c 5 -i 0.2 -W 60 -s 1400 www.good.test; ping -6 -q -c 5 -i 0.2 -W 60 -s 1400 www.good.test`},

	{"websocket", `
cat >w.py <<'P'
import asyncio, os, websockets
async def talk(host):
    async with websockets.connect("wss://" + host + "/socket", open_timeout=None, close_timeout=None, max_size=None) as s:
        for size in 0, 1, 125, 126, 65535, 65536, 500000:
            m = os.urandom(size); await s.send(m)
            assert await s.recv() == m, size
        await (await s.ping())
        await s.send("text"); await s.recv()
async def all():
    await asyncio.gather(*(talk(h) for h in ("v4.good.test", "v6.good.test")))
asyncio.run(all())
P
python3 w.py`},

	// A bidirectional stream: each message goes out when the answer to the one before is there.
	{"stream", `
cat >s.js <<'J'
const http2 = require('http2');
const c = http2.connect('https://v6.good.test');
const s = c.request({':method': 'POST', ':path': '/answer.Service/Echo', 'content-type': 'application/grpc', te: 'trailers'});
const sizes = [0, 1, 1000, 100000, 500000];
let got = Buffer.alloc(0), sent;
function send() {
  if (!sizes.length) return s.end();
  const n = sizes.shift();
  sent = Buffer.alloc(5 + n, n); sent[0] = 0; sent.writeUInt32BE(n, 1);
  s.write(sent);
}
s.on('data', d => {
  got = Buffer.concat([got, d]);
  if (got.length < sent.length) return;
  if (!got.equals(sent)) throw new Error('another message');
  got = Buffer.alloc(0); send();
});
s.on('trailers', h => { console.log('status ' + h['grpc-status'] + ', left ' + sizes.length); c.close(); });
send();
J
test "$(node s.js)" = "status 0, left 0"`},

	{"short connections", `
cat >c.py <<'P'
import socket
from concurrent.futures import ThreadPoolExecutor
def one(i):
    with socket.create_connection((("WORLD4", "WORLD6")[i % 2], 7), 300) as s:
        m = b"%d" % i; s.sendall(m); s.shutdown(socket.SHUT_WR)
        assert s.makefile("rb").read() == m
with ThreadPoolExecutor(16) as pool:
    assert len(list(pool.map(one, range(SHORT)))) == SHORT
P
python3 c.py`},

	{"idle connections", `
cat >i.py <<'P'
import resource, socket, time
from concurrent.futures import ThreadPoolExecutor
resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 100, IDLE + 100))
with ThreadPoolExecutor(16) as pool:
    all = list(pool.map(lambda i: socket.create_connection((("WORLD4", "WORLD6")[i % 2], 7), 300), range(IDLE)))
time.sleep(2)
for i, s in enumerate(all):
    s.sendall(b"%d" % i)
for i, s in enumerate(all):
    assert s.recv(100) == b"%d" % i
P
python3 i.py`},
}

// TestClients has the programs that people use talk to servers in a small Internet, whose
// links delay packets and lose some. They work in a share.
func TestClients(t *testing.T) {
	if !inNameSpace(t) {
		return
	}
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0))
	w := newWorld(t)
	s := newServers(t, w)
	impair(t)
	short, idle := 400, 200
	if os.Getenv(fullEnv) != "" {
		short, idle = 10_000, 1_000
	}
	t.Logf("%d short connections, %d idle ones", short, idle)
	sum := sha256.Sum256(w.body)
	fill := strings.NewReplacer("SUM", hex.EncodeToString(sum[:]), "WORLD4", world4, "WORLD6", world6, "SHORT", fmt.Sprint(short), "IDLE", fmt.Sprint(idle))

	most := uint(idle + 100)
	sb := w.sandbox(t, &msb.NetworkConfig{MaxConnections: &most}, msb.WithImage("clients"), msb.WithMemory(1024), bind("/share", t.TempDir(), msb.MountOptions{}), msb.WithEnv(map[string]string{
		"IDENTITY": string(s.identity), "KNOWN": s.known, "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt", "NODE_EXTRA_CA_CERTS": "/tmp/ca.pem",
	}))
	require.NoError(t, sb.FS().Write(within(t, long), "/tmp/ca.pem", s.ca))
	w.succeeds(t, sb, "cat /tmp/ca.pem >>/etc/ssl/certs/ca-certificates.crt")
	for i, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			out, err := sb.Shell(within(t, 15*patience), fmt.Sprintf("set -e; mkdir /share/%d; cd /share/%[1]d; export HOME=$PWD; ", i)+fill.Replace(c.script))
			if assert.NoError(t, err) {
				assert.Zero(t, out.ExitCode(), "%s%s", out.Stdout(), out.Stderr())
			}
		})
	}
}

// impair has the links of this name space delay packets, and lose some, if the kernel
// knows how to. That of the testbed does.
func impair(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "tc", strings.Fields("qdisc add dev lo root netem delay 5ms 2ms loss 1%")...).CombinedOutput()
	if os.Getenv("TESTBED") == "" && err != nil {
		t.Logf("links are perfect here: tc: %v: %s", err, out)
		return
	}
	require.NoError(t, err, "tc: %s", out)
}
