package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kithdb/kith/ring"
)

// CheckQuorums holds the receipts of a history against the ring records that nodes
// have held. It shares no line with the code that counts. It holds that
//
//   - what an operation counted is enough by the record of its epoch: of a write
//     that many homes by the table as it is, and as it will be when the partition's
//     move has ended, a majority of each where their numbers differ; of a read that
//     many of those that answer reads, and nobody else;
//   - nobody has answered for an epoch behind a fence that it held already when the
//     operation began, or is counted for one of whose record it had not adopted the
//     partition's fence when that ended;
//   - a step by which reads are handed over, and an answer of who takes them over, come
//     when those who answered before had adopted the record of the phase;
//   - a read that asked for a majority has asked somebody who had part in every
//     write of a majority, and every read of one, in the same partition that ended
//     before it began, whichever of the two was the older epoch's. Of a read that
//     wrote what it has shown nobody knows whom it asked. A member that got
//     its part after that was given everything before it answered: the other
//     promises see to whether it really was.
//
// An epoch of which no record was seen is an error: nothing could be said of it.
func CheckQuorums(h *History, rings *Rings) error {
	if err := rings.Err(); err != nil {
		return err
	}
	if err := rings.checkSteps(); err != nil {
		return err
	}
	q := &quorums{rings: rings, used: map[string]*usage{}}
	for _, o := range h.Ops() {
		if o.Outcome != Done || o.Receipt == nil || o.Sloppy {
			continue
		}
		if err := q.enter(o); err != nil {
			return err
		}
	}
	return q.meet()
}

// Receipt is what a client was told of how an operation was done.
type Receipt struct {
	Epoch    uint64
	Need     int
	Answered []ring.NodeID
	// Repaired says that a read has written what it has shown: then Answered are
	// those that have that, as of a write.
	Repaired bool
}

// String tells it in one line.
func (r *Receipt) String() string {
	var who []string
	for _, id := range r.Answered {
		who = append(who, id.Short())
	}
	return fmt.Sprintf("epoch %d, %d of %s", r.Epoch, r.Need, strings.Join(who, " "))
}

// quorums are those that a history has used.
type quorums struct {
	rings *Rings
	used  map[string]*usage
}

// usage is one set of members that has done operations of one kind on a partition,
// under one epoch.
type usage struct {
	partition ring.Partition
	record    *ring.Record
	read      bool          // and has written nothing
	answered  []ring.NodeID // sorted
	first     *Op           // the one that ended first
	last      *Op           // the one that began last
}

// asks says that those who answered a read are those that it has asked.
func (o *Op) asks() bool { return o.Read && !o.Receipt.Repaired }

// enter takes one operation.
func (q *quorums) enter(o *Op) error {
	r := q.rings.At(o.Receipt.Epoch)
	if r == nil {
		return broken(Intersect, "%v: no node was seen to hold the record of %v", o, o.Receipt)
	}
	p := r.PartitionOf([]byte(o.Key))
	if err := counted(r, p, o); err != nil {
		return broken(Intersect, "%v: %v: %v\n%s", o, o.Receipt, err, rowsOf(r, p))
	}
	for _, id := range o.Receipt.Answered {
		if since := q.rings.fence(id, p, o.Began); since > r.Epoch {
			return broken(Fenced, "%v: %v: %s has answered, which had its fence at epoch %d before that began\n%s",
				o, o.Receipt, id.Short(), since, rowsOf(r, p))
		}
	}
	if err := q.counts(o, r, p); err != nil {
		return err
	}
	if !o.Strict && 2*o.Receipt.Need <= longest(seatsOf(r, p).of(o.asks())) {
		return nil // less than a majority meets nobody
	}
	set := slices.SortedFunc(slices.Values(o.Receipt.Answered), ring.NodeID.Compare)
	read := o.asks()
	name := fmt.Sprint(p, r.Epoch, read, set)
	u := q.used[name]
	if u == nil {
		u = &usage{partition: p, record: r, read: read, answered: set, first: o, last: o}
		q.used[name] = u
	}
	if o.Ended.Before(u.first.Ended) {
		u.first = o
	}
	if o.Began.After(u.last.Began) {
		u.last = o
	}
	return nil
}

// meet holds every read against all that had ended before it began.
func (q *quorums) meet() error {
	byPartition := map[ring.Partition][]*usage{}
	for _, u := range q.used {
		byPartition[u.partition] = append(byPartition[u.partition], u)
	}
	for _, p := range slices.Sorted(maps.Keys(byPartition)) {
		all := byPartition[p]
		slices.SortFunc(all, func(a, b *usage) int {
			return cmp.Or(cmp.Compare(a.record.Epoch, b.record.Epoch), a.first.Began.Compare(b.first.Began), strings.Compare(a.first.Client, b.first.Client))
		})
		for _, b := range all {
			for _, a := range all {
				if !b.read || !a.first.Ended.Before(b.last.Began) || slices.ContainsFunc(b.answered, a.has) {
					continue
				}
				if err := q.apart(a, b); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (u *usage) has(id ring.NodeID) bool { return slices.Contains(u.answered, id) }

// apart says that b began when a had ended, and that nobody of b had part in a or
// got its part since.
func (q *quorums) apart(a, b *usage) error {
	if a.record.Split(b.record) != nil {
		return nil // of two histories: what survives that is not for quorums to say
	}
	for _, r := range q.rings.between(a.record, b.record) {
		prev := q.rings.before(r)
		for _, id := range b.answered {
			if q.without(a, id, prev) && !q.without(a, id, r) || pulledBy(id, prev, r, a.partition) {
				return nil
			}
		}
	}
	return broken(Intersect, "%v: %v: nobody of these had part in what had ended before it began:\n%v: %v\n%s\n%s",
		b.last, b.last.Receipt, a.first, a.first.Receipt, rowsOf(b.record, b.partition), rowsOf(a.record, a.partition))
}

// without says that a member had no part under a record in what a was: writes, or reads.
// Whoever held a record that nobody was seen to hold may have had none.
func (q *quorums) without(a *usage, id ring.NodeID, r *ring.Record) bool {
	return r == nil || !among(seatsOf(r, a.partition).of(a.read), id)
}

// pulledBy says that a slot was taken away by a step, and that a member that stays has
// pulled from the one whose slot it was: with that it got what that one had.
func pulledBy(id ring.NodeID, prev, next *ring.Record, p ring.Partition) bool {
	if prev == nil {
		return false
	}
	m, at := prev.MoveOf(p), prev.HomeIndex(p, id)
	return m != nil && at >= 0 && m.Got&(1<<at) != 0 && shrunk(m, prev, next)
}
