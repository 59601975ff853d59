package sim

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// course is the only partition's move of its first slot from a to d, turned back
// once, made at last, and then of the slot of b back to a; one epoch after the other.
// Its homes are a, b and c.
type course struct {
	a, b, c, d ring.NodeID

	idle, dual, readNew, back, aborted, again, later, done, next, regained uint64

	rings *Rings
}

func courseOf(t *testing.T) *course {
	t.Helper()
	ok := func(r *ring.Record, err error) *ring.Record {
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	var members []ring.Member
	for i := range 4 {
		members = append(members, ring.Member{ID: ring.NodeID{byte(i + 1)}})
	}
	r := ok(ring.Found(ring.ClusterID{1}, "course", members[0], 1, 3))
	r = ok(r.WithTable(members[:3]))
	k := &course{rings: NewRings(), d: members[3].ID}
	k.a, k.b, k.c = r.Homes(0)[0], r.Homes(0)[1], r.Homes(0)[2]
	enter := func(next *ring.Record, err error) uint64 {
		r = ok(next, err)
		k.rings.Saw(r)
		return r.Epoch
	}
	move := func(slot uint8, to ring.NodeID) {
		enter(r.WithMoves([]ring.Move{{Slot: slot, To: to}}))
	}
	step := func(s ring.Step) uint64 { return enter(r.WithSteps([]ring.StepTo{{Step: s}})) }
	enter(r.WithJoin(members[3]))
	move(0, k.d)
	k.idle = r.Epoch
	k.dual, k.readNew, k.back, k.aborted = step(ring.StepDual), step(ring.StepReadNew), step(ring.StepBack), step(ring.StepAbort)
	move(0, k.d)
	k.again, k.later, k.done = step(ring.StepDual), step(ring.StepReadNew), step(ring.StepDone)
	move(1, k.a)
	k.next, _, k.regained = step(ring.StepDual), step(ring.StepReadNew), step(ring.StepDone)
	return k
}

// told adds an operation that is done by these members under an epoch.
func (s *script) told(o Op, epoch uint64, answered ...ring.NodeID) *Op {
	o.Outcome, o.Strict = Done, true
	o.Receipt = &Receipt{Epoch: epoch, Need: 2, Answered: answered}
	return s.add(o)
}

func (s *script) wrote(epoch uint64, answered ...ring.NodeID) *Op {
	return s.told(Op{Value: "v"}, epoch, answered...)
}

func (s *script) read(epoch uint64, answered ...ring.NodeID) *Op {
	return s.told(Op{Read: true}, epoch, answered...)
}

func (s *script) repaired(epoch uint64, answered ...ring.NodeID) {
	s.read(epoch, answered...).Receipt.Repaired = true
}

func TestQuorumsThatBreakTheirRulesAreFound(t *testing.T) {
	k := courseOf(t)
	a, b, c, d := k.a, k.b, k.c, k.d
	const apart = "nobody of these had part"
	for name, test := range map[string]struct {
		play func(s *script)
		want string // of the error; empty for none
	}{
		"two majorities": {func(s *script) { s.wrote(k.idle, a, b); s.read(k.idle, b, c) }, ""},
		"too few":        {func(s *script) { s.wrote(k.idle, a) }, "1 have answered of those that count, 2 must"},
		"one counted twice": {func(s *script) {
			s.wrote(k.idle, a, a)
		}, "is counted twice"},
		"a stranger":                      {func(s *script) { s.read(k.idle, a, d) }, "has no part in it"},
		"an epoch that nobody held":       {func(s *script) { s.wrote(1000, a, b) }, "no node was seen to hold"},
		"a pair":                          {func(s *script) { s.wrote(k.dual, a, b, d) }, ""},
		"others than the pair":            {func(s *script) { s.wrote(k.dual, b, c) }, ""},
		"half a pair":                     {func(s *script) { s.wrote(k.dual, a, b) }, "1 have answered"},
		"the other half":                  {func(s *script) { s.wrote(k.readNew, b, d) }, "1 have answered"},
		"half a pair on the way back":     {func(s *script) { s.wrote(k.back, a, b) }, "1 have answered"},
		"a read by a target":              {func(s *script) { s.read(k.dual, b, d) }, "has no part in it"},
		"a read by who has handed over":   {func(s *script) { s.read(k.readNew, a, b) }, "has no part in it"},
		"a read on the way back":          {func(s *script) { s.read(k.back, a, b) }, ""},
		"a write of pairs, read anywhere": {func(s *script) { s.wrote(k.dual, a, b, d); s.read(k.readNew, c, d); s.read(k.dual, a, c) }, ""},

		// The older write is known to who came since: that is what it pulled.
		"handed over": {func(s *script) { s.wrote(k.idle, a, b); s.read(k.readNew, c, d); s.read(k.done, c, d) }, ""},
		// What it did not pull, because it had part in it, it must have got.
		"not handed over":              {func(s *script) { s.wrote(k.dual, b, c); s.read(k.readNew, b, d) }, ""},
		"read, and handed over":        {func(s *script) { s.read(k.dual, a, b); s.read(k.readNew, c, d) }, ""},
		"read, and handed back":        {func(s *script) { s.read(k.readNew, d, b); s.read(k.back, c, a) }, ""},
		"a reader behind its fence":    {func(s *script) { s.wrote(k.done, d, b); s.read(k.idle, a, c) }, apart},
		"a reader before its fence":    {func(s *script) { s.read(k.idle, a, c); s.wrote(k.done, d, b) }, ""},
		"a reader at its time":         {func(s *script) { s.wrote(k.done, d, b); s.read(k.done, d, c) }, ""},
		"a reader that meets it":       {func(s *script) { s.wrote(k.done, d, b); s.read(k.idle, a, b) }, ""},
		"shown, and not seen again":    {func(s *script) { s.read(k.readNew, d, b); s.read(k.dual, a, c) }, apart},
		"shown, and gone after a turn": {func(s *script) { s.read(k.aborted, a, b); s.read(k.readNew, c, d) }, apart},
		"shown, written, and not seen": {func(s *script) { s.repaired(k.done, d, b); s.read(k.idle, a, c) }, apart},
		"shown, and half written":      {func(s *script) { s.repaired(k.dual, b, d) }, "1 have answered"},
		"written to others than asked": {func(s *script) { s.wrote(k.done, d, b); s.repaired(k.idle, a, c) }, ""},
		"two moves later": {func(s *script) {
			s.wrote(k.idle, b, c)
			s.read(k.regained, a, d)
		}, ""},
		"two moves before":       {func(s *script) { s.wrote(k.regained, a, d); s.read(k.done, b, c) }, apart},
		"two moves before, seen": {func(s *script) { s.wrote(k.regained, a, c); s.read(k.done, b, c) }, ""},
		"less than a majority meets nobody": {func(s *script) {
			put := s.wrote(k.done, b, d)
			put.Receipt.Need, put.Strict = 1, false
			s.read(k.idle, a, c)
		}, ""},
		"stand-ins are not looked at": {func(s *script) { s.wrote(k.idle, a, d).Sloppy = true }, ""},
		"nor is what is not done":     {func(s *script) { s.wrote(k.idle, d).Outcome = Unknown }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			test.play(s)
			err := CheckQuorums(s.History, k.rings)
			errorIs(t, err, test.want)
			var b *Broken
			if err != nil && (!errors.As(err, &b) || b.Promise != Intersect) {
				t.Errorf("%v breaks no promise", err)
			}
		})
	}
}

// What overlaps in time may happen in either order.
func TestQuorumsOfOverlappingOperationsNeedNotMeet(t *testing.T) {
	k := courseOf(t)
	for _, early := range []time.Duration{0, time.Second} {
		s := newScript()
		s.wrote(k.done, k.d, k.b)
		read := s.read(k.idle, k.a, k.c)
		read.Began = read.Began.Add(-time.Second - early)
		err := CheckQuorums(s.History, k.rings)
		if early == 0 && err != nil {
			t.Errorf("the read began when the write ended: %v", err)
		}
		if early > 0 && err != nil {
			t.Errorf("the read began before the write ended: %v", err)
		}
	}
}

// Who holds a fence answers for nothing that is older.
func TestAnswersFromBehindAFenceAreFound(t *testing.T) {
	k := courseOf(t)
	now := time.Now()
	for name, c := range map[string]struct {
		began time.Duration // after the fence was held
		epoch uint64
		who   ring.NodeID
		want  string
	}{
		"at its own epoch":        {time.Second, k.dual, k.a, ""},
		"at an older one":         {time.Second, k.idle, k.a, "had its fence at epoch"},
		"before it had the fence": {-time.Second, k.idle, k.a, ""},
		"of another member":       {time.Second, k.idle, k.c, ""},
	} {
		rings := courseOf(t).rings
		rings.Holds(k.a, rings.At(k.dual))
		s := newScript()
		s.at = now.Add(c.began)
		s.wrote(c.epoch, []ring.NodeID{c.who, k.b, k.d}[:2+min(1, int(c.epoch-k.idle))]...)
		err := CheckQuorums(s.History, rings)
		t.Run(name, func(t *testing.T) { errorIs(t, err, c.want) })
	}
}

// Of every pair of epochs, any write of a majority by the rules is met by any read of
// one of the same epoch.
func TestQuorumsOfOneEpochAlwaysMeet(t *testing.T) {
	k := courseOf(t)
	members := []ring.NodeID{k.a, k.b, k.c, k.d}
	sets := func(set int) (out []ring.NodeID) {
		for i, id := range members {
			if set&(1<<i) != 0 {
				out = append(out, id)
			}
		}
		return out
	}
	met := 0
	for _, epoch := range k.rings.Epochs() {
		for w := range 1 << len(members) {
			for r := range 1 << len(members) {
				s := newScript()
				s.wrote(epoch, sets(w)...)
				s.read(epoch, sets(r)...)
				err := CheckQuorums(s.History, k.rings)
				if err == nil {
					met++
				} else if strings.Contains(err.Error(), "nobody of these") {
					t.Errorf("%v", err)
				}
			}
		}
	}
	if met == 0 {
		t.Error("no write and read are right")
	}
}

func TestRingRecordsThatContradictAreFound(t *testing.T) {
	k := courseOf(t)
	if err := k.rings.Err(); err != nil {
		t.Fatal(err)
	}
	first := k.rings.At(k.done)
	for name, wrong := range map[string]func() (*ring.Record, error){
		"two records of one epoch": func() (*ring.Record, error) { return k.rings.At(k.later).WithWeight(k.a, 7) },
		"a step that was left out": func() (*ring.Record, error) { return k.rings.At(k.dual), nil },
	} {
		rings := NewRings()
		rings.Saw(first)
		r, err := wrong()
		if err != nil {
			t.Fatal(err)
		}
		if r.Epoch != first.Epoch { // it claims to be the next one
			r, err = renumbered(r, first.Epoch+1)
			if err != nil {
				t.Fatal(err)
			}
		}
		rings.Saw(r)
		var b *Broken
		if err := CheckQuorums(newScript().History, rings); !errors.As(err, &b) || b.Promise != OneRing {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// renumbered is a record under another epoch.
func renumbered(r *ring.Record, epoch uint64) (*ring.Record, error) {
	out := *r
	out.Epoch = epoch
	return ring.Decode(out.Encode())
}
