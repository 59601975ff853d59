package antientropy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// How an audit with one home is cut up.
const (
	// lookAgain is how long a write may be under way before keys that differ
	// are looked at again.
	lookAgain = 2 * time.Second
	// suspectsMax is how many keys wait for that at once.
	suspectsMax = 8192
	// transferMax is about how many bytes of records one message has; a larger
	// record goes alone.
	transferMax = 1 << 20
	// auditCallMax is how long one question may take. A home may have to read
	// megabytes for it.
	auditCallMax = 15 * time.Second
)

// auditOutcome is what one audit with one home came to.
type auditOutcome struct {
	// Audited partitions were compared, and what differed was merged both ways.
	Audited int
	// Skipped are the others.
	Skipped []skipped
	// Differences are keys whose copies differed at the second look too.
	Differences int64
	// Pulled and Pushed count records that were merged here and there, Bytes
	// what they are long together.
	Pulled, Pushed, Bytes int64
	// Anomalies are sentences about differences that catch-up should have
	// mended, at most anomaliesMax.
	Anomalies []string
}

// skipped is a partition that could not be audited, and why.
type skipped struct {
	p   ring.Partition
	why error
}

// audit compares this node's copy of a partition with another home's and merges
// what differs both ways; all of it is on both disks when it returns without an
// error. full compares the whole lists of keys, and mends what differs without a
// second look: for a partition that has lost something, whose tree says nothing.
// Without it a partition whose tree cannot be trusted, on either side, is an error.
func (r *Repair) audit(ctx context.Context, with ring.NodeID, p ring.Partition, full bool) (auditOutcome, error) {
	out, err := r.auditWith(ctx, with, []ring.Partition{p}, full)
	if err == nil && len(out.Skipped) > 0 {
		err = out.Skipped[0].why
	}
	return out, err
}

// auditWith audits partitions with one home and counts what came of it. An error
// means that the home was not asked about all of them.
func (r *Repair) auditWith(ctx context.Context, with ring.NodeID, partitions []ring.Partition, full bool) (auditOutcome, error) {
	a := &pairAudit{r: r, with: with, full: full, atOnce: full}
	err := a.run(ctx, partitions)
	if err == nil {
		a.out.Audited = len(partitions) - len(a.out.Skipped)
	}
	r.audited.Add(int64(a.out.Audited))
	r.differences.Add(a.out.Differences)
	return a.out, err
}

// pairAudit is an audit of some partitions with one home.
type pairAudit struct {
	r    *Repair
	with ring.NodeID
	// full compares whole lists, and not only what the trees show.
	full bool
	// atOnce mends what differs without a second look, which makes no anomaly.
	atOnce bool
	// epoch is that of the move for which this is done, 0 for none.
	epoch uint64
	out   auditOutcome
}

// cursor is how far the lists of one partition are compared.
type cursor struct {
	p      ring.Partition
	leaves leafSet
	after  []byte
}

// suspect is a partition with keys that differed when their lists were compared.
type suspect struct {
	p    ring.Partition
	keys [][]byte
}

func (a *pairAudit) run(ctx context.Context, partitions []ring.Partition) error {
	var cursors []cursor
	if a.full {
		for _, p := range partitions {
			cursors = append(cursors, cursor{p: p, leaves: allLeaves()})
		}
	} else {
		var err error
		if cursors, err = a.descend(ctx, partitions); err != nil {
			return err
		}
	}
	failed := map[ring.Partition]bool{}
	for len(cursors) > 0 {
		var suspects []suspect
		suspects, cursors = a.suspects(ctx, cursors)
		if len(suspects) > 0 && !a.atOnce {
			if err := sleep(ctx, lookAgain); err != nil {
				return err
			}
		}
		for _, s := range suspects {
			if failed[s.p] {
				continue
			}
			if err := a.settle(ctx, s); err != nil {
				a.skip(s.p, err)
				failed[s.p] = true
			}
		}
		cursors = slices.DeleteFunc(cursors, func(c cursor) bool { return failed[c.p] })
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// skip notes that a partition is not audited.
func (a *pairAudit) skip(p ring.Partition, why error) {
	a.out.Skipped = append(a.out.Skipped, skipped{p, why})
}

// suspects lists keys that differ, until there are as many as may wait, and what
// is left to compare.
func (a *pairAudit) suspects(ctx context.Context, cursors []cursor) (found []suspect, left []cursor) {
	room := suspectsMax
	for i := range cursors {
		c := &cursors[i]
		s := suspect{p: c.p}
		var err error
		for more := true; more && err == nil; {
			if room == 0 {
				return append(found, s), cursors[i:]
			}
			var keys [][]byte
			keys, more, err = a.page(ctx, c, room)
			s.keys = append(s.keys, keys...)
			room -= len(keys)
		}
		switch {
		case err != nil:
			a.skip(c.p, err)
		case len(s.keys) > 0:
			found = append(found, s)
		}
	}
	return found, nil
}

// page compares one page of both lists and moves the cursor behind it.
func (a *pairAudit) page(ctx context.Context, c *cursor, room int) (differ [][]byte, more bool, err error) {
	req := &listRequest{Partition: c.p, Leaves: c.leaves, After: c.after}
	if req.Epoch = a.epoch; a.epoch == 0 {
		if rec := a.r.cfg.Rings.Current(); rec != nil {
			req.Epoch = rec.Epoch
		}
	}
	page, err := askMuch(ctx, a.r, a.with, listRoute, req)
	if err == nil {
		err = page.check(c.after)
	}
	if err != nil {
		return nil, false, fmt.Errorf("audit: list partition %d at %s: %w", c.p, a.with.Short(), err)
	}
	if err := a.r.pace.take(ctx, listSize(page)); err != nil {
		return nil, false, err
	}
	cmp := comparison{p: c.p, leaves: c.leaves, page: page, room: room}
	err = a.r.cfg.Store.Scan(c.p, c.after, 0, func(key, record []byte) bool {
		return ctx.Err() == nil && cmp.add(key, version.LeafOf(record))
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		// What was not read is not absent.
		return nil, false, fmt.Errorf("audit: list partition %d here: %w", c.p, err)
	}
	if cmp.last == nil {
		cmp.before(nil)
	}
	if cmp.last != nil {
		c.after = cmp.last
		return cmp.differ, true, nil
	}
	c.after = page.Next
	return cmp.differ, !page.Done, nil
}

func listSize(m *listResponse) int {
	n := 0
	for i := range m.Items {
		n += len(m.Items[i].Key) + 16
	}
	return n
}

// settle looks again at keys that differed and mends what still does.
func (a *pairAudit) settle(ctx context.Context, s suspect) error {
	for keys := s.keys; len(keys) > 0; {
		n := min(len(keys), keysMax)
		some := keys[:n]
		keys = keys[n:]
		if !a.atOnce {
			var err error
			if some, err = a.still(ctx, s.p, some); err != nil {
				return err
			}
		}
		for len(some) > 0 {
			done, err := a.mend(ctx, s.p, some)
			if err != nil {
				return err
			}
			some = some[done:]
		}
	}
	return nil
}

// still are those of the keys that differ now.
func (a *pairAudit) still(ctx context.Context, p ring.Partition, keys [][]byte) ([][]byte, error) {
	resp, err := ask(ctx, a.r, a.with, digestsRoute, &digestsRequest{p, keys})
	if err == nil && len(resp.Leaves) != len(keys) {
		err = fmt.Errorf("%d digests of %d keys", len(resp.Leaves), len(keys))
	}
	if err != nil {
		return nil, fmt.Errorf("audit: digests of partition %d at %s: %w", p, a.with.Short(), err)
	}
	var out [][]byte
	for i, key := range keys {
		record, err := a.r.cfg.Store.Get(p, key)
		if err != nil {
			return nil, fmt.Errorf("audit: read key %.64q: %w", key, err)
		}
		if version.LeafOf(record) != resp.Leaves[i] {
			out = append(out, key)
		}
	}
	return out, nil
}
