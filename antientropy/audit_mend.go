package antientropy

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// held is this node's copy of a key, without its values.
type held struct {
	leaf version.Digest
	dots []version.Dot // of the siblings
	// alive are those that can be read, and seen is what the record has seen.
	alive []version.Dot
	seen  version.Context
	// dead says that nothing can be read of it any more.
	dead bool
}

// glance is what this node holds of some keys, and what its clock said before it
// looked: all that the clock claims is in the records.
type glance struct {
	// verdict says that what base covers and a record lacks is known to have been
	// replaced or forgotten.
	verdict bool
	clock   store.Clock
	era     uint64 // of the partition: another one says that something was lost since
}

// look reads records, until each returns false. The clock is read first, and counts
// only if nothing was lost meanwhile.
func (r *Repair) look(p ring.Partition, keys [][]byte, each func(i int, encoded []byte, record *version.Record) bool) (glance, error) {
	s := r.cfg.Store
	g := glance{era: s.EraOf(p)}
	g.verdict, g.clock = s.CountsForRead(p), s.ClockOf(p)
	for i, key := range keys {
		encoded, err := s.Get(p, key)
		if err != nil {
			return g, fmt.Errorf("read key %.64q: %w", key, err)
		}
		record := version.Record{Key: key}
		if encoded != nil {
			if record, err = version.ParseHeader(encoded); err != nil {
				return g, fmt.Errorf("read key %.64q: %w", key, err)
			}
		}
		if !each(i, encoded, &record) {
			break
		}
	}
	g.verdict = g.verdict && s.EraOf(p) == g.era && s.CountsForRead(p)
	return g, nil
}

// mend merges the copies of some keys both ways and says how many of the keys, the
// first ones, it got to. What the other home has comes first: with that, what it
// lacks is often nothing.
func (a *pairAudit) mend(ctx context.Context, p ring.Partition, keys [][]byte) (int, error) {
	mine := make([]held, len(keys))
	req := &fetchRequest{Partition: p, Items: make([]wantedKey, len(keys))}
	now, later := a.r.deadBy(), a.r.aliveBy()
	g, err := a.r.look(p, keys, func(i int, encoded []byte, record *version.Record) bool {
		mine[i] = held{leaf: version.LeafOf(encoded), dots: dotsOf(record), alive: aliveIn(record, later), seen: record.Seen, dead: isDead(record, now)}
		req.Items[i] = wantedKey{keys[i], mine[i].dots}
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	resp, err := askMuch(ctx, a.r, a.with, fetchRoute, req)
	if err == nil && (len(resp.Items) == 0 || len(resp.Items) > len(keys)) {
		err = fmt.Errorf("%d records of %d keys", len(resp.Items), len(keys))
	}
	if err != nil {
		return 0, fmt.Errorf("audit: fetch of partition %d from %s: %w", p, a.with.Short(), err)
	}
	keys = keys[:len(resp.Items)]
	theirs, err := a.take(ctx, p, keys, mine, &g, resp)
	if err != nil {
		return 0, err
	}
	return len(keys), a.offer(ctx, p, keys, theirs, &g)
}

// take merges what the other home has, counts the differences, and returns what it
// has, by key. Copies in dispute are merged only where the other homes end it.
func (a *pairAudit) take(ctx context.Context, p ring.Partition, keys [][]byte, mine []held, g *glance, resp *fetchResponse) ([]theirCopy, error) {
	theirs, disputes, err := a.compare(keys, mine, &g.clock, resp)
	if err != nil {
		return nil, err
	}
	left, lost := a.arbitrate(ctx, p, disputes, g.verdict, resp.Verdict)
	var items []item
	size, missed := int64(0), false
	here, there := verdict{g.verdict, g.clock.Bases()}, verdict{resp.Verdict, resp.Base}
	for i, key := range keys {
		got := &resp.Items[i]
		if !theirs[i].differs {
			continue
		}
		a.out.Differences++
		a.judge(p, key, &mine[i], &g.clock, &theirs[i].record, got, left[i])
		if left[i] != "" {
			theirs[i].differs = false // undecided: the next audit looks again
			continue
		}
		missed = missed || missedPurge(&mine[i], here, &theirs[i], there)
		items = append(items, item{key: key, encoded: got.Record, judged: mine[i].dots})
		if len(got.Record) > 0 {
			a.out.Pulled++
			a.r.pulledKeys.Add(1)
			size += int64(len(got.Record))
		}
	}
	if lost != nil {
		return nil, lost
	}
	if err := a.r.pace.take(ctx, int(size)); err != nil {
		return nil, err
	}
	if err := a.r.mergeHere(ctx, p, items, there); err != nil {
		return nil, fmt.Errorf("audit: records from %s: %w", a.with.Short(), err)
	}
	if missed {
		a.r.oweAll(p, a.with)
	}
	if err := a.r.aside(ctx, "audit", a.with); err != nil {
		return nil, err
	}
	a.out.Bytes += size
	a.r.pulledBytes.Add(size)
	if a.atOnce && len(left) > 0 {
		// What it holds may be what all others have forgotten.
		return nil, fmt.Errorf("audit: %d keys of partition %d, with %s: %w", len(left), p, a.r.nameOf(a.with), errUndecided)
	}
	return theirs, nil
}

// compare reads what the other home has, and says which keys are in dispute.
func (a *pairAudit) compare(keys [][]byte, mine []held, clock *store.Clock, resp *fetchResponse) ([]theirCopy, []dispute, error) {
	theirs := make([]theirCopy, len(keys))
	var disputes []dispute
	now, dead := a.r.aliveBy(), a.r.deadBy()
	for i, key := range keys {
		got := &resp.Items[i]
		record := version.Record{Key: key}
		if len(got.Record) > 0 {
			var err error
			if record, err = version.ParseHeader(got.Record); err == nil && !bytes.Equal(record.Key, key) {
				err = fmt.Errorf("it is of key %.64q", record.Key)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("audit: record of key %.64q from %s: %w", key, a.with.Short(), err)
			}
		}
		leaf := version.LeafOf(got.Record)
		theirs[i] = theirCopy{leaf: leaf, judged: notAmong(dotsOf(&record), mine[i].dots), differs: leaf != mine[i].leaf, record: record, dead: isDead(&record, dead)}
		if !theirs[i].differs {
			continue
		}
		if values := disputedBy(&mine[i], clock, &record, got.Claims, now); len(values) > 0 {
			disputes = append(disputes, dispute{at: i, key: key, values: values})
		}
	}
	return theirs, disputes, nil
}

// theirCopy is what the other home had when it was asked.
type theirCopy struct {
	leaf   version.Digest
	record version.Record // without values
	// judged are the siblings that this node did not hold when the copies were compared:
	// those that its verdict is about. What it lacks of the others by now, and does not
	// show replaced, it may have lost since.
	judged  []version.Dot
	differs bool
	// dead says that nothing can be read of it any more.
	dead bool
}

// notAmong are those of some dots that are not among others.
func notAmong(dots, others []version.Dot) []version.Dot {
	return slices.DeleteFunc(dots, func(d version.Dot) bool { return slices.Contains(others, d) })
}

// offer sends what this node has now, where it is not what the other home had. Its
// verdict is by the clock of when the copies were compared, and about what this node
// lacked then: of what it has come to hold or to lack since the other homes were not asked.
func (a *pairAudit) offer(ctx context.Context, p ring.Partition, keys [][]byte, theirs []theirCopy, compared *glance) error {
	var left [][]byte
	var had []*theirCopy
	for i, key := range keys {
		if theirs[i].differs {
			left, had = append(left, key), append(had, &theirs[i])
		}
	}
	for len(left) > 0 {
		req := &offerRequest{Partition: p}
		size, looked := 0, 0
		g, err := a.r.look(p, left, func(i int, encoded []byte, record *version.Record) bool {
			if size > 0 && size+len(encoded) > transferMax {
				return false
			}
			looked++
			if version.LeafOf(encoded) != had[i].leaf {
				req.Items = append(req.Items, offeredKey{left[i], encoded, had[i].judged})
				size += len(encoded) + len(left[i])
			}
			return true
		})
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		left, had = left[looked:], had[looked:]
		if g.verdict && compared.verdict && g.era == compared.era {
			req.Verdict, req.Base = true, compared.clock.Bases()
		} else {
			req.Items = withRecord(req.Items)
		}
		if err := a.send(ctx, req, size); err != nil {
			return err
		}
	}
	return nil
}

// withRecord leaves out the keys of which there is no record: without a verdict
// that says nothing.
func withRecord(items []offeredKey) []offeredKey {
	var out []offeredKey
	for _, item := range items {
		if len(item.Record) > 0 {
			out = append(out, item)
		}
	}
	return out
}

// send has a home merge an offer.
func (a *pairAudit) send(ctx context.Context, req *offerRequest, size int) error {
	if len(req.Items) == 0 {
		return nil
	}
	if err := a.r.pace.take(ctx, size); err != nil {
		return err
	}
	resp, err := askMuch(ctx, a.r, a.with, offerRoute, req)
	if err == nil && len(resp.Errors) != len(req.Items) {
		err = fmt.Errorf("%d outcomes of %d records", len(resp.Errors), len(req.Items))
	}
	for i := 0; err == nil && i < len(req.Items); i++ {
		if len(resp.Errors[i]) > 0 {
			err = fmt.Errorf("key %.64q: %w", req.Items[i].Key, rpc.ParseError(resp.Errors[i]))
			break
		}
		if len(req.Items[i].Record) > 0 {
			a.out.Pushed++
		}
		a.out.Bytes += int64(len(req.Items[i].Record))
	}
	if err != nil {
		return fmt.Errorf("audit: offer of partition %d to %s: %w", req.Partition, a.with.Short(), err)
	}
	return nil
}

// dotsOf are the dots of a record's siblings, sorted.
func dotsOf(r *version.Record) []version.Dot {
	var dots []version.Dot
	for i := range r.Siblings {
		dots = append(dots, r.Siblings[i].Dot)
	}
	return dots
}
