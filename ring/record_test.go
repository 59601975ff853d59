package ring

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFoundingGoesThroughEpochsOneAndTwo(t *testing.T) {
	first, err := Found(testCluster, "kith", testMember(7), 64, 3)
	if err != nil {
		t.Fatal(err)
	}
	if first.Epoch != 1 || first.Founded() || !slices.Equal(first.Keepers, []NodeID{testID(7)}) || len(first.Members) != 1 {
		t.Fatalf("first record: %+v", first)
	}
	if first.Homes(3) != nil || first.HomeIndex(3, testID(7)) != -1 || first.HomeCount(testID(7)) != 0 || len(first.Order(3)) != 0 {
		t.Fatal("homes before the founding")
	}
	second, err := first.WithTable([]Member{testMember(9), testMember(7), testMember(8)})
	if err != nil {
		t.Fatal(err)
	}
	if second.Epoch != 2 || !second.Founded() || len(second.Keepers) != 3 {
		t.Fatalf("second record: epoch %d, founded %v, keepers %v", second.Epoch, second.Founded(), second.Keepers)
	}
	for p := range Partition(64) {
		homes := second.Homes(p)
		if len(homes) != 3 || second.Since[p] != 2 {
			t.Fatalf("partition %d: homes %v since %d", p, homes, second.Since[p])
		}
		for s, id := range homes {
			if second.HomeIndex(p, id) != s {
				t.Fatalf("partition %d: home %d is at %d", p, s, second.HomeIndex(p, id))
			}
		}
	}
	if second.Homes(64) != nil || second.Homes(1<<16-1) != nil {
		t.Error("a partition that does not exist has homes")
	}
	if first.Founded() || first.Since[0] != 1 || len(first.Members) != 1 {
		t.Error("the first record changed")
	}
	if second.HomeCount(testID(8)) != 64 || second.HomeCount(testID(1)) != 0 {
		t.Errorf("home counts %d and %d", second.HomeCount(testID(8)), second.HomeCount(testID(1)))
	}
	if second.Member(testID(8)).Name != "n8" || second.Member(testID(1)) != nil {
		t.Error("members are not found by their IDs")
	}
	if !second.IsKeeper(testID(8)) || second.IsKeeper(testID(1)) {
		t.Error("keepers are not found by their IDs")
	}
	if _, err := second.WithTable(second.Members); err == nil {
		t.Error("founded twice")
	}
}

func TestFoundingWithTooFewMembersNamesBothNumbers(t *testing.T) {
	first, err := Found(testCluster, "kith", testMember(0), 64, 3)
	if err != nil {
		t.Fatal(err)
	}
	_, err = first.WithTable(testMembers(2))
	if err == nil || !strings.Contains(err.Error(), "3 replicas") || !strings.Contains(err.Error(), "got 2") {
		t.Errorf("error %v", err)
	}
	for name, members := range map[string][]Member{
		"nobody":              nil,
		"without the founder": {testMember(1), testMember(2), testMember(3)},
		"one twice":           {testMember(0), testMember(1), testMember(1)},
		"a nameless ID":       {testMember(0), testMember(1), {}},
	} {
		if _, err := first.WithTable(members); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestEveryMemberFoundsTheSameTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := drawMembers(t, 3, 20, 4, 3)
		first, err := Found(testCluster, "kith", members[0], 128, 3)
		if err != nil {
			t.Fatal(err)
		}
		a, err := first.WithTable(members)
		if err != nil {
			t.Fatal(err)
		}
		b, err := first.WithTable(rapid.Permutation(members).Draw(t, "order"))
		if err != nil || a.Digest() != b.Digest() {
			t.Fatalf("digests differ, %v", err)
		}
	})
}

func TestFoundRefusesNumbersOutOfBounds(t *testing.T) {
	long := strings.Repeat("x", NameMax+1)
	for name, c := range map[string]struct {
		cluster  ClusterID
		name     string
		founder  Member
		q, n     int
		complain string
	}{
		"no cluster ID":      {ClusterID{}, "kith", testMember(0), 64, 3, "zero cluster ID"},
		"no name":            {testCluster, "", testMember(0), 64, 3, "without a name"},
		"long name":          {testCluster, long, testMember(0), 64, 3, "at most 64"},
		"control characters": {testCluster, "a\nb", testMember(0), 64, 3, "cannot be printed"},
		"not UTF-8":          {testCluster, "a\xff", testMember(0), 64, 3, "UTF-8"},
		"no partitions":      {testCluster, "kith", testMember(0), 0, 3, "0 partitions"},
		"negative":           {testCluster, "kith", testMember(0), -4, 3, "-4 partitions"},
		"not a power of two": {testCluster, "kith", testMember(0), 1000, 3, "power of two"},
		"many partitions":    {testCluster, "kith", testMember(0), 2 * SlotCount, 3, "32768 partitions"},
		"no replicas":        {testCluster, "kith", testMember(0), 64, 0, "0 replicas"},
		"many replicas":      {testCluster, "kith", testMember(0), 64, 8, "8 replicas"},
		"zero ID":            {testCluster, "kith", Member{Name: "a"}, 64, 3, "zero ID"},
		"long zone":          {testCluster, "kith", Member{ID: testID(0), Zone: long}, 64, 3, "zone"},
	} {
		if _, err := Found(c.cluster, c.name, c.founder, c.q, c.n); err == nil || !strings.Contains(err.Error(), c.complain) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.complain)
		}
	}
}

func TestStandbyJoinsWithoutTouchingAFence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := found(t, drawMembers(t, 3, 20, 4, 3), 64, 3)
		for i := range rapid.IntRange(1, 5).Draw(t, "newcomers") {
			m := testMember(100 + i)
			next, err := r.WithStandby(m)
			if err != nil {
				t.Fatal(err)
			}
			if next.Epoch != r.Epoch+1 || !slices.Equal(next.Since, r.Since) || !slices.Equal(next.Keepers, r.Keepers) {
				t.Fatal("a standby changed more than the members")
			}
			if next.Member(m.ID).State != Standby || next.HomeCount(m.ID) != 0 || len(next.Members) != len(r.Members)+1 {
				t.Fatalf("standby %+v", next.Member(m.ID))
			}
			for p := range Partition(64) {
				if !slices.Equal(next.Homes(p), r.Homes(p)) {
					t.Fatalf("partition %d: homes %v became %v", p, r.Homes(p), next.Homes(p))
				}
			}
			if err := next.Follows(r); err != nil {
				t.Fatal(err)
			}
			if _, err := next.WithStandby(m); !errors.Is(err, ErrKnown) {
				t.Fatalf("second time: %v", err)
			}
			r = next
		}
	})
}

func TestRemovedMembersDoNotComeBack(t *testing.T) {
	r := found(t, testMembers(3), 64, 3)
	r = r.successor()
	r.Banned = []NodeID{testID(9)}
	r.seal()
	if _, err := r.WithStandby(testMember(9)); !errors.Is(err, ErrBanned) {
		t.Errorf("error %v, want %v", err, ErrBanned)
	}
	if _, err := r.WithStandby(testMember(8)); err != nil {
		t.Errorf("another one: %v", err)
	}
}

func TestRecordIsFull(t *testing.T) {
	r := blank(1)
	for i := 1; i < MembersMax; i++ {
		next, err := r.WithStandby(testMember(i))
		if err != nil {
			t.Fatal(err)
		}
		r = next
	}
	if _, err := r.WithStandby(testMember(MembersMax)); err == nil || !strings.Contains(err.Error(), "1001 members, want 1 to 1000") {
		t.Errorf("error %v", err)
	}
}

func TestPartitionsCutTheSlotsInEqualRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := 1 << rapid.IntRange(0, 14).Draw(t, "partitions")
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		got := blank(q).PartitionOf(key)
		run := SlotCount / q
		if slot := int(SlotOf(key)); int(got) != slot/run {
			t.Fatalf("slot %d is in partition %d of %d", slot, got, q)
		}
	})
}

// drawRecord draws a record with everything that a record may have.
func drawRecord(t *rapid.T) *Record {
	replicas := rapid.IntRange(1, 5).Draw(t, "replicas")
	members := drawMembers(t, replicas, 30, 5, 5)
	first, err := Found(testCluster, rapid.SampledFrom([]string{"kith", "ü", strings.Repeat("n", NameMax)}).Draw(t, "name"), members[0], 1<<rapid.IntRange(0, 6).Draw(t, "partitions"), replicas)
	if err != nil {
		t.Fatal(err)
	}
	if rapid.IntRange(0, 9).Draw(t, "unfounded") == 0 {
		return first
	}
	r, err := first.WithTable(members)
	if err != nil {
		t.Fatal(err)
	}
	r = r.successor()
	r.Epoch = rapid.Uint64Range(3, 1<<64-1).Draw(t, "epoch")
	for i := range rapid.IntRange(0, 4).Draw(t, "banned") {
		r.Banned = append(r.Banned, testID(1000+i))
	}
	slices.SortFunc(r.Banned, NodeID.Compare)
	for p := range r.Since {
		r.Since[p] = rapid.SampledFrom([]uint64{1, 2, r.Epoch - 1, r.Epoch}).Draw(t, "since")
		if m, ok := drawMove(t, r, Partition(p)); ok {
			r.Moves = append(r.Moves, m)
		}
	}
	r.seal()
	return r
}

func drawMove(t *rapid.T, r *Record, p Partition) (Move, bool) {
	to := rapid.IntRange(0, len(r.Members)-1).Draw(t, "to")
	row := r.row(int(p))
	if slices.Contains(row, uint16(to)) || r.Members[to].State == Standby {
		return Move{}, false
	}
	slot := rapid.IntRange(0, r.Replicas-1).Draw(t, "slot")
	return Move{
		Partition: p, Slot: uint8(slot), From: r.Members[row[slot]].ID, To: r.Members[to].ID,
		Phase: Phase(rapid.IntRange(int(PhasePlan), int(PhaseBack)).Draw(t, "phase")),
	}, true
}

func TestDecodeGivesWhatWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		b := r.Encode()
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Encode(), b) || got.Digest() != r.Digest() {
			t.Fatal("encoded again it is another record")
		}
		if got.Epoch != r.Epoch || got.Cluster != r.Cluster || got.Name != r.Name || got.Partitions != r.Partitions || got.Replicas != r.Replicas ||
			!slices.Equal(got.Keepers, r.Keepers) || !slices.Equal(got.Members, r.Members) || !slices.Equal(got.Banned, r.Banned) ||
			!slices.Equal(got.Since, r.Since) || !slices.Equal(got.Moves, r.Moves) {
			t.Fatalf("%+v became %+v", r, got)
		}
		for p := range Partition(r.Partitions) {
			if !slices.Equal(got.Homes(p), r.Homes(p)) || (got.MoveOf(p) == nil) != (r.MoveOf(p) == nil) {
				t.Fatalf("partition %d has other homes or moves", p)
			}
		}
		for i := range b {
			b[i] = 0xff
		}
		if got.Digest() != r.Digest() || !slices.Equal(got.Members, r.Members) || !slices.Equal(got.Homes(0), r.Homes(0)) {
			t.Fatal("the record shares memory with what it was read from")
		}
	})
}

func TestEncodingIsAFewKiB(t *testing.T) {
	if n := len(found(t, testMembers(5), PartitionsDefault, ReplicasDefault).Encode()); n > 4<<10 {
		t.Errorf("five members take %d bytes", n)
	}
	if n := len(found(t, testMembers(300), PartitionsDefault, ReplicasDefault).Encode()); n > 16<<10 {
		t.Errorf("300 members take %d bytes", n)
	}
}

// The largest record that the bounds allow stays within EncodedMax.
func TestLargestRecordFits(t *testing.T) {
	r := &Record{Epoch: 1<<64 - 1, Cluster: testCluster, Name: strings.Repeat("c", NameMax), Partitions: SlotCount, Replicas: ReplicasMax}
	for i := range MembersMax {
		r.Members = append(r.Members, Member{
			ID: testID(i), Name: strings.Repeat("n", NameMax), Zone: strings.Repeat("z", NameMax), Weight: 65535, State: Active,
		})
	}
	sortMembers(r.Members)
	for i := range KeepersMax {
		r.Keepers = append(r.Keepers, r.Members[i].ID)
	}
	for i := range BannedMax {
		r.Banned = append(r.Banned, testID(MembersMax+i))
	}
	slices.SortFunc(r.Banned, NodeID.Compare)
	for p := range SlotCount {
		r.Since = append(r.Since, uint64(1+p%2))
		for s := range ReplicasMax {
			r.table = append(r.table, uint16((p+s)%MembersMax))
		}
		to := r.Members[(p+ReplicasMax)%MembersMax].ID
		r.Moves = append(r.Moves, Move{Partition: Partition(p), From: r.Members[p%MembersMax].ID, To: to, Phase: PhaseDual})
	}
	b := r.Encode()
	if got, err := Decode(b); err != nil || len(b) > EncodedMax {
		t.Errorf("%d bytes of at most %d, %v, %v", len(b), EncodedMax, got != nil, err)
	}
}
