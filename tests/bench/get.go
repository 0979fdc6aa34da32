//go:build linux

package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// get fetches a page many times, one after the other, and prints the median of the times
// and the 99th percentile, in nanoseconds. It runs in the guest. With keep, there is one
// connection, otherwise a new one for each request.
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
	slices.Sort(took)
	fmt.Println(int64(took[n/2]), int64(took[n*99/100]))
	return nil
}
