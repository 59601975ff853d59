package antientropy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// How the search for dead records is paced: records are read as slowly as that, and
// partitions in which nothing happens are not read again.
const (
	forgetRecordsPerSecond = 2048
	forgetBytesPerSecond   = 2 << 20
	forgetLookMin          = 50 * time.Millisecond
	forgetLookMax          = 15 * time.Second
	forgetBackoffMax       = 10 * time.Minute
	forgetPage             = 512 // records read at once
	confirmRounds          = 3   // until all homes speak of the same context
	blockedMax             = 16  // sentences
)

// deadPlace is what a search has found in one partition.
type deadPlace struct {
	looked  bool
	changed bool // since it was searched
	waiting int  // dead records that are still there
	// due is when the next record may be forgotten, in milliseconds since 1970
	// by deadBy; 0 for none.
	due     uint64
	next    time.Time // not earlier
	backoff time.Duration
	// blocked says what the waiting ones wait for, and how many for each.
	blocked map[cause]int
}

// cause is what a dead record waits for.
type cause struct {
	member ring.NodeID
	why    string
}

// whyAway is the cause that ends when a member's circuit closes.
const whyAway = "cannot be reached"

// forgetLoop forgets dead records in the partitions of which this node is the first
// home that can be reached. It ends with ctx.
func (r *Repair) forgetLoop(ctx context.Context) error {
	f := &forgetter{r: r, places: map[ring.Partition]*deadPlace{}}
	every := min(forgetLookMax, max(forgetLookMin, r.cfg.ForgetAfter/4))
	for {
		if err := sleep(ctx, every); err != nil {
			return err
		}
		if err := f.pass(ctx); err != nil {
			return err
		}
	}
}

// forgetter is the state of forgetLoop's goroutine.
type forgetter struct {
	r      *Repair
	places map[ring.Partition]*deadPlace
	era    uint64
	seen   uint64 // of the clocks' changes
}

// pass searches the partitions that may have something to forget. It fails only
// with ctx.
func (f *forgetter) pass(ctx context.Context) error {
	rec := f.r.current()
	if rec == nil {
		return ctx.Err()
	}
	f.noteChanges()
	for p := range ring.Partition(rec.Partitions) {
		if !f.drives(rec, p) {
			delete(f.places, p)
			continue
		}
		place := f.places[p]
		if place == nil {
			place = new(deadPlace)
			f.places[p] = place
		}
		f.unblock(place)
		if !place.ready(time.Now(), f.r.deadBy()) {
			continue
		}
		if err := f.search(ctx, p, place); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f.r.log.Debug("forgetting", "partition", p, "error", err)
			place.changed = true // for all that this search knows
			place.wait(f.r.cfg.ForgetAfter, false)
		}
		f.publish()
	}
	f.publish()
	return ctx.Err()
}

// drives says that this node is the first home of a partition that can be reached.
func (f *forgetter) drives(rec *ring.Record, p ring.Partition) bool {
	for _, id := range rec.Homes(p) {
		if id == f.r.cfg.Self {
			return true
		}
		if f.r.reachable(id) {
			return false
		}
	}
	return false
}

// noteChanges marks the partitions whose clocks have changed: only there can be a
// record that a search has not seen.
func (f *forgetter) noteChanges() {
	if era := f.r.cfg.Store.Era(); era != f.era {
		f.era, f.seen = era, 0
	}
	changed, now := f.r.cfg.Store.ClocksChanged(f.seen)
	f.seen = now
	for _, p := range changed {
		if place := f.places[p]; place != nil {
			place.changed = true
		}
	}
}

// unblock has a partition searched at once when a member is back that it waited
// for.
func (f *forgetter) unblock(place *deadPlace) {
	for c := range place.blocked {
		if c.why == whyAway && f.r.reachable(c.member) {
			place.changed, place.next, place.backoff = true, time.Time{}, 0
		}
	}
}

// ready says that a search may find something to forget.
func (d *deadPlace) ready(now time.Time, deadBy uint64) bool {
	if now.Before(d.next) {
		return false
	}
	return !d.looked || d.changed || d.due != 0 && d.due <= deadBy
}

// wait puts the next search off: for longer each time that nothing could be
// forgotten.
func (d *deadPlace) wait(least time.Duration, progress bool) {
	if progress || d.backoff == 0 {
		d.backoff = least
	} else {
		d.backoff = min(2*d.backoff, max(least, forgetBackoffMax))
	}
	d.next = time.Now().Add(d.backoff)
}

// search reads a partition and forgets what it can.
func (f *forgetter) search(ctx context.Context, p ring.Partition, place *deadPlace) error {
	*place = deadPlace{looked: true, backoff: place.backoff, waiting: place.waiting, blocked: place.blocked}
	waiting, old, forgotten, blocked := 0, 0, 0, map[cause]int{}
	due := uint64(0)
	var after []byte
	for {
		page, next, err := f.page(p, after)
		if err != nil {
			return err
		}
		after = next
		if page.due != 0 && (due == 0 || page.due < due) {
			due = page.due
		}
		for some := range slices.Chunk(page.old, keysMax) {
			n, err := f.r.forget(ctx, p, some, blocked)
			if err != nil {
				return err
			}
			forgotten += n
		}
		waiting += page.dead
		old += len(page.old)
		if err := sleep(ctx, page.pause()); err != nil {
			return err
		}
		if after == nil {
			break
		}
	}
	place.waiting, place.blocked = waiting-forgotten, blocked
	place.due = due
	if old > forgotten {
		place.due = 1 // these are old enough, and wait for something else
	}
	place.wait(f.r.cfg.ForgetAfter, forgotten > 0 || len(blocked) == 0)
	return nil
}

// deadPage is what some records of a partition come to.
type deadPage struct {
	old  []deadKey // dead for long enough
	dead int
	// due is when the next record that is not old yet will be, 0 for none.
	due            uint64
	records, bytes int
}

// pause is how long reading the page may have taken.
func (d *deadPage) pause() time.Duration {
	seconds := max(float64(d.records)/forgetRecordsPerSecond, float64(d.bytes)/forgetBytesPerSecond)
	return time.Duration(seconds * float64(time.Second))
}

// page reads some records. next is nil at the end.
func (f *forgetter) page(p ring.Partition, after []byte) (page deadPage, next []byte, err error) {
	now := f.r.deadBy()
	wait := uint64(f.r.cfg.ForgetAfter.Milliseconds())
	var bad error
	err = f.r.cfg.Store.Scan(p, after, forgetPage, func(key, encoded []byte) bool {
		next = key
		page.records++
		page.bytes += len(encoded)
		record, err := version.ParseHeader(encoded)
		if err != nil {
			bad = fmt.Errorf("key %.64q: %w", key, err)
			return false
		}
		since, dies := deadSince(&record)
		if !dies {
			return true
		}
		if isDead(&record, now) {
			page.dead++
		}
		if at := since + wait; at > now {
			if page.due == 0 || at < page.due {
				page.due = at
			}
			return true
		}
		page.old = append(page.old, deadKey{key, version.LeafOf(encoded), record.Seen})
		return true
	})
	if err == nil {
		err = bad
	}
	if page.records < forgetPage {
		next = nil
	}
	return page, next, err
}

// forget removes those of some dead records that everybody confirms who holds the
// partition. It says how many are gone here, and adds to blocked what the others wait
// for.
func (r *Repair) forget(ctx context.Context, p ring.Partition, items []deadKey, blocked map[cause]int) (int, error) {
	rec := r.current()
	if rec == nil || rec.HomeIndex(p, r.cfg.Self) < 0 {
		return 0, fmt.Errorf("%w: partition %d", api.ErrNotHome, p)
	}
	holders := r.otherHolders(rec, p)
	for _, id := range holders {
		if !r.reachable(id) {
			blocked[cause{id, whyAway}] += len(items)
			return 0, nil
		}
	}
	items, err := r.confirmAll(ctx, rec, p, items, blocked)
	if err != nil || len(items) == 0 {
		return 0, err
	}
	return r.purgeAll(ctx, rec, p, items)
}

// purgeAll has all who hold the partition remove what all have confirmed, and says how
// many are gone here.
func (r *Repair) purgeAll(ctx context.Context, rec *ring.Record, p ring.Partition, items []deadKey) (int, error) {
	req := &purgeRequest{Partition: p, Now: r.deadBy(), Epoch: rec.Epoch}
	for i := range items {
		req.Items = append(req.Items, purgedKey{items[i].Key, items[i].Leaf})
	}
	// Who does not do it is told by the verdicts of an audit.
	for _, id := range r.otherHolders(rec, p) {
		resp, err := ask(ctx, r, id, purgeRoute, req)
		if err != nil {
			r.log.Debug("purge", "at", id.Short(), "partition", p, "error", err)
		}
		if err != nil || len(resp.Gone) != len(items) || slices.Contains(resp.Gone, false) {
			r.auditing.owe(id, p)
		}
	}
	gone, err := r.purgeHere(p, req.Items, req.Now)
	if err != nil || slices.Contains(gone, false) || r.changedSince(p, rec.Epoch) {
		r.oweAll(p, ring.NodeID{})
	}
	n := 0
	for _, done := range gone {
		if done {
			n++
		}
	}
	return n, err
}

// confirmAll gives those of the items that all who hold the partition, this node too,
// have confirmed with one and the same context.
func (r *Repair) confirmAll(ctx context.Context, rec *ring.Record, p ring.Partition, items []deadKey, blocked map[cause]int) ([]deadKey, error) {
	var confirmed []deadKey
	for round := 0; len(items) > 0; round++ {
		states := make([]confirming, len(items))
		for i := range states {
			states[i].seen = items[i].Seen
		}
		answers, err := r.confirmHere(p, items)
		if err != nil {
			return nil, err
		}
		hear(states, r.cfg.Self, answers)
		for _, id := range r.otherHolders(rec, p) {
			resp, err := ask(ctx, r, id, confirmRoute, &confirmRequest{p, rec.Epoch, items})
			if err == nil && len(resp.Answers) != len(items) {
				err = fmt.Errorf("%d answers about %d keys", len(resp.Answers), len(items))
			}
			if err != nil {
				blocked[cause{id, "does not answer"}] += len(items)
				return nil, fmt.Errorf("confirm in partition %d at %s: %w", p, id.Short(), err)
			}
			hear(states, id, resp.Answers)
		}
		var again []deadKey
		for i, s := range states {
			switch {
			case s.no.why != "":
				if blocked[s.no]++; s.no.why == wordings[deadDiffers] {
					r.auditing.owe(s.no.member, p)
				}
			case !s.more:
				confirmed = append(confirmed, items[i])
			case round+1 < confirmRounds:
				again = append(again, deadKey{items[i].Key, items[i].Leaf, s.seen})
			default:
				blocked[cause{r.cfg.Self, "sees the key change"}]++
			}
		}
		items = again
	}
	return confirmed, nil
}

// confirming is what the homes have said of one dead key so far.
type confirming struct {
	seen version.Context // by any of them
	more bool            // more than they were asked about
	no   cause           // the first that did not confirm
}

// wordings say what a dead record waits for.
var wordings = [deadWords]string{
	deadDiffers:  "has another record, or none",
	deadAlive:    "takes the value for readable, by its clock",
	deadUnstable: "has not all writes that the record has seen",
	deadLossy:    "has lost something, and fills it anew",
}

// hear takes the answers of one home.
func hear(states []confirming, id ring.NodeID, answers []deadAnswer) {
	for i, a := range answers {
		s := &states[i]
		if a.Word != deadConfirmed && s.no.why == "" {
			s.no = cause{id, wordings[a.Word]}
		}
		if !s.seen.Includes(a.Seen) {
			s.seen, s.more = s.seen.Union(a.Seen), true
		}
	}
}

// publish puts what all partitions come to behind Status.
func (f *forgetter) publish() {
	waiting := 0
	records, partitions := map[cause]int{}, map[cause]int{}
	for _, place := range f.places {
		waiting += place.waiting
		for c, n := range place.blocked {
			records[c] += n
			partitions[c]++
		}
	}
	var sentences []string
	for c, n := range records {
		sentences = append(sentences, fmt.Sprintf("%s %s: %d dead records of %d partitions wait for it", f.r.nameOf(c.member), c.why, n, partitions[c]))
	}
	slices.SortFunc(sentences, strings.Compare)
	sentences = sentences[:min(len(sentences), blockedMax)]
	f.r.tombstones.Store(int64(waiting))
	f.r.blocked.Store(&sentences)
}
