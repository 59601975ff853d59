package ring

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// No two byte strings are the same record: whatever is changed in an encoding
// makes another record or none.
func TestDecodeTakesNoOtherEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		b := r.Encode()
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		case 1:
			b = b[:at]
		case 2:
			b = append(b, rapid.Byte().Draw(t, "more"))
		case 3:
			b = append(b[:at+1], b[at:]...)
			b[at] |= 0x80 // as a uvarint with a needless byte would begin
		}
		got, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || got != nil {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !bytes.Equal(got.Encode(), b) {
			t.Fatal("two encodings of one record")
		}
		if got.Digest() == r.Digest() {
			t.Fatal("a changed encoding is the same record")
		}
	})
}

// What is cut off anywhere is refused.
func TestDecodeRefusesEveryBeginning(t *testing.T) {
	b := found(t, testMembers(4), 16, 3).Encode()
	for n := range b {
		if _, err := Decode(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	for what, more := range map[string][]byte{"left over": append(bytes.Clone(b), 0), "format": append([]byte{formatUneven + 1}, b[1:]...)} {
		if _, err := Decode(more); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v, want one with %q", err, what)
		}
	}
}

// claims are headers that promise more than they have.
func claims() map[string][]byte {
	head := append(append([]byte{format, 1}, testCluster[:]...), 1, 'k')
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}
	return map[string][]byte{
		"a name":                 append(append([]byte{format, 1}, testCluster[:]...), huge...),
		"members":                append(append(bytes.Clone(head), 14, 7), huge...),
		"a million members":      append(append(bytes.Clone(head), 14, 7), 0xc0, 0x84, 0x3d),
		"2^31 partitions":        append(bytes.Clone(head), 31, 7, 0),
		"2^200 partitions":       append(bytes.Clone(head), 200, 7, 0),
		"another format":         {formatUneven + 1},
		"nothing":                nil,
		"more than the most":     make([]byte, EncodedMax+1),
		"a table and no members": append(bytes.Clone(head), 10, 7, 0, 0, 0, 0x80, 8, 0, 1),
		"1000 members":           append(bytes.Clone(head), 0, 7, 0xe8, 7),
		"16384 banned IDs":       append(bytes.Clone(head), 0, 7, 0, 0, 0x80, 0x80, 1),
		"endless fences":         append(append(bytes.Clone(head), 0, 7, 0, 0, 0), huge...),
	}
}

func TestDecodeAllocatesNothingForClaims(t *testing.T) {
	for name, b := range claims() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(b)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v", name, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<10 {
			t.Errorf("%s: %d bytes were allocated", name, grown)
		}
	}
}

func FuzzDecode(f *testing.F) {
	first := blank(4)
	second := found(f, testMembers(4), 4, 3)
	f.Add(first.Encode())
	f.Add(second.Encode())
	moving := second.successor()
	for i := range moving.Members {
		if to := moving.Members[i].ID; second.HomeIndex(0, to) < 0 {
			moving.Moves = []Move{{From: second.Homes(0)[0], To: to, Phase: PhasePlan}}
		}
	}
	moving.Since[0] = moving.Epoch
	moving.Banned = []NodeID{testID(99)}
	moving.seal()
	f.Add(moving.Encode())
	f.Add(force(f, force(f, second, 1000, 0, 1), 1<<41, 1).Encode())
	for _, n := range []int{2, 4} {
		uneven := must(f)(second.WithReplicas(n))
		f.Add(uneven.Encode())
		uneven = must(f)(uneven.WithSteps([]StepTo{{0, StepDual}}))
		f.Add(uneven.Encode())
		f.Add(resized(f, uneven, 0).Encode())
	}
	for _, b := range claims() {
		if len(b) < 1<<10 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Encode(), b) {
			t.Fatal("not the canonical encoding")
		}
		for p := range Partition(r.Partitions) {
			if n := len(r.Homes(p)); n != 0 && n != r.Replicas && r.Before == 0 {
				t.Fatalf("partition %d has %d homes", p, n)
			}
		}
		r.Balance()
		if r.Epoch < 1<<64-1 && len(r.Members) < MembersMax {
			if next, err := r.WithStandby(testMember(12345)); err == nil {
				if err := next.Follows(r); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := found(b, testMembers(5), PartitionsDefault, ReplicasDefault).Encode()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r := found(b, testMembers(5), PartitionsDefault, ReplicasDefault)
	b.ReportAllocs()
	for b.Loop() {
		if len(r.Encode()) == 0 {
			b.Fatal("empty")
		}
	}
}

func BenchmarkPlanJoin(b *testing.B) {
	sizes := []int{5, 200}
	if os.Getenv("KITH_LONG") != "" {
		sizes = append(sizes, MembersMax-1)
	}
	for _, size := range sizes {
		b.Run(testMember(size).Name, func(b *testing.B) {
			r := found(b, testMembers(size), PartitionsDefault, ReplicasDefault)
			newcomer := testMember(size)
			newcomer.State = Active
			members := append(r.Members[:size:size], newcomer)
			for b.Loop() {
				if _, err := r.Plan(members, ReplicasDefault); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Numbers and runs that could be written in two ways are taken in one.
func TestDecodeRefusesLongerWaysToSayTheSame(t *testing.T) {
	b := blank(4).Encode()
	epoch := 1 // its place
	long := append([]byte{format, 0x81, 0}, b[epoch+1:]...)
	run := bytes.LastIndex(b, []byte{4, 0, 0, 0}) // four partitions changed now; no table, no moves
	split := append(append(bytes.Clone(b[:run]), 1, 0, 3, 0), b[run+2:]...)
	if b[epoch] != 1 || run < 0 {
		t.Fatalf("the layout changed: % x", b)
	}
	for name, b := range map[string][]byte{"a longer number": long, "a run in two parts": split} {
		if _, err := Decode(b); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "not the canonical encoding") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
