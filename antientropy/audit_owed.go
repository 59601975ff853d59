package antientropy

import (
	"maps"
	"slices"
	"sync"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// What one home forgets, or lacks, no clock tells another one: only an audit shows it.
// The schedule comes by once in Config.AuditEvery. Where a home knows that two copies may
// differ for such a reason it does not wait for that: an audit is owed. Of equal copies it
// compares the roots, and nothing more.
//
// It is owed to
//   - members with whom this node has not caught up since its start, for all that the
//     two share: it may have ended in the midst of something;
//   - all other homes of a partition that this node has become a home of: what its source
//     was about to forget came with the rest;
//   - homes that did not carry out a purge, or perhaps not, or that do not confirm a dead
//     record because they have another one, or none;
//   - the remaining homes, by whoever purges what was confirmed by the homes of an older
//     time, and by two that have found that one of them had missed a purge: of three
//     homes, two may have missed it.

// auditing is what is audited besides the schedule.
type auditing struct {
	notes noted
	soon  wake // there are urgent partitions
	asked wake // there is a job that has not begun

	mu     sync.Mutex // guards what follows
	urgent map[ring.Partition]struct{}
	// owed are partitions that are to be audited with a member, until it can be
	// reached; due are those of members that can.
	owed, due map[ring.NodeID]map[ring.Partition]struct{}
	// met are the members with whom this node has caught up since its start. What
	// the life before was in the middle of with each of them nobody knows.
	met map[ring.NodeID]struct{}
	// homes are the partitions of which this node was a home at its latest look, of the
	// record of that epoch: see homesNow. It is nil before the first.
	homes map[ring.Partition]uint64
	epoch uint64
	job   *auditJob // the latest; nil before the first
}

func (a *auditing) init() {
	a.soon, a.asked = newWake(), newWake()
	a.urgent = map[ring.Partition]struct{}{}
	a.owed = map[ring.NodeID]map[ring.Partition]struct{}{}
	a.due = map[ring.NodeID]map[ring.Partition]struct{}{}
	a.met = map[ring.NodeID]struct{}{}
}

// owe has a partition audited with a member as soon as that can be reached.
func (a *auditing) owe(id ring.NodeID, p ring.Partition) {
	a.mu.Lock()
	defer a.mu.Unlock()
	put(a.owed, id, p)
}

// oweAll has a partition audited with all its other homes but one.
func (r *Repair) oweAll(p ring.Partition, but ring.NodeID) {
	rec := r.current()
	if rec == nil || rec.HomeIndex(p, r.cfg.Self) < 0 {
		return
	}
	for _, id := range r.others(rec, p) {
		if id != but {
			r.auditing.owe(id, p)
		}
	}
}

// settle says that a member can be reached, and that this node has caught up with it.
// What is owed to it is audited now, the first time all that the two share: but for the
// partitions that lack something of another home's, which comes by catch-up.
func (r *Repair) settle(id ring.NodeID) {
	a, rec := &r.auditing, r.current()
	if rec == nil {
		return
	}
	homes := r.homesNow(rec)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetUnshared(rec, r.cfg.Self)
	r.oweNew(rec, homes)
	if _, again := a.met[id]; !again {
		a.met[id] = struct{}{}
		for p := range homes {
			if rec.HomeIndex(p, id) >= 0 {
				put(a.owed, id, p)
			}
		}
	}
	for p := range a.owed[id] {
		if r.Counts(p) {
			delete(a.owed[id], p)
			put(a.due, id, p)
		}
	}
	if len(a.due[id]) > 0 {
		a.soon.up()
	}
}

// homesNow are the partitions that this node is a home of, each with the epoch under which
// it has pulled it to become one, 0 for none: who is no home any more, and one again
// between two looks, has pulled it again.
func (r *Repair) homesNow(rec *ring.Record) map[ring.Partition]uint64 {
	homes := map[ring.Partition]uint64{}
	for _, p := range r.mine() {
		if rec.HomeIndex(p, r.cfg.Self) < 0 {
			continue // of a newer record
		}
		homes[p] = 0
		if noted := r.cfg.Store.Pulled(p); noted.By == r.cfg.Self {
			homes[p] = noted.Since
		}
	}
	return homes
}

// oweNew owes the partitions that this node has become a home of to the other homes that
// it has met; with the others it audits all anyway. a.mu is held.
func (r *Repair) oweNew(rec *ring.Record, homes map[ring.Partition]uint64) {
	a := &r.auditing
	if a.homes != nil && rec.Epoch <= a.epoch {
		return
	}
	for p, pulled := range homes {
		if before, was := a.homes[p]; a.homes == nil || was && before == pulled {
			continue
		}
		for _, id := range r.others(rec, p) {
			if _, met := a.met[id]; met {
				put(a.owed, id, p)
			}
		}
	}
	a.homes, a.epoch = homes, rec.Epoch
}

// forgetUnshared forgets what is owed to members of partitions that are not this node's
// and theirs any more. a.mu is held.
func (a *auditing) forgetUnshared(rec *ring.Record, self ring.NodeID) {
	maps.DeleteFunc(a.owed, func(id ring.NodeID, parts map[ring.Partition]struct{}) bool {
		maps.DeleteFunc(parts, func(p ring.Partition, _ struct{}) bool {
			return rec.HomeIndex(p, self) < 0 || rec.HomeIndex(p, id) < 0
		})
		return len(parts) == 0
	})
}

// put adds a partition of a member's.
func put(of map[ring.NodeID]map[ring.Partition]struct{}, id ring.NodeID, p ring.Partition) {
	if of[id] == nil {
		of[id] = map[ring.Partition]struct{}{}
	}
	of[id][p] = struct{}{}
}

// takeDue gives and forgets what is due, by member.
func (a *auditing) takeDue() map[ring.NodeID]map[ring.Partition]struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.due
	a.due = map[ring.NodeID]map[ring.Partition]struct{}{}
	return out
}

// missedPurge says that nothing can be read of one of two copies, that the other home has
// none, and that its verdict ends what is left: it has carried out a purge that was missed
// here or there.
func missedPurge(mine *held, mineSays verdict, theirs *theirCopy, theirsSays verdict) bool {
	ends := func(v verdict, dots []version.Dot) bool {
		return v.given && !slices.ContainsFunc(dots, func(d version.Dot) bool { return !v.base.Covers(d) })
	}
	switch own := dotsOf(&theirs.record); {
	case len(own) == 0:
		return mine.dead && ends(theirsSays, mine.dots)
	case len(mine.dots) == 0:
		return theirs.dead && ends(mineSays, own)
	}
	return false
}
