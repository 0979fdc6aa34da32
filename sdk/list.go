package microsandbox

import (
	"context"
	"errors"
	"strconv"

	"github.com/gomsb/gomsb/internal/store"
)

// SandboxListOption narrows a listing.
type SandboxListOption func(*listConfig)

type listConfig struct {
	labels map[string]string
	limit  uint32
	cursor string
}

const (
	defaultPage = 20
	largestPage = 10000
)

// WithListLabels keeps sandboxes that have all of these labels.
func WithListLabels(labels map[string]string) SandboxListOption {
	return func(c *listConfig) { c.labels = labels }
}

// WithListLimit sets the size of a page, 1 to 10000; default 20.
func WithListLimit(n uint32) SandboxListOption { return func(c *listConfig) { c.limit = n } }

// WithListCursor continues after the page that returned the cursor.
func WithListCursor(cursor string) SandboxListOption {
	return func(c *listConfig) { c.cursor = cursor }
}

// SandboxPage is one page of a listing, newest first.
type SandboxPage struct {
	Sandboxes  []*SandboxHandle
	NextCursor *string // nil on the last page
}

// ListSandboxes returns the first page of all sandboxes.
func ListSandboxes(ctx context.Context) (*SandboxPage, error) { return ListSandboxesWith(ctx) }

// ListSandboxesWith returns one page of the sandboxes that the options select.
func ListSandboxesWith(ctx context.Context, opts ...SandboxListOption) (*SandboxPage, error) {
	cfg := &listConfig{limit: defaultPage}
	for _, o := range opts {
		o(cfg)
	}
	f := store.Filter{Labels: cfg.labels, Limit: int(min(max(cfg.limit, 1), largestPage)) + 1}
	if cfg.cursor != "" {
		n, err := strconv.ParseInt(cfg.cursor, 10, 32)
		if err != nil || n < 1 {
			return nil, fail(ErrInvalidArgument, "invalid cursor: %s", cfg.cursor)
		}
		f.BeforeID = int32(n)
	}
	c, err := openOwnCatalog(ctx, false)
	if errors.Is(err, store.ErrNoDatabase) {
		return &SandboxPage{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.page(ctx, f)
}

// page returns up to f.Limit-1 sandboxes; one more tells that there is another page.
func (c *catalog) page(ctx context.Context, f store.Filter) (*SandboxPage, error) {
	rows, err := c.store.Sandboxes(ctx, f)
	if err != nil {
		return nil, wrap(ErrInternal, err)
	}
	page := &SandboxPage{}
	if len(rows) == f.Limit {
		rows = rows[:f.Limit-1]
		next := strconv.FormatInt(int64(rows[len(rows)-1].ID), 10)
		page.NextCursor = &next
	}
	for _, row := range rows {
		row, err := c.reconcile(ctx, row)
		if IsKind(err, ErrSandboxNotFound) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		page.Sandboxes = append(page.Sandboxes, &SandboxHandle{home: c.home, row: row})
	}
	return page, nil
}
