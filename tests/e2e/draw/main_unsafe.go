//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gomsb/gomsb/tests/e2e/draw/record"
)

const (
	most = 1 << 17              // records of a worker, whose memory is its own from the start
	rest = 2 * time.Millisecond // between two of them
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: draw FILE")
		os.Exit(2)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	if err := errors.Join(os.WriteFile(os.Args[1], nil, 0o644), draw(os.Args[1], stop)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// draw runs the workers until stop, and writes what they have.
func draw(file string, stop <-chan os.Signal) error {
	var ended atomic.Bool
	var workers sync.WaitGroup
	base := time.Now()
	answers := make([][]record.Record, 2)
	for i, ask := range []func([]byte) error{vdso, syscall} {
		workers.Go(func() { answers[i] = work(base, ask, &ended) })
	}
	<-stop
	ended.Store(true)
	workers.Wait()
	for i, all := range answers {
		b := make([]byte, 0, len(all)*record.Size)
		for j := range all {
			b = record.Append(b, &all[j])
		}
		name := fmt.Sprintf("%s.%d", file, i)
		if err := os.WriteFile(name+".new", b, 0o644); err != nil {
			return err
		}
		if err := os.Rename(name+".new", name); err != nil {
			return err
		}
	}
	return nil
}

// work is one worker, on a thread of its own.
func work(base time.Time, ask func([]byte) error, ended *atomic.Bool) []record.Record {
	runtime.LockOSThread()
	all := make([]record.Record, 0, most)
	pause := unix.NsecToTimespec(rest.Nanoseconds())
	for !ended.Load() {
		_ = unix.Nanosleep(&pause, nil) // fails only when a signal ends it
		if len(all) == most {
			continue
		}
		r := record.Record{Began: int64(time.Since(base))}
		if err := ask(r.Value[:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		r.Wall = time.Now().UnixNano()
		all = append(all, r)
	}
	return all
}

func vdso(b []byte) error {
	_, err := unix.Getrandom(b, 0)
	return err
}

func syscall(b []byte) error {
	// SAFETY: the kernel writes no more than len(b) bytes, which are there.
	if _, _, errno := unix.RawSyscall(unix.SYS_GETRANDOM, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0); errno != 0 {
		return errno
	}
	return nil
}
