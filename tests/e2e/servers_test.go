//go:build e2e

package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/net/websocket"
)

// servers are what a world has for real clients, on the usual ports of all addresses: its
// web site with TLS, which is also a mirror of Python's and npm's packages and keeps git
// repositories, an SSH server and an echo server.
type servers struct {
	ca       []byte // certificate that vouches for the web site, PEM
	identity []byte // private key that the SSH server accepts, PEM
	known    string // its line in a known_hosts file, for all names
}

// newServers starts the servers. Everything they have is called answer.
func newServers(t *testing.T, w *world) *servers {
	s := &servers{}
	w.site.HandleFunc("GET /hello", func(rw http.ResponseWriter, r *http.Request) {
		name := ""
		if r.TLS != nil {
			name = r.TLS.ServerName
		}
		fmt.Fprintf(rw, "%s %s %s\n", r.Proto, r.Host, name)
	})
	servePython(t, w.site)
	serveNPM(t, w.site)
	serveGit(t, w.site)
	w.site.Handle("GET /socket", websocket.Server{Handler: func(c *websocket.Conn) {
		for {
			var m []byte
			if websocket.Message.Receive(c, &m) != nil || websocket.Message.Send(c, m) != nil {
				return
			}
		}
	}})
	w.site.HandleFunc("POST /answer.Service/Echo", serveStream)

	cert, ca := newCertificate(t, "*.good.test", "bad.test")
	s.ca = ca
	l, err := net.Listen("tcp", ":443")
	require.NoError(t, err)
	web := &http.Server{Handler: w.site, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	go func() { _ = web.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = web.Close() })
	serveTCP(t, ":7", func(c net.Conn) { _, _ = io.Copy(c, c) })
	s.serveSSH(t)
	return s
}

// newCertificate makes a certificate for the names, and one of who vouches for it, as PEM.
func newCertificate(t *testing.T, names ...string) (tls.Certificate, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	year := 365 * 24 * time.Hour
	parent := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-year), NotAfter: time.Now().Add(year),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca, err := x509.CreateCertificate(rand.Reader, parent, parent, key.Public(), key)
	require.NoError(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: parent.NotBefore, NotAfter: parent.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca})
}

// serveTCP calls serve for each connection to an address, and closes it then.
func serveTCP(t *testing.T, addr string, serve func(net.Conn)) {
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				serve(c)
				_ = c.Close()
			}()
		}
	}()
}

// file answers requests for a path with content.
func file(site *http.ServeMux, path, kind string, content []byte) {
	site.HandleFunc("GET "+path, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", kind)
		_, _ = rw.Write(content)
	})
}

// servePython has an index of PEP 503 with one wheel.
func servePython(t *testing.T, site *http.ServeMux) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range [][2]string{
		{"answer.py", "value = 42\n"},
		{"answer-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1.0\n"},
		{"answer-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{"answer-1.0.dist-info/RECORD", "answer.py,,\nanswer-1.0.dist-info/METADATA,,\nanswer-1.0.dist-info/WHEEL,,\nanswer-1.0.dist-info/RECORD,,\n"},
	} {
		o, err := z.Create(f[0])
		require.NoError(t, err)
		_, err = io.WriteString(o, f[1])
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	const wheel = "/wheels/answer-1.0-py3-none-any.whl"
	file(site, wheel, "application/octet-stream", b.Bytes())
	file(site, "/simple/answer/", "text/html", fmt.Appendf(nil, "<!DOCTYPE html><a href=%q>answer</a>", fmt.Sprintf("%s#sha256=%x", wheel, sha256.Sum256(b.Bytes()))))
}

// serveNPM has a registry below /npm with one package.
func serveNPM(t *testing.T, site *http.ServeMux) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	o := tar.NewWriter(z)
	for _, f := range [][2]string{{"package/package.json", `{"name":"answer","version":"1.0.0"}`}, {"package/index.js", "module.exports = 42\n"}} {
		require.NoError(t, o.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}))
		_, err := io.WriteString(o, f[1])
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(o.Close(), z.Close()))
	file(site, "/npm/answer/-/answer-1.0.0.tgz", "application/octet-stream", b.Bytes())
	sum := sha512.Sum512(b.Bytes())
	site.HandleFunc("GET /npm/answer", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"name":"answer","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"answer","version":"1.0.0",
			"dist":{"tarball":"https://%s/npm/answer/-/answer-1.0.0.tgz","integrity":"sha512-%s"}}}}`, r.Host, base64.StdEncoding.EncodeToString(sum[:]))
	})
}

// serveGit has the repository /git/answer, to read from and write to.
func serveGit(t *testing.T, site *http.ServeMux) {
	root := t.TempDir()
	git := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.TrimSpace(string(out))
	}
	repo := filepath.Join(root, "answer")
	git("init", "-q", "--bare", repo)
	git("-C", repo, "config", "http.receivepack", "true")
	tree := git("-C", repo, "mktree")
	git("-C", repo, "update-ref", "HEAD", git("-C", repo, "-c", "user.name=n", "-c", "user.email=a@b", "commit-tree", "-m", "one", tree))
	backend := &cgi.Handler{
		Path: filepath.Join(git("--exec-path"), "git-http-backend"), Root: "/git",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	site.Handle("GET /git/", backend)
	site.Handle("POST /git/", backend)
}

// serveStream sends the messages of a stream, framed as gRPC's, back one by one.
func serveStream(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "application/grpc")
	rw.Header().Set("Trailer", "Grpc-Status")
	c := http.NewResponseController(rw)
	_ = c.Flush()
	status := "0"
	for {
		var head [5]byte // compressed or not, length
		_, err := io.ReadFull(r.Body, head[:])
		if err == io.EOF {
			break
		}
		if n := binary.BigEndian.Uint32(head[1:]); err == nil && n < 1<<20 {
			b := make([]byte, 5+n)
			copy(b, head[:])
			if _, err = io.ReadFull(r.Body, b[5:]); err == nil {
				_, err = rw.Write(b)
			}
		}
		if err != nil || c.Flush() != nil {
			status = "13"
			break
		}
	}
	rw.Header().Set("Grpc-Status", status)
}

// serveSSH has a server that knows the commands cat and fail.
func (s *servers) serveSSH(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	s.identity = pem.EncodeToMemory(block)
	signer, err := ssh.NewSignerFromSigner(private) // the server's key too
	require.NoError(t, err)
	s.known = "* " + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	want, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), want.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(signer)
	serveTCP(t, ":22", func(c net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		for ch := range channels {
			go session(ch)
		}
		_ = conn.Wait()
	})
}

func session(ch ssh.NewChannel) {
	if ch.ChannelType() != "session" {
		_ = ch.Reject(ssh.UnknownChannelType, "only sessions")
		return
	}
	c, requests, err := ch.Accept()
	if err != nil {
		return
	}
	for r := range requests {
		var command struct{ Line string }
		ok := r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil
		_ = r.Reply(ok, nil)
		if !ok {
			continue
		}
		status := struct{ Code uint32 }{3}
		if command.Line == "cat" {
			_, _ = io.Copy(c, c)
			status.Code = 0
		}
		_, _ = c.SendRequest("exit-status", false, ssh.Marshal(status))
		_ = c.Close()
	}
}
