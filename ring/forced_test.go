package ring

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// force makes the record that some members, by number, force on r.
func force(t rapid.TB, r *Record, epoch uint64, survivors ...int) *Record {
	f := Forced{Epoch: epoch, Time: 1700000000000, Who: "ada@host"}
	for _, n := range survivors {
		f.Survivors = append(f.Survivors, r.Members[n].ID)
	}
	f.By = f.Survivors[0]
	next, err := r.WithForced(f)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func fiveKeepers(t rapid.TB) *Record {
	var members []Member
	for n := range 5 {
		members = append(members, Member{ID: NodeID{byte(n + 1)}, Name: string(rune('a' + n))})
	}
	r, err := Found(ClusterID{1}, "test", members[0], 16, 3)
	if err == nil {
		r, err = r.WithTable(members)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Keepers) != 5 {
		t.Fatal("want five keepers")
	}
	return r
}

func TestAForcedRecordKeepsTheTableAndRaisesAllFences(t *testing.T) {
	r := fiveKeepers(t)
	f := force(t, r, 1000, 0, 1)
	for p := range Partition(r.Partitions) {
		if f.Since[p] != 1000 || !slices.Equal(f.Homes(p), r.Homes(p)) {
			t.Fatalf("partition %d: fence %d, homes %v, before %v", p, f.Since[p], f.Homes(p), r.Homes(p))
		}
	}
	if len(f.Members) != 5 || len(f.Keepers) != 1 || f.IsApart(f.Keepers[0]) {
		t.Fatalf("keepers %v of %d members", f.Keepers, len(f.Members))
	}
	for n, m := range f.Members {
		if f.IsApart(m.ID) != (n > 1) {
			t.Errorf("member %d is apart: %v", n, f.IsApart(m.ID))
		}
	}
	again, err := Decode(f.Encode())
	if err != nil || again.Digest() != f.Digest() {
		t.Fatalf("decoded again: %v", err)
	}
	if again.LastForced().Base != r.Epoch || again.LastForced().Digest != r.Digest() || again.LastForced().Who != "ada@host" {
		t.Errorf("it says %+v", again.LastForced())
	}
	said := strings.Join(f.Changes(r), "\n")
	for _, want := range []string{"FORCED to epoch 1000", "ada@host", "2023-11-14", "survivors a 01000000, b 02000000", "keepers are"} {
		if !strings.Contains(said, want) {
			t.Errorf("history does not say %q:\n%s", want, said)
		}
	}
}

func TestNobodyApartIsAKeeperBeforeItIsReadmitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := force(t, fiveKeepers(t), 1000, 0, 1, 2)
		back := map[NodeID]bool{}
		for i := range rapid.IntRange(1, 8).Draw(t, "changes") {
			var next *Record
			var err error
			id := r.Members[rapid.IntRange(0, len(r.Members)-1).Draw(t, "member")].ID
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0:
				next, err = r.WithJoin(Member{ID: NodeID{0x80, byte(i)}})
			case 1:
				next, err = r.WithLeave(id)
			case 2:
				next, err = r.WithRemoval(id)
			case 3:
				next, err = r.WithReadmitted(id)
				back[id] = back[id] || err == nil
			case 4:
				next, err = r.WithJoin(*r.Member(id))
			case 5:
				next, err = r.WithStandby(Member{ID: NodeID{0x90, byte(i)}})
			}
			if err != nil {
				continue
			}
			r = next
			for _, k := range r.Keepers {
				if n := k[0]; n > 3 && n <= 5 && !back[k] {
					t.Fatalf("%s is a keeper, and was not among the survivors", k.Short())
				}
			}
		}
	})
}

func TestWhoIsReadmittedMayKeepAgain(t *testing.T) {
	r := force(t, fiveKeepers(t), 1000, 0)
	if len(r.Keepers) != 1 {
		t.Fatalf("%d keepers", len(r.Keepers))
	}
	if _, err := r.WithLeave(r.Members[0].ID); err == nil || !strings.Contains(err.Error(), "readmit") {
		t.Errorf("the only one who may keep may leave: %v", err)
	}
	for _, n := range []int{1, 2} {
		r = must(t)(r.WithReadmitted(r.Members[n].ID))
	}
	if len(r.Keepers) != 3 || r.IsApart(r.Members[1].ID) || !r.IsApart(r.Members[3].ID) {
		t.Errorf("keepers %v", r.Keepers)
	}
	if again := must(t)(r.WithReadmitted(r.Members[1].ID)); again != r {
		t.Error("readmitted twice")
	}
	must(t)(r.WithLeave(r.Members[0].ID))
}

func TestSplitSaysWhereHistoriesPart(t *testing.T) {
	base := fiveKeepers(t)
	before := must(t)(Found(base.Cluster, base.Name, base.Members[0], 16, 3))
	apart := must(t)(base.WithStandby(Member{ID: NodeID{0x80}})) // agreed on by those who were given up
	forced := force(t, base, 1000, 0, 1)
	after := must(t)(forced.WithStandby(Member{ID: NodeID{0x81}}))
	other := force(t, base, 5000, 2, 3)
	sameEpoch := force(t, base, 1000, 2, 3)
	otherAfter := must(t)(other.WithStandby(Member{ID: NodeID{0x82}}))
	twice := force(t, after, 90000, 0)
	onApart := force(t, apart, 7000, 2)
	for _, c := range []struct {
		what  string
		a, b  *Record
		split bool
	}{
		{"itself", forced, forced, false},
		{"its base", base, forced, false},
		{"before its base", before, after, false},
		{"its successor", forced, after, false},
		{"forced once more", after, twice, false},
		{"forced twice since", base, twice, false},
		{"agreed on behind the base", apart, forced, true},
		{"agreed on behind the base, later", apart, twice, true},
		{"forced apart", forced, other, true},
		{"forced apart, and on", after, otherAfter, true},
		{"forced apart to one epoch", forced, sameEpoch, true},
		{"forced apart, once and twice", otherAfter, twice, true},
		{"forced on what counts no more", forced, onApart, true},
		{"forced on what it holds", apart, onApart, false},
	} {
		for _, err := range []error{c.a.Split(c.b), c.b.Split(c.a)} {
			if (err != nil) != c.split || err != nil && !errors.Is(err, ErrSplit) {
				t.Errorf("%s: %v", c.what, err)
			}
		}
	}
	if err := forced.Split(other); !strings.Contains(err.Error(), "a 01000000, b 02000000") || !strings.Contains(err.Error(), "c 03000000, d 04000000") {
		t.Errorf("it does not name both: %v", err)
	}
}

func TestARecordHidesNothingThatWasForced(t *testing.T) {
	r := force(t, fiveKeepers(t), 1000, 0, 1)
	next := must(t)(r.WithStandby(Member{ID: NodeID{0x81}}))
	for what, change := range map[string]func(*Record){
		"forgets it":         func(n *Record) { n.Forced = nil },
		"another who":        func(n *Record) { n.Forced[0].Who = "eve" },
		"another base":       func(n *Record) { n.Forced[0].Base = 1 },
		"more are apart":     func(n *Record) { n.Forced[0].Apart = append(n.Forced[0].Apart, NodeID{0x81}) },
		"once more, by vote": func(n *Record) { n.Forced = append(n.Forced, n.Forced[0]) },
		"a keeper is apart":  func(n *Record) { n.Keepers = []NodeID{n.Members[4].ID} },
	} {
		bad := next.successor()
		bad.Epoch = next.Epoch
		change(bad)
		bad.seal()
		if err := bad.Follows(r); err == nil {
			t.Errorf("%s: follows", what)
		}
	}
	if err := next.Follows(r); err != nil {
		t.Error(err)
	}
}

func TestForcedRecordsAreValidated(t *testing.T) {
	base := fiveKeepers(t)
	for what, f := range map[string]Forced{
		"no survivors":          {Epoch: 10, By: base.Members[0].ID},
		"not later":             {Epoch: 2, By: base.Members[0].ID, Survivors: []NodeID{base.Members[0].ID}},
		"asked nobody of them":  {Epoch: 10, By: base.Members[1].ID, Survivors: []NodeID{base.Members[0].ID}},
		"not sorted":            {Epoch: 10, By: base.Members[1].ID, Survivors: []NodeID{base.Members[1].ID, base.Members[0].ID}},
		"a stranger alone":      {Epoch: 10, By: NodeID{9}, Survivors: []NodeID{{9}}},
		"a name that is none":   {Epoch: 10, By: base.Members[0].ID, Who: "a\nb", Survivors: []NodeID{base.Members[0].ID}},
		"a name that is longer": {Epoch: 10, By: base.Members[0].ID, Who: strings.Repeat("a", NameMax+1), Survivors: []NodeID{base.Members[0].ID}},
	} {
		if _, err := base.WithForced(f); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	r := base
	for i := range ForcedMax {
		r = force(t, r, r.Epoch+10+uint64(i), 0)
	}
	if _, err := r.WithForced(Forced{Epoch: r.Epoch + 5, By: r.Members[0].ID, Survivors: []NodeID{r.Members[0].ID}}); err == nil {
		t.Error("forced more often than a record can say")
	}
	if len(r.Encode()) > EncodedMax {
		t.Error("too long")
	}
}
