package registry

import (
	"context"
	"errors"
	"io"
	"time"
)

var errStalled = errors.New("the connection stalled")

// watch ends a request that gets nowhere for too long: a server that does not answer,
// including those that are asked for a token first, or a body that delivers nothing.
type watch struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

func newWatch(ctx context.Context, limit time.Duration) *watch {
	w := &watch{limit: limit}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(limit, func() { w.cancel(errStalled) })
	return w
}

// stop ends the request.
func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain replaces the error of a request that the watch ended.
func (w *watch) explain(err error) error {
	if err != nil && err != io.EOF && errors.Is(context.Cause(w.ctx), errStalled) {
		return errStalled
	}
	return err
}

// watched is a body under watch. Closing it ends the request.
type watched struct {
	io.ReadCloser
	watch *watch
}

// Read implements io.Reader. The time that the consumer takes does not count.
func (b *watched) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.limit)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	return n, b.watch.explain(err)
}

// Close implements io.Closer.
func (b *watched) Close() error {
	b.watch.stop()
	return b.ReadCloser.Close()
}
