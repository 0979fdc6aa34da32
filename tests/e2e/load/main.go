//go:build linux

package main

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/guestagent/agent/hostlink"
)

const (
	blockSize = 8 << 10  // of the streams, in bytes
	fileSize  = 64 << 10 // in bytes
	maxFiles  = 30
)

// load is all that goes on. It ends with the stream to the host, and so does it in a copy by
// itself, which has no such stream any more.
type load struct {
	dir  string // what is written; "up" and "down" are how the streams ended, "over" is there in the end
	over atomic.Bool
}

// load DIR UP DOWN, with the vsock ports of the streams to and from the host.
func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: load DIR UP DOWN")
	}
	l := &load{dir: os.Args[1]}
	if err := l.run(os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func (l *load) run(up, down string) error {
	if err := os.MkdirAll(filepath.Join(l.dir, "sums"), 0o755); err != nil {
		return err
	}
	n := runtime.NumCPU()
	runtime.GOMAXPROCS(n + 3) // the others need not wait for those that spin
	var failed [3]error
	var wg sync.WaitGroup
	wg.Go(func() { failed[0] = l.stream("up", up, send); l.over.Store(true) })
	wg.Go(func() { failed[1] = l.stream("down", down, receive) })
	wg.Go(func() { failed[2] = l.write() })
	for range n {
		wg.Go(l.spin)
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return l.note("over", "")
}

// note makes a file at once.
func (l *load) note(name, text string) error {
	fresh := filepath.Join(l.dir, "new."+name)
	if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, filepath.Join(l.dir, name))
}

// spin uses all that nobody else wants of a processor: else emulated guests, to whose timer
// most of it goes, come to nothing.
func (l *load) spin() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	for n := 0; n&0xffff != 0 || !l.over.Load(); n++ { //nolint:revive // it does nothing but that
	}
}

// write writes files with fsync, whose names are their checksums.
func (l *load) write() error {
	var files []string
	for !l.over.Load() {
		block := make([]byte, fileSize)
		_, _ = rand.Read(block) // never fails
		fresh := filepath.Join(l.dir, "new")
		f, err := os.Create(fresh)
		if err != nil {
			return err
		}
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		files = append(files, filepath.Join(l.dir, "sums", fmt.Sprintf("%x", md5.Sum(block))))
		if err := os.Rename(fresh, files[len(files)-1]); err != nil {
			return err
		}
		if len(files) > maxFiles {
			if err := os.Remove(files[0]); err != nil {
				return err
			}
			files = files[1:]
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// stream notes how f ends with a connection to the host.
func (l *load) stream(name, port string, f func(io.ReadWriter) error) error {
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil {
		return err
	}
	c, err := hostlink.Dial(uint32(n))
	if err != nil {
		return err
	}
	return l.note(name, fmt.Sprintln(f(c)))
}

// numbered is a block of a stream.
func numbered(i uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, i), blockSize/8)
}

func send(c io.ReadWriter) error {
	for i := uint64(0); ; i++ {
		if _, err := c.Write(numbered(i)); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
}

func receive(c io.ReadWriter) error {
	b := make([]byte, blockSize)
	for i := uint64(0); ; i++ {
		switch _, err := io.ReadFull(c, b); {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return fmt.Errorf("ended after %d blocks", i)
		case err != nil:
			return fmt.Errorf("reset: %w", err)
		case !bytes.Equal(b, numbered(i)):
			return fmt.Errorf("block %d came as %x", i, b[:8])
		}
	}
}
