package heal

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
)

func id(n int) (id ring.NodeID) {
	id[0], id[15] = byte(n>>8), byte(n)
	return id
}

func member(n int) ring.Member { return ring.Member{ID: id(n), Weight: 1} }

// record has members 1 to active with slots, and standbys behind them.
func record(t interface{ Fatal(...any) }, active, standbys, replicas int) *ring.Record {
	r, err := ring.Found(ring.ClusterID{1}, "test", member(1), 16, replicas)
	if err != nil {
		t.Fatal(err)
	}
	var members []ring.Member
	for n := 1; n <= active; n++ {
		members = append(members, member(n))
	}
	if r, err = r.WithTable(members); err != nil {
		t.Fatal(err)
	}
	for n := active + 1; n <= active+standbys; n++ {
		if r, err = r.WithStandby(member(n)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// leavingStandby has a sixth member that is to leave and has nothing.
func leavingStandby(t *testing.T) *ring.Record {
	r, err := record(t, 5, 0, 3).WithJoin(member(6))
	if err == nil {
		r, err = r.WithLeave(id(6))
	}
	if err != nil {
		t.Fatal(err)
	}
	if !hasNothing(r, id(6)) {
		t.Fatalf("the sixth member has something: %v", r.Moves)
	}
	return r
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// sight is that of member 1 at noon, with members away for some time.
func sight(away map[int]time.Duration) Sight {
	return Sight{Now: noon, Self: id(1), Away: func(m ring.NodeID) (time.Time, bool) {
		for n, d := range away {
			if id(n) == m {
				return noon.Add(-d), true
			}
		}
		return time.Time{}, false
	}}
}

func TestDecide(t *testing.T) {
	policy := Policy{After: 5 * time.Minute, Pause: 5 * time.Minute}
	long := 10 * time.Minute
	leaving := func(r *ring.Record, n int) *ring.Record {
		next, err := r.WithLeave(id(n))
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	for _, test := range []struct {
		what            string
		r               *ring.Record
		away            map[int]time.Duration
		gave            time.Duration // ago; 0 is never
		dead, successor int           // 0 is none
		over            bool
		waits           string
	}{
		{what: "all are there", r: record(t, 5, 1, 3)},
		{what: "not for long enough", r: record(t, 5, 0, 3), away: map[int]time.Duration{2: 4 * time.Minute}},
		{what: "one is dead", r: record(t, 5, 0, 3), away: map[int]time.Duration{2: long}, dead: 2},
		{what: "a standby takes its slots", r: record(t, 5, 1, 3), away: map[int]time.Duration{2: long}, dead: 2, successor: 6},
		{what: "a standby that is away does not", r: record(t, 5, 2, 3), away: map[int]time.Duration{2: long, 6: time.Second}, dead: 2, successor: 7},
		{what: "a dead standby has nothing to give", r: record(t, 5, 1, 3), away: map[int]time.Duration{6: long}},
		{what: "the longest away first", r: record(t, 7, 0, 3), away: map[int]time.Duration{2: long, 4: 2 * long}, dead: 4},
		{what: "half of the members is no majority", r: record(t, 4, 0, 2), away: map[int]time.Duration{2: long, 3: time.Second}, waits: "2 of 4 members"},
		{what: "a standby is a member, too", r: record(t, 4, 1, 3), away: map[int]time.Duration{2: long, 3: time.Second}, dead: 2, successor: 5},
		{what: "too few would be left", r: record(t, 3, 0, 3), away: map[int]time.Duration{2: long}, waits: "start another server"},
		{what: "a standby is enough", r: record(t, 3, 1, 3), away: map[int]time.Duration{2: long}, dead: 2, successor: 4},
		{what: "one at a time", r: leaving(record(t, 7, 0, 3), 3), away: map[int]time.Duration{2: long, 3: long}, waits: "one at a time"},
		{what: "one that leaves and is there is no reason to wait", r: leaving(record(t, 7, 0, 3), 3), away: map[int]time.Duration{2: long}, dead: 2},
		{what: "who leaves and has nothing is taken out", r: leavingStandby(t), away: map[int]time.Duration{6: long}, dead: 6, over: true},
		{what: "not while it is there", r: leavingStandby(t)},
		{what: "nor by a minority", r: leavingStandby(t), away: map[int]time.Duration{6: long, 2: long, 3: long}, waits: "3 of 6 members"},
		{what: "nobody else has it", r: record(t, 5, 0, 1), away: map[int]time.Duration{2: long}, waits: "the only copy of"},
		{what: "nobody else who is there has it", r: record(t, 5, 0, 2), away: map[int]time.Duration{2: long, 3: time.Second}, waits: "the only copy of"},
		{what: "a while between two", r: record(t, 5, 0, 3), away: map[int]time.Duration{2: long}, gave: time.Minute, waits: "in 4m0s"},
		{what: "the while is over", r: record(t, 5, 0, 3), away: map[int]time.Duration{2: long}, gave: 6 * time.Minute, dead: 2},
	} {
		t.Run(test.what, func(t *testing.T) {
			s := sight(test.away)
			if test.gave > 0 {
				s.Gave = noon.Add(-test.gave)
			}
			d := policy.Decide(test.r, s)
			var dead, successor ring.NodeID
			if test.dead > 0 {
				dead = id(test.dead)
			}
			if test.successor > 0 {
				successor = id(test.successor)
			}
			if d.Dead != dead || d.Dead != (ring.NodeID{}) && d.Successor != successor {
				t.Errorf("gives up %v for %v, want %v for %v (waits: %q)", d.Dead, d.Successor, dead, successor, d.Waits)
			}
			if d.Over != test.over {
				t.Errorf("it is over with the member: %v", d.Over)
			}
			if test.waits == "" && d.Waits != "" || !strings.Contains(d.Waits, test.waits) {
				t.Errorf("waits because %q, want %q", d.Waits, test.waits)
			}
		})
	}
}

// Whatever is seen: who is given up was away for long enough and had slots, a majority is
// there, enough members are left, nobody is given up beside another, and the record takes
// the change. Without a decision for somebody dead there is a reason.
func TestADecisionKeepsItsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := Policy{After: 5 * time.Minute, Pause: time.Duration(rapid.IntRange(0, 10).Draw(t, "pause")) * time.Minute}
		replicas := rapid.IntRange(1, 4).Draw(t, "replicas")
		active, standbys := rapid.IntRange(replicas, 8).Draw(t, "active"), rapid.IntRange(0, 2).Draw(t, "standbys")
		r := record(t, active, standbys, replicas)
		for _, n := range rapid.SliceOfN(rapid.IntRange(1, active), 0, 2).Draw(t, "leaving") {
			if next, err := r.WithLeave(id(n)); err == nil {
				r = next
			}
		}
		away := map[int]time.Duration{}
		for n := 2; n <= active+standbys; n++ {
			if minutes := rapid.IntRange(-10, 10).Draw(t, "away"); minutes > 0 {
				away[n] = time.Duration(minutes) * time.Minute
			}
		}
		s := sight(away)
		if ago := rapid.IntRange(0, 10).Draw(t, "gave"); ago > 0 {
			s.Gave = noon.Add(-time.Duration(ago) * time.Minute)
		}
		d := policy.Decide(r, s)
		dead := policy.dead(r, s)
		if d.Dead.IsZero() {
			if (len(dead) > 0) != (d.Waits != "") {
				t.Fatalf("%d are dead, none is given up, because %q", len(dead), d.Waits)
			}
			return
		}
		there, left := 0, 0
		for _, m := range r.Members {
			_, gone := s.Away(m.ID)
			if !gone {
				there++
			}
			if !gone && (m.State == ring.Active || m.ID == d.Successor) {
				left++
			}
			if gone && m.State == ring.Leaving && r.HomeCount(m.ID) > 0 {
				t.Fatalf("%v is given up beside %v", d.Dead, m.ID)
			}
		}
		since, gone := s.Away(d.Dead)
		if d.Over {
			next, err := d.change(r, s.Away)
			if err != nil || next.Follows(r) != nil || !gone || noon.Sub(since) < policy.After || !hasNothing(r, d.Dead) || r.Member(d.Dead).State != ring.Leaving || 2*there <= len(r.Members) {
				t.Fatalf("%v is taken out: away %v since %v, %d of %d there: %v", d.Dead, gone, since, there, len(r.Members), err)
			}
			return
		}
		switch {
		case !gone || noon.Sub(since) < policy.After || r.HomeCount(d.Dead) == 0:
			t.Fatalf("%v is given up: away %v since %v, with %d slots", d.Dead, gone, since, r.HomeCount(d.Dead))
		case 2*there <= len(r.Members):
			t.Fatalf("%d of %d are there", there, len(r.Members))
		case left < r.Replicas:
			t.Fatalf("%d could take slots of %d replicas", left, r.Replicas)
		case !s.Gave.IsZero() && noon.Sub(s.Gave) < policy.Pause:
			t.Fatalf("one was given up %v ago, the pause is %v", noon.Sub(s.Gave), policy.Pause)
		}
		next, err := d.change(r, s.Away)
		if err != nil {
			t.Fatalf("the change of %+v: %v", d, err)
		}
		if err := next.Follows(r); err != nil {
			t.Fatal(err)
		}
		if m := next.Member(d.Dead); m.State != ring.Leaving {
			t.Fatalf("who is given up is %v", m.State)
		}
		if again, err := d.change(next, s.Away); err != nil || again != next {
			t.Fatalf("a second node with the same decision makes a change: %v", err)
		}
	})
}
