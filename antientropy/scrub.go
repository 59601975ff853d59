package antientropy

import (
	"context"
	"time"

	"github.com/kithdb/kith/store"
)

// scrubber is a store that can read what lies on its disk, some records at a time.
type scrubber interface {
	// ScrubPiece reads and checks what lies on disk behind a place, nil for the
	// beginning, until that is limitBytes long. next is nil when the pass is
	// over. An error is a failure to read at all: damage is the store's to
	// name, and no error.
	ScrubPiece(after []byte, limitBytes int) (next []byte, records int, bytes int, err error)
}

// measured is a store that knows how much it has on disk.
type measured interface{ Stats() store.Stats }

// How a pass of the scrub is cut up.
const (
	scrubPiece    = 256 << 10        // bytes read at once
	scrubWaitMin  = time.Millisecond // between pieces
	scrubWaitPart = 64               // of a pass, where the size of the disk is not known
)

// scrubLoop reads all records on disk, again and again, each time within
// Config.ScrubEvery, so that rot is found while other homes still have what
// rotted. It ends with ctx.
func (r *Repair) scrubLoop(ctx context.Context) error {
	s, ok := r.cfg.Store.(scrubber)
	if !ok {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		began := time.Now()
		if err := r.scrubPass(ctx, s); err != nil {
			return err
		}
		if err := sleep(ctx, max(scrubWaitMin, r.cfg.ScrubEvery-time.Since(began))); err != nil {
			return err
		}
	}
}

// scrubPass reads every record once. It fails only with ctx: a store that cannot be
// read now is read later.
func (r *Repair) scrubPass(ctx context.Context, s scrubber) error {
	var after []byte
	for {
		next, records, bytes, err := s.ScrubPiece(after, scrubPiece)
		r.scrubbed.Add(int64(records))
		wait := r.scrubWait(bytes)
		switch {
		case err != nil:
			r.cfg.Logger.Debug("scrub waits for the store", "error", err)
			wait = r.cfg.ScrubEvery / scrubWaitPart
		case next == nil:
			return nil
		default:
			after = next
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// scrubWait is how long a piece of so many bytes on disk may take of a pass.
func (r *Repair) scrubWait(bytes int) time.Duration {
	m, ok := r.cfg.Store.(measured)
	if !ok {
		return r.cfg.ScrubEvery / scrubWaitPart
	}
	stats := m.Stats()
	r.rotten.Store(stats.Rotten)
	part := min(1, float64(bytes)/float64(max(stats.DiskBytes, 1)))
	return max(scrubWaitMin, time.Duration(part*float64(r.cfg.ScrubEvery)))
}

// sleep waits, or fails with ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
