package antientropy

import (
	"context"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A home claims writes that its records do not show if all homes have forgotten
// them; but then the one that pulls claims them too, unless it has lost something or
// is new. Or it has lost them without noticing. Whoever took its word for it would
// witness a loss as if it were a replacement. So the other homes are asked first:
// while one of them shows such a write, or may do, it is not claimed, and comes from
// that home.

// dotSize is how many bytes a dot has in a message.
const dotSize = 16

// hiddenEvery is after how long a write that was not claimed is asked about again, if
// all homes can be reached. It is longer than a request may be on its way: whoever has
// not heard of a write then is not about to acknowledge it.
const hiddenEvery = 30 * time.Second

// hiddenIn are those of some dots of a key that its record, nil for none, neither
// holds nor has seen: all of them, sorted. A record that cannot be read hides none:
// who merges it will say so.
func hiddenIn(encoded []byte, dots []version.Dot) []version.Dot {
	if len(dots) == 0 {
		return nil
	}
	var record version.Record
	if encoded != nil {
		header, err := version.Header(encoded)
		if err == nil {
			record, err = version.ParseHeader(header)
		}
		if err != nil {
			return nil
		}
	}
	var out []version.Dot
	for _, d := range dots {
		if !record.Seen.Covers(d) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, version.Dot.Compare)
	return slices.Compact(out)
}

// wantedAt names a key as often as it takes for all of its dots.
func wantedAt(key []byte, dots []version.Dot) (out []wantedKey) {
	for some := range slices.Chunk(dots, dotsMax) {
		out = append(out, wantedKey{key, some})
	}
	return out
}

// unproven are those of the hidden writes of a pull from a member that are not to be claimed: some
// other home shows them, or cannot say that it does not, or has not heard of them and may do so yet.
// That is over for those in waited, which were left out for long enough.
func (r *Repair) unproven(ctx context.Context, with ring.NodeID, p ring.Partition, hidden []wantedKey, waited store.DotSet) (store.DotSet, error) {
	rec := r.current()
	own := r.cfg.Store.ClockOf(p)
	var doubts []dispute
	for i, h := range hidden {
		in := dispute{at: i, key: h.Key}
		for _, d := range h.Dots {
			if !own.Has(d) {
				in.values = append(in.values, disputed{dot: d, here: true})
			}
		}
		if len(in.values) > 0 {
			doubts = append(doubts, in)
		}
	}
	if rec == nil || len(doubts) == 0 {
		return nil, nil
	}
	asking := &pairAudit{r: r, with: with}
	var witnesses []*witness
	for _, id := range r.others(rec, p) {
		if id != with {
			witnesses = append(witnesses, asking.hear(ctx, id, p, doubts))
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var left []version.Dot
	for i := range doubts {
		for _, v := range doubts[i].values {
			proven := true
			for _, w := range witnesses {
				word := w.says(&doubts[i], v.dot)
				proven = proven && (word == wordGone || word == wordUnknown && waited.Has(v.dot))
			}
			if !proven {
				left = append(left, v.dot)
			}
		}
	}
	return setOfDots(left), nil
}

// setOfDots is the set of some dots.
func setOfDots(dots []version.Dot) store.DotSet {
	slices.SortFunc(dots, version.Dot.Compare)
	var out store.DotSet
	for _, d := range slices.Compact(dots) {
		one := store.Range{First: d.Seq, Last: d.Seq}
		n := len(out) - 1
		if n < 0 || out[n].Actor != d.Actor {
			out = append(out, store.ActorDots{Actor: d.Actor, Ranges: []store.Range{one}})
			continue
		}
		ranges := out[n].Ranges
		if last := &ranges[len(ranges)-1]; last.Last+1 == d.Seq {
			last.Last = d.Seq
		} else {
			out[n].Ranges = append(ranges, one)
		}
	}
	return out
}

// disbelieve leaves dots out of what is lacking here, for a while.
func (g *gap) disbelieve(left store.DotSet, now time.Time) {
	if len(left) > 0 {
		g.unproven, g.disbelieved = unite(g.unproven, left), now
	}
}

// askAgain has what was left out asked about again, if that is long ago and all homes
// are there to answer: while one is away, it costs nothing.
func (r *Repair) askAgain(p ring.Partition, g *gap, now time.Time) {
	rec := r.current()
	if g.unproven == nil || now.Sub(g.disbelieved) < hiddenEvery || rec == nil {
		return
	}
	if !slices.ContainsFunc(r.others(rec, p), func(id ring.NodeID) bool { return !r.reachable(id) }) {
		g.waited, g.unproven = unite(g.waited, g.unproven), nil
	}
}
