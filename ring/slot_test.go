package ring

import (
	"bytes"
	"testing"
)

// The slots that Redis publishes: the check value of CRC16 in the cluster
// specification, the examples of CLUSTER KEYSLOT, and those of the tutorial.
func TestSlotsAreThoseOfRedisCluster(t *testing.T) {
	for key, want := range map[string]uint16{
		"123456789":     0x31c3,
		"somekey":       11058,
		"foo{hash_tag}": 2515,
		"bar{hash_tag}": 2515,
		"foo":           12182,
		"hello":         866,
		"":              0,
	} {
		if got := SlotOf([]byte(key)); got != want {
			t.Errorf("slot of %q is %d, Redis has %d", key, got, want)
		}
	}
}

// The examples of the specification's chapter on hash tags.
func TestHashTagsKeepKeysTogether(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"{user1000}.following", "{user1000}.followers", true},
		{"{user1000}.following", "user1000", true},
		{"foo{{bar}}zap", "{bar", true},
		{"foo{bar}{zap}", "bar", true},
		{"foo{}{bar}", "bar", false},
		{"foo{}{bar}", "foo", false},
		{"foo}{bar", "bar", false},
		{"foo{bar", "bar", false},
	} {
		if same := SlotOf([]byte(c.a)) == SlotOf([]byte(c.b)); same != c.same {
			t.Errorf("%q and %q in one slot: %v, want %v", c.a, c.b, same, c.same)
		}
	}
}

// bitwise is CRC16/XMODEM by its definition.
func bitwise(key []byte) (crc uint16) {
	for _, b := range key {
		for bit := 7; bit >= 0; bit-- {
			top := crc>>15&1 != uint16(b>>bit&1)
			crc <<= 1
			if top {
				crc ^= 0x1021
			}
		}
	}
	return crc
}

func FuzzSlotOf(f *testing.F) {
	f.Add([]byte("foo{bar}baz"))
	f.Add([]byte("{}{a}"))
	f.Fuzz(func(t *testing.T, key []byte) {
		part := key
		if open := bytes.IndexByte(key, '{'); open >= 0 {
			if tag, _, closed := bytes.Cut(key[open+1:], []byte("}")); closed && len(tag) > 0 {
				part = tag
			}
		}
		if got, want := SlotOf(key), bitwise(part)%SlotCount; got != want {
			t.Errorf("slot of %q is %d, by the definition %d", key, got, want)
		}
	})
}

func BenchmarkHomesOfKey(b *testing.B) {
	r := found(b, testMembers(5), PartitionsDefault, ReplicasDefault)
	key := []byte("package/1.2.3-4/amd64")
	b.ReportAllocs()
	for b.Loop() {
		if len(r.Homes(r.PartitionOf(key))) != 3 {
			b.Fatal("homes are missing")
		}
	}
}

func TestFindingTheHomesOfAKeyAllocatesNothing(t *testing.T) {
	r := found(t, testMembers(5), PartitionsDefault, ReplicasDefault)
	key, id := []byte("package/1.2.3-4/amd64"), testID(3)
	sum := 0
	if n := testing.AllocsPerRun(100, func() {
		p := r.PartitionOf(key)
		sum += len(r.Homes(p)) + r.HomeIndex(p, id) + r.HomeCount(id)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
