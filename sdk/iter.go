package microsandbox

import (
	"context"
	"iter"
)

// each is what next returns until it returns neither a value nor an error. An error is the
// last element.
func each[T any](next func() (*T, error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for {
			v, err := next()
			if v == nil && err == nil || !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Entries are the entries of the stream to its end. An error is the last element.
func (h *LogStreamHandle) Entries(ctx context.Context) iter.Seq2[*LogEntry, error] {
	return each(func() (*LogEntry, error) { return h.Recv(ctx) })
}

// Samples are the samples of the stream to its end. An error is the last element.
func (h *MetricsStreamHandle) Samples(ctx context.Context) iter.Seq2[*Metrics, error] {
	return each(func() (*Metrics, error) { return h.Recv(ctx) })
}

// Frames are the frames of the stream to its end. An error is the last element.
func (s *AgentStream) Frames(ctx context.Context) iter.Seq2[*RawFrame, error] {
	return each(func() (*RawFrame, error) { return s.Next(ctx) })
}

// AllSandboxes are the sandboxes that the options select, page after page. An error is the
// last element.
func AllSandboxes(ctx context.Context, opts ...SandboxListOption) iter.Seq2[*SandboxHandle, error] {
	var page *SandboxPage
	return each(func() (*SandboxHandle, error) {
		for page == nil || len(page.Sandboxes) == 0 {
			if page != nil {
				if page.NextCursor == nil {
					return nil, nil
				}
				opts = append(opts[:len(opts):len(opts)], WithListCursor(*page.NextCursor))
			}
			var err error
			if page, err = ListSandboxesWith(ctx, opts...); err != nil {
				return nil, err
			}
		}
		h := page.Sandboxes[0]
		page.Sandboxes = page.Sandboxes[1:]
		return h, nil
	})
}
