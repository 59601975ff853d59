package antientropy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

const (
	// mergeTries bounds how often a merge is tried that the store had no room
	// for, each mergeRetry after the last.
	mergeTries = 40
	mergeRetry = 100 * time.Millisecond
)

// item is another home's record of a key, or the news that it has none.
type item struct {
	key     []byte
	encoded []byte // nil for no record
	// judged are the siblings here that a verdict of that home may end: it was
	// weighed against them.
	judged []version.Dot
}

// verdict is what the home that items come from says of what they lack: of
// whatever base covers, it knows that it was replaced or forgotten. base was read
// before the items. A home that lost something gives none.
type verdict struct {
	given bool
	base  version.Context
}

// mergeHere merges records of a partition into this node's and returns once all
// of them are on disk, or one has failed. What failed changes nothing; the others
// may be merged, and merging again does no harm.
func (r *Repair) mergeHere(ctx context.Context, p ring.Partition, items []item, v verdict) error {
	rec := r.current()
	if rec == nil {
		return fmt.Errorf("%w: no ring record", api.ErrNotReady)
	}
	if !rec.Holds(p, r.cfg.Self) {
		return fmt.Errorf("%w: partition %d at epoch %d", api.ErrNotHome, p, rec.Epoch)
	}
	return r.mergeBy(ctx, rec, rec.Epoch, p, items, v, r.pace.rest)
}

// mergeBy is mergeHere by a ring record and an epoch, with a rest after each burst. A
// fence that is newer than the epoch refuses all that is not in the store yet: the
// partition may have been dropped since, and what comes behind that would stay for ever.
func (r *Repair) mergeBy(ctx context.Context, rec *ring.Record, epoch uint64, p ring.Partition, items []item, v verdict,
	rest func(ctx context.Context, took time.Duration) error) error {
	for len(items) > 0 {
		n := min(len(items), r.pace.burst())
		merges := make([]*store.Merge, 0, n)
		for _, it := range items[:n] {
			m := &store.Merge{Partition: p, Epoch: epoch, Record: version.Record{Key: it.key}, Verdict: v.given, Base: v.base, Judged: it.judged}
			if it.encoded == nil {
				if !v.given {
					continue // it says nothing
				}
			} else {
				record, err := version.Parse(it.encoded)
				if err != nil {
					return fmt.Errorf("merge key %.64q: %w", it.key, err)
				}
				m.Record, m.Encoded = record, it.encoded
			}
			if q := rec.PartitionOf(m.Record.Key); q != p {
				return fmt.Errorf("%w: merge key %.64q of partition %d into partition %d", api.ErrBadRequest, m.Record.Key, q, p)
			}
			merges = append(merges, m)
		}
		began := time.Now()
		if err := r.mergeAll(ctx, merges); err != nil {
			return err
		}
		if err := rest(ctx, time.Since(began)); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// outcome is what became of one merge of several.
type outcome struct {
	at  int
	err error
}

// mergeSink tells one of several merges from the others.
type mergeSink struct {
	at  int
	out chan<- outcome // never full
}

// Committed implements store.MergeSink.
func (s mergeSink) Committed(err error) { s.out <- outcome{s.at, err} }

// mergeAll gives merges to the store, waits for all and returns the first failure.
// What the store has no room for is given again.
func (r *Repair) mergeAll(ctx context.Context, merges []*store.Merge) error {
	for try := 1; len(merges) > 0; try++ {
		out := make(chan outcome, len(merges))
		for i, m := range merges {
			m.Sink = mergeSink{i, out}
		}
		r.cfg.Store.MergeAll(merges)
		var again []*store.Merge
		var failed error
		for range merges {
			var o outcome
			select {
			case o = <-out:
			case <-ctx.Done():
				return ctx.Err()
			}
			switch {
			case o.err == nil:
			case errors.Is(o.err, store.ErrOverloaded) && try < mergeTries:
				again = append(again, merges[o.at])
			case failed == nil:
				failed = fmt.Errorf("merge key %.64q: %w", merges[o.at].Record.Key, o.err)
			}
		}
		if failed != nil {
			return failed
		}
		if merges = again; len(merges) > 0 {
			if err := sleep(ctx, mergeRetry); err != nil {
				return err
			}
		}
	}
	return nil
}
