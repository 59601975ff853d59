package antientropy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A home may lose a record without noticing. Its clock claims the writes all the
// same, and by the rules of verdicts they would be dropped where they still are. So
// before a verdict, or a clock, ends a value that can be read, and the record beside
// it does not show what has replaced it, the audit asks the other homes. One of them
// holds it too: it was lost. All claim it and lack it: it was forgotten, and who
// holds it has gone back in time. Else nobody knows, and nothing is merged.

// disputed is a value that can be read, at one of two homes. The other one's clock
// claims it, and its record neither holds it nor has seen it.
type disputed struct {
	dot  version.Dot
	here bool // it is this node that lacks it
}

// disputedBy lists what two copies of a key are in dispute about, sorted. now is in
// milliseconds since 1970; claims are what the other home answered.
func disputedBy(mine *held, clock *store.Clock, theirs *version.Record, claims []bool, now uint64) []disputed {
	var out []disputed
	for i := range mine.alive {
		d := mine.alive[i]
		at, _ := slices.BinarySearchFunc(mine.dots, d, version.Dot.Compare)
		if at < len(claims) && claims[at] && !theirs.Seen.Covers(d) {
			out = append(out, disputed{dot: d})
		}
	}
	for _, d := range aliveIn(theirs, now) {
		if clock.Has(d) && !mine.seen.Covers(d) {
			out = append(out, disputed{dot: d, here: true})
		}
	}
	slices.SortFunc(out, func(x, y disputed) int { return x.dot.Compare(y.dot) })
	return out
}

// aliveIn are the dots of the siblings that can be read at a time, sorted.
func aliveIn(r *version.Record, now uint64) []version.Dot {
	var out []version.Dot
	for i := range r.Siblings {
		if s := &r.Siblings[i]; !s.Tombstone && !s.Expired(now) {
			out = append(out, s.Dot)
		}
	}
	return out
}

// aliveBy is the time by which a value is taken for one that can be read, in
// milliseconds since 1970. It is later than deadBy, by the same clock: what was
// forgotten because it had expired has done so by the clocks of all homes.
func (r *Repair) aliveBy() uint64 { return uint64(max(0, r.cfg.Stamp().Time().UnixMilli())) }

// dispute is a key whose copies are in dispute.
type dispute struct {
	at     int // in the keys that are being mended
	key    []byte
	values []disputed
}

// word is what a third home says of a disputed value.
type word uint8

const (
	wordAway     word = iota // it could not be asked
	wordLossy                // it has lost something itself
	wordUnknown              // it has not heard of it yet
	wordHolds                // it holds it
	wordReplaced             // its record shows that it was replaced
	wordGone                 // it claims it, and its record does not show it
)

var wordSaid = [...]string{"cannot be asked", "has lost something itself", "has not heard of it", "holds it", "has seen it replaced", "claims it and lacks it"}

// witness is what a third home answered.
type witness struct {
	id     ring.NodeID
	err    error
	counts bool // its copies count for reads
	items  map[int]fetchedKey
}

// says is its word about one value of a dispute.
func (w *witness) says(in *dispute, d version.Dot) word {
	got, ok := w.items[in.at]
	if w.err != nil || !ok {
		return wordAway
	}
	if !w.counts {
		return wordLossy
	}
	if len(got.Record) > 0 {
		record, err := version.ParseHeader(got.Record)
		if err != nil || !bytes.Equal(record.Key, in.key) {
			return wordAway
		}
		if slices.Contains(dotsOf(&record), d) {
			return wordHolds
		}
		if record.Seen.Covers(d) {
			return wordReplaced
		}
	}
	at := slices.IndexFunc(in.values, func(v disputed) bool { return v.dot == d })
	if at < min(len(got.Claims), dotsMax) && got.Claims[at] {
		return wordGone
	}
	return wordUnknown
}

// ruling is what becomes of a disputed value.
type ruling uint8

const (
	undecided ruling = iota
	replaced         // it was replaced or forgotten: the verdict stands
	lost             // the home that lacks it has lost it
)

// rule decides by what the third homes say. holder says that the home with the value
// counts for reads; it matters only where there is no third one.
func rule(words []word, holder bool) ruling {
	has := func(w word) bool { return slices.Contains(words, w) }
	switch {
	case len(words) == 0 && holder:
		return lost // a value too many is better than one too few
	case len(words) == 0:
		return replaced
	case has(wordReplaced):
		return replaced
	case has(wordHolds):
		return lost
	case has(wordAway) || has(wordUnknown) || !has(wordGone):
		return undecided
	}
	return replaced
}

// Why a partition is audited no further.
var (
	errLostHere  = errors.New("this node has lost a value of it without noticing, and fills it anew")
	errLostThere = errors.New("that home has lost a value of it without noticing, and fills it anew")
	errUndecided = errors.New("nobody can say whether a value was lost or replaced")
)

// arbitrate asks the other homes about disputes, and has a loss declared by who has
// lost something, which is an error. It returns, by key, why some are not to be
// merged.
func (a *pairAudit) arbitrate(ctx context.Context, p ring.Partition, disputes []dispute, here, there bool) (map[int]string, error) {
	rec := a.r.current()
	if rec == nil || len(disputes) == 0 {
		return nil, nil
	}
	var witnesses []*witness
	for _, id := range a.r.others(rec, p) {
		if id != a.with {
			witnesses = append(witnesses, a.hear(ctx, id, p, disputes))
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	left := map[int]string{}
	for i := range disputes {
		in := &disputes[i]
		for _, v := range in.values {
			words := make([]word, len(witnesses))
			said := ""
			for j, w := range witnesses {
				words[j] = w.says(in, v.dot)
				said += fmt.Sprintf("; %s %s", a.r.nameOf(w.id), wordSaid[words[j]])
			}
			holder := here
			if v.here {
				holder = there
			}
			switch rule(words, holder) {
			case replaced:
			case undecided:
				left[in.at] = fmt.Sprintf("%016x/%d: %v%s: nothing is merged", uint64(v.dot.Actor), v.dot.Seq, errUndecided, said)
			case lost:
				why, err := a.lost(ctx, p, in.key, v, said)
				if err != nil {
					return left, err
				}
				left[in.at] = why
			}
		}
	}
	return left, nil
}

// lost has the home that lacks a value declare its loss, which is an error: the
// partition is audited no further. If it does not lack it any more, it says so.
func (a *pairAudit) lost(ctx context.Context, p ring.Partition, key []byte, v disputed, said string) (string, error) {
	var declared bool
	var err error
	why := errLostThere
	if v.here {
		why = errLostHere
		declared, err = a.r.declareLost(p, key, v.dot, "as an audit with "+a.r.nameOf(a.with)+" has found")
	} else {
		var resp *doubtResponse
		if resp, err = ask(ctx, a.r, a.with, doubtRoute, &doubtRequest{p, key, v.dot}); err == nil {
			declared = resp.Lost
		}
	}
	name := a.r.nameOf(a.with)
	switch {
	case err != nil:
		return "", fmt.Errorf("audit: key %.64q of partition %d is lost on one side, with %s: %w", key, p, name, err)
	case !declared:
		return fmt.Sprintf("%016x/%d is on its way%s: nothing is merged", uint64(v.dot.Actor), v.dot.Seq, said), nil
	}
	return "", fmt.Errorf("partition %d, with %s: %w: key %.64q, write %016x/%d%s", p, name, why, key, uint64(v.dot.Actor), v.dot.Seq, said)
}

// hear asks a third home about disputes.
func (a *pairAudit) hear(ctx context.Context, id ring.NodeID, p ring.Partition, disputes []dispute) *witness {
	w := &witness{id: id, counts: true, items: map[int]fetchedKey{}}
	for len(disputes) > 0 && w.err == nil {
		if !a.r.reachable(id) {
			w.err = fmt.Errorf("%s: its circuit is open", id.Short())
			break
		}
		some := disputes[:min(len(disputes), keysMax)]
		req := &fetchRequest{Partition: p}
		for i := range some {
			item := wantedKey{Key: some[i].key}
			for _, v := range some[i].values[:min(len(some[i].values), dotsMax)] {
				item.Dots = append(item.Dots, v.dot)
			}
			req.Items = append(req.Items, item)
		}
		resp, err := askMuch(ctx, a.r, id, fetchRoute, req)
		if err == nil && (len(resp.Items) == 0 || len(resp.Items) > len(some)) {
			err = fmt.Errorf("%d records of %d keys", len(resp.Items), len(some))
		}
		if w.err = err; err != nil {
			break
		}
		w.counts = w.counts && resp.Verdict
		size := 0
		for i := range resp.Items {
			w.items[some[i].at] = resp.Items[i]
			size += len(resp.Items[i].Record)
		}
		disputes = disputes[len(resp.Items):]
		w.err = a.r.pace.take(ctx, size)
	}
	return w
}
