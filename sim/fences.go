package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/kithdb/kith/ring"
)

// Moves of slots by the rules of their fences, from who held which record, and when.
// Nothing here asks the code that takes the steps.

// holds says that a member held the record of an epoch, or a newer one, at a time.
func (r *Rings) holds(id ring.NodeID, epoch uint64, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.held[id], func(h holding) bool { return h.record.Epoch >= epoch && !h.at.After(at) })
}

// known says that something was seen by a time of what a member holds.
func (r *Rings) known(id ring.NodeID, at time.Time) bool { return r.holds(id, 0, at) }

// first is when somebody held the record of an epoch, or a newer one, first.
func (r *Rings) first(epoch uint64) (at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, all := range r.held {
		for _, h := range all {
			if h.record.Epoch >= epoch && (!ok || h.at.Before(at)) {
				at, ok = h.at, true
			}
		}
	}
	return at, ok
}

// readersEnd wants a move whose target has answered reads to end with the slot there,
// or to be turned back first. Where a slot is added or taken away, reads ask both rows,
// and it is the way there that must be whole: see resized.
func readersEnd(prev, next *ring.Record) error {
	for i := range prev.Moves {
		was := &prev.Moves[i]
		is := next.MoveOf(was.Partition)
		if was.From.IsZero() || was.To.IsZero() {
			if err := resized(was, prev, next); err != nil {
				return err
			}
			continue
		}
		if was.Phase != ring.PhaseReadNew {
			continue
		}
		under := is != nil && is.Slot == was.Slot && is.To == was.To && (is.Phase == ring.PhaseReadNew || is.Phase == ring.PhaseBack)
		if !under && !slices.Contains(next.Homes(was.Partition), was.To) {
			return fmt.Errorf("%v: its target answered reads, and neither has the slot nor was turned back", was)
		}
	}
	return nil
}

// resized wants a slot that is new to have answered reads beside the others first, and
// one that is gone to be with so many of those that stay that what a majority had with it,
// a majority has without it.
func resized(was *ring.Move, prev, next *ring.Record) error {
	switch {
	case grown(was, next) && was.Phase != ring.PhaseReadNew:
		return fmt.Errorf("%v: its target is a home, and has answered no read before", was)
	case shrunk(was, prev, next):
		stay, live, got := 0, 0, 0
		for slot, id := range prev.Homes(was.Partition) {
			if id == was.From {
				continue
			}
			stay++
			if prev.Member(id).State != ring.Lost {
				live++
			}
			if was.Got&(1<<slot) != 0 {
				got++
			}
		}
		if got < min(majority(stay), live) {
			return fmt.Errorf("%v: the slot is gone, and %d of the %d homes that stay have pulled from it", was, got, stay)
		}
	}
	return nil
}

// grown says that a record has the slot that a move adds.
func grown(was *ring.Move, next *ring.Record) bool {
	return was.From.IsZero() && slices.Contains(next.Homes(was.Partition), was.To)
}

// shrunk says that a record has no longer the slot that a move takes away. Somebody who
// replaces the lost holder of it has it still.
func shrunk(was *ring.Move, prev, next *ring.Record) bool {
	return was.To.IsZero() && len(next.Homes(was.Partition)) < len(prev.Homes(was.Partition))
}

// checkSteps wants every step by which a reader takes over, or a slot is added or taken
// away, to come behind its fence: those who answered before had adopted the record of the
// phase by then.
func (r *Rings) checkSteps() error {
	for _, epoch := range r.Epochs() {
		prev, next := r.At(epoch-1), r.At(epoch)
		at, ok := r.first(epoch)
		if prev == nil || !ok {
			continue
		}
		for i := range prev.Moves {
			was := &prev.Moves[i]
			if fenced(was, prev, next) && !r.behindFence(prev, was, at.Add(-1)) {
				return broken(Handed, "%v: epoch %d was held at %s, and those who had answered before did not hold epoch %d then\n%s",
					was, epoch, at.Format(time.TimeOnly+".000000"), prev.Since[was.Partition], rowsOf(prev, was.Partition))
			}
		}
	}
	return nil
}

// fenced says that a record makes a step of a move that has to come behind a fence.
func fenced(was *ring.Move, prev, next *ring.Record) bool {
	phase := ring.Phase(0)
	if is := next.MoveOf(was.Partition); is != nil && is.To == was.To && is.From == was.From && is.Slot == was.Slot {
		phase = is.Phase
	}
	toNew := was.Phase == ring.PhaseDual && phase == ring.PhaseReadNew
	switch {
	case was.From.IsZero():
		return toNew || grown(was, next)
	case was.To.IsZero():
		return shrunk(was, prev, next)
	}
	return toNew || (was.Phase == ring.PhaseReadNew || was.Phase == ring.PhaseBack) && phase < ring.PhaseDual
}

// taker is who is to answer the reads of a moving slot, and whose were they before, in
// the order of one phase. Those of a slot that is added were nobody's; one that is taken
// away has nobody to answer them.
func taker(m *ring.Move) (reader, before ring.NodeID) {
	if m.Phase == ring.PhaseBack {
		return m.From, m.To
	}
	return m.To, m.From
}

// behindFence says that at a time nobody could answer reads, or take writes, as before
// the phase of a move: the one who answered before held the record of the phase, or so
// many homes of the other slots that they are in every majority.
func (r *Rings) behindFence(rec *ring.Record, m *ring.Move, at time.Time) bool {
	since := rec.Since[m.Partition]
	_, before := taker(m)
	if !before.IsZero() && (!r.known(before, at) || r.holds(before, since, at)) {
		return true
	}
	homes := rec.Homes(m.Partition)
	need, have, live := len(homes)-majority(len(homes))+1, 0, 0
	for slot, id := range homes {
		lost := rec.Member(id).State == ring.Lost
		if slot == int(m.Slot) { // of one that is added there is none yet
			continue
		}
		if !lost {
			live++
		}
		switch {
		case r.holds(id, since, at):
			have++
		case lost: // what only that one had is gone
			need = max(need-1, 1)
		}
	}
	if live == 0 {
		return true // and here all is gone
	}
	return have >= need
}

// counts wants everybody who is counted for an operation to have held the partition's
// fence, by the record of its epoch, when it ended, and a reader that takes over to have
// answered behind its fence.
func (q *quorums) counts(o *Op, r *ring.Record, p ring.Partition) error {
	for _, id := range o.Receipt.Answered {
		if q.rings.known(id, o.Ended) && !q.rings.holds(id, r.Since[p], o.Ended) {
			return broken(Counted, "%v: %v: %s is counted, and had not adopted epoch %d by then\n%s", o, o.Receipt, id.Short(), r.Since[p], rowsOf(r, p))
		}
	}
	m := r.MoveOf(p)
	if m == nil || m.Phase < ring.PhaseReadNew || m.From.IsZero() || !o.asks() {
		return nil // who has a new slot answers beside a majority of the others
	}
	if reader, _ := taker(m); slices.Contains(o.Receipt.Answered, reader) && !q.rings.behindFence(r, m, o.Ended) {
		return broken(Handed, "%v: %v: %s has answered, and who did before had not adopted that record by then\n%s", o, o.Receipt, reader.Short(), rowsOf(r, p))
	}
	return nil
}
