//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// get fetches a page many times, one after the other, and prints how long each took, in
// nanoseconds, a line each. It runs in the guest. With keep, there is one connection,
// otherwise a new one for each request.
func get(url, times string, keep bool) error {
	n, err := strconv.Atoi(times)
	if err != nil || n < 1 {
		return fmt.Errorf("not a number of requests: %q", times)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: !keep}}
	took := make([]time.Duration, n)
	for i := range took {
		begin := time.Now()
		res, err := c.Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		if err := res.Body.Close(); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		took[i] = time.Since(begin)
	}
	w := bufio.NewWriter(os.Stdout)
	for _, t := range took {
		fmt.Fprintln(w, int64(t))
	}
	return w.Flush()
}
