package ring

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawFounded draws a founded record that has room for more epochs.
func drawFounded(t *rapid.T) *Record {
	return rapid.Custom(drawRecord).Filter(func(r *Record) bool { return r.Founded() && r.Epoch < 1<<60 }).Draw(t, "record")
}

func lost(t rapid.TB, r *Record, old NodeID) *Record {
	t.Helper()
	next, err := r.WithLost(old)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestALostMemberKeepsItsSlotsAndOnlyItsFencesRise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawFounded(t)
		old := rapid.SampledFrom(r.Members).Draw(t, "old").ID
		next := lost(t, r, old)
		if err := next.Follows(r); err != nil {
			t.Fatal(err)
		}
		if again := lost(t, next, old); again != next {
			t.Fatal("who is lost already changes the record")
		}
		if _, err := Decode(next.Encode()); err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(r.Members)
		want[r.index(old)].State = Lost
		if !slices.Equal(next.Members, want) || !slices.Equal(next.table, r.table) || !slices.Equal(next.Keepers, r.Keepers) ||
			!slices.Equal(next.Banned, r.Banned) || !slices.Equal(next.Moves, r.Moves) {
			t.Fatal("more has changed than the member's state")
		}
		for p, since := range next.Since {
			if home := r.HomeIndex(Partition(p), old) >= 0; home && since != next.Epoch || !home && since != r.Since[p] {
				t.Fatalf("partition %d: fence %d, before it was %d", p, since, r.Since[p])
			}
		}
	})
}

func TestReplacingTakesThePlaceOfTheLostOneAndTouchesNoOtherSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawFounded(t)
		old := *r.Member(rapid.SampledFrom(r.homes).Draw(t, "old"))
		r = lost(t, r, old.ID)
		m := testMember(500)
		m.Zone = rapid.SampledFrom([]string{"", "z0", "elsewhere"}).Draw(t, "zone")
		if rapid.Bool().Draw(t, "standby") {
			var err error
			if r, err = r.WithStandby(m); err != nil {
				t.Fatal(err)
			}
		}
		busy := slices.ContainsFunc(r.Moves, func(m Move) bool { return m.names(old.ID) && m.Phase > PhaseDual })
		next, err := r.WithReplacement(old.ID, m)
		if busy {
			if err == nil || !strings.Contains(err.Error(), "must end first") {
				t.Fatalf("a move reads from its target already: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		checkReplacement(t, r, next, old, m)
	})
}

func checkReplacement(t *rapid.T, r, next *Record, old, m Member) {
	if err := next.Follows(r); err != nil {
		t.Fatal(err)
	}
	if back, err := Decode(next.Encode()); err != nil || back.Digest() != next.Digest() {
		t.Fatalf("decoded: %v", err)
	}
	is := next.Member(m.ID)
	if next.Member(old.ID) != nil || !next.IsBanned(old.ID) || is == nil || is.State != Active || is.Weight != old.Weight || is.Zone != m.Zone {
		t.Fatalf("old %v, new %v", next.Member(old.ID), is)
	}
	if next.IsKeeper(m.ID) != r.IsKeeper(old.ID) || len(next.Keepers) != len(r.Keepers) {
		t.Fatalf("keepers %v became %v", r.Keepers, next.Keepers)
	}
	for _, other := range r.Members {
		if is := next.Member(other.ID); other.ID != old.ID && other.ID != m.ID && (is == nil || *is != other || next.IsKeeper(other.ID) != r.IsKeeper(other.ID)) {
			t.Fatalf("member %v became %v", other, is)
		}
	}
	for p := range Partition(r.Partitions) {
		want := slices.Clone(r.Homes(p))
		changed := false
		if s := slices.Index(want, old.ID); s >= 0 {
			want[s], changed = m.ID, true
		}
		if !slices.Equal(next.Homes(p), want) {
			t.Fatalf("partition %d: homes %v became %v", p, r.Homes(p), next.Homes(p))
		}
		before, after := r.MoveOf(p), next.MoveOf(p)
		if before != nil && before.names(old.ID) {
			changed = changed || before.Phase != PhasePlan
			if after != nil {
				t.Fatalf("%v is still there", after)
			}
		} else if !reflect.DeepEqual(before, after) {
			t.Fatalf("%v became %v", before, after)
		}
		want64 := r.Since[p]
		if changed {
			want64 = next.Epoch
		}
		if next.Since[p] != want64 {
			t.Fatalf("partition %d: fence %d, want %d", p, next.Since[p], want64)
		}
	}
}

func TestReplacingRefusesByName(t *testing.T) {
	members := testMembers(5)
	r := found(t, members, 16, 3)
	gone := lost(t, r, members[2].ID)
	banned := altered(gone, func(r *Record) { r.Banned = []NodeID{testID(9)} })
	for want, try := range map[string]func() error{
		"is not a member": func() error { _, err := gone.WithReplacement(testID(77), testMember(8)); return err },
		"is active, and must be given up first": func() error {
			_, err := r.WithReplacement(members[2].ID, testMember(8))
			return err
		},
		"removed from the cluster":     func() error { _, err := banned.WithReplacement(members[2].ID, testMember(9)); return err },
		"already a member, and active": func() error { _, err := gone.WithReplacement(members[2].ID, members[1]); return err },
		"already a member, and lost":   func() error { _, err := gone.WithReplacement(members[2].ID, members[2]); return err },
		"is home of nothing": func() error {
			r, err := r.WithStandby(testMember(7))
			if err != nil {
				return err
			}
			return onlyErr(lost(t, r, testID(7)).WithReplacement(testID(7), testMember(8)))
		},
		"give up member":                       func() error { _, err := r.WithLost(testID(77)); return err },
		"the cluster is not founded yet":       func() error { u := unfounded(t); _, err := u.WithLost(u.Members[0].ID); return err },
		"cannot be printed":                    func() error { return onlyErr(gone.WithReplacement(members[2].ID, Member{ID: testID(8), Name: "\x00"})) },
		"16385 banned IDs, at most 16384":      func() error { return onlyErr(full(gone).WithReplacement(members[2].ID, testMember(8))) },
		"replace member " + testID(77).Short(): func() error { return onlyErr(gone.WithReplacement(testID(77), testMember(8))) },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := gone.WithReplacement(members[2].ID, members[1]); !errors.Is(err, ErrKnown) {
		t.Errorf("a home is not known: %v", err)
	}
	if _, err := banned.WithReplacement(members[2].ID, testMember(9)); !errors.Is(err, ErrBanned) {
		t.Errorf("a removed one is not banned: %v", err)
	}
}

func onlyErr(_ *Record, err error) error { return err }

func unfounded(t *testing.T) *Record {
	r, err := Found(testCluster, "kith", testMember(0), 8, 3)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// full is the record with as many banned IDs as there may be.
func full(r *Record) *Record {
	return altered(r, func(r *Record) {
		for i := range BannedMax {
			r.Banned = append(r.Banned, testID(10_000+i))
		}
		slices.SortFunc(r.Banned, NodeID.Compare)
	})
}

// Whoever votes takes only what changes nothing beside the replacement.
func TestNothingHidesBehindAReplacement(t *testing.T) {
	members := testMembers(5)
	r := lost(t, found(t, members, 16, 3), members[2].ID)
	good, err := r.WithReplacement(members[2].ID, testMember(8))
	if err != nil {
		t.Fatal(err)
	}
	swap := func(r *Record) { r.table[0], r.table[1] = r.table[1], r.table[0] }
	for name, change := range map[string]func(r *Record){
		"slots of another partition": swap,
		"another keeper":             func(r *Record) { r.Keepers = r.Keepers[:len(r.Keepers)-1] },
		"another weight":             func(r *Record) { r.Members[0].Weight++ },
		"a fence too high":           func(r *Record) { r.Since[outOf(good, testID(8))] = r.Epoch },
		"a fence too low":            func(r *Record) { r.Since[homeOf(good, testID(8))] = r.Epoch - 1 },
		"a member of no standing":    func(r *Record) { r.Members[r.index(testID(8))].State = Leaving },
		"nobody banned":              func(r *Record) { r.Banned = nil },
		"a second one banned":        func(r *Record) { r.Banned = append(r.Banned, NodeID{0xff, 0xff, 0xff, 0xff}) },
	} {
		if err := altered(good, change).Follows(r); err == nil {
			t.Errorf("%s hides behind a replacement", name)
		}
	}
	if err := good.Follows(r); err != nil {
		t.Error(err)
	}
}

// homeOf is a partition that the member is a home of, outOf one that it is not.
func homeOf(r *Record, id NodeID) int {
	return firstWhere(r, func(p Partition) bool { return r.HomeIndex(p, id) >= 0 })
}

func outOf(r *Record, id NodeID) int {
	return firstWhere(r, func(p Partition) bool { return r.HomeIndex(p, id) < 0 })
}

func firstWhere(r *Record, ok func(Partition) bool) int {
	for p := range r.Partitions {
		if ok(Partition(p)) {
			return p
		}
	}
	panic("no such partition")
}

func TestWhoIsLostStaysLost(t *testing.T) {
	members := testMembers(5)
	r := lost(t, found(t, members, 16, 3), members[2].ID)
	back := altered(r, func(r *Record) { r.Epoch++; r.Members[r.index(members[2].ID)].State = Active })
	if err := back.Follows(r); err == nil || !strings.Contains(err.Error(), "was lost and became active") {
		t.Errorf("a lost member comes back: %v", err)
	}
	plan, err := r.Plan(r.Members, 3)
	if err != nil {
		t.Fatal(err)
	}
	for p := range Partition(r.Partitions) {
		if slices.Contains(plan.Homes(p), members[2].ID) {
			t.Fatalf("partition %d is planned for a lost member", p)
		}
	}
}
