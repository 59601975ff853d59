package ring

// Holds says that the member keeps the partition's keys under this record: it is a
// home, or takes writes as the target of a move. What anybody else has of them is
// a stand-in's.
func (r *Record) Holds(p Partition, id NodeID) bool {
	if r.HomeIndex(p, id) >= 0 {
		return true
	}
	m := r.MoveOf(p)
	return m != nil && m.To == id && m.Phase > PhasePlan
}

// Mints says that the member may give a write of the partition its dot: it is a
// home. The target of a move is none before its end.
func (r *Record) Mints(p Partition, id NodeID) bool { return r.HomeIndex(p, id) >= 0 }

// Drops says what a member does with the partition that had adopted prev and now
// adopts r, perhaps without the records between them: it must drop the keys, its
// clock and its note of what it pulled, and take a new actor. The fence stays.
//
// That is so when it no longer keeps the partition, and also when it is the target
// of a move that began after prev: what it has is from another time, in which it
// was a home or the target of a move that was aborted.
//
// A target of a move that has come further, and a home, are those of prev's time:
// no move comes beyond PhaseDual before its target has pulled under that very
// record, which it so has adopted.
func (r *Record) Drops(prev *Record, p Partition, id NodeID) bool {
	if !prev.Holds(p, id) {
		return false
	}
	if !r.Holds(p, id) {
		return true
	}
	m := r.MoveOf(p)
	if m == nil || m.To != id || m.Phase != PhaseDual {
		return false
	}
	was := prev.MoveOf(p)
	return was == nil || !was.sameSlot(m) || was.Phase != PhaseDual || prev.Since[p] != r.Since[p]
}
