package version

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// genStored draws records of any shape, not only those of the merge tests.
func genStored() *rapid.Generator[Record] {
	return rapid.Custom(func(t *rapid.T) Record {
		r := Record{Key: rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key")}
		if rapid.IntRange(0, 9).Draw(t, "long") == 0 {
			r.Key = bytes.Repeat(r.Key, 100) // a header length of three bytes
		}
		for range rapid.IntRange(0, 4).Draw(t, "writes") {
			d := Dot{Actor(rapid.Uint64().Draw(t, "actor")), rapid.Uint64Range(1, 1<<64-1).Draw(t, "seq")}
			stamp := Stamp(rapid.Uint64().Draw(t, "stamp"))
			if r.Seen.Covers(d) {
				continue
			}
			s := NewTombstone(d, stamp)
			if rapid.Bool().Draw(t, "value") {
				s = NewSibling(d, stamp, rapid.Uint64().Draw(t, "expiry"), rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes"))
			}
			r = r.Put(rapid.SampledFrom([]Context{nil, r.Seen}).Draw(t, "ctx"), s)
		}
		return r
	})
}

func valuesEqual(a, b *Record) bool {
	for i := range a.Siblings {
		if !bytes.Equal(a.Siblings[i].Value, b.Siblings[i].Value) || a.Siblings[i].ValueSize != b.Siblings[i].ValueSize {
			return false
		}
	}
	return true
}

func TestParseReadsWhatAppendWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genStored().Draw(t, "record")
		b := r.Append([]byte("before"))
		b, before := b[6:], b[:6]
		if string(before) != "before" || len(b) > r.Size() {
			t.Fatalf("%d bytes, Size says %d", len(b), r.Size())
		}
		got, err := Parse(b)
		if err != nil || !same(got, r) || !valuesEqual(&got, &r) {
			t.Fatalf("%+v, %v", got, err)
		}
		header, err := Header(b)
		if err != nil {
			t.Fatal(err)
		}
		short, err := ParseHeader(header)
		if err != nil || !same(short, r) {
			t.Fatalf("header: %+v, %v", short, err)
		}
		if LeafOf(b) != r.Leaf() || !bytes.Equal(KeyOf(b), r.Key) {
			t.Fatal("LeafOf or KeyOf differ from the record's")
		}
	})
}

func TestParseFindsEveryDamagedByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genStored().Draw(t, "record")
		b := r.Append(nil)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "mask"))
		if _, err := Parse(b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d: %v", at, err)
		}
	})
}

func TestParseRefusesACutOrLongerRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genStored().Draw(t, "record")
		b := r.Append(nil)
		if _, err := Parse(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut: %v", err)
		}
		if _, err := Parse(append(b, 0)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("longer: %v", err)
		}
	})
}

func TestLeafIgnoresWhatWasSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord().Draw(t, "r")
		more := Record{Key: r.Key, Siblings: r.Siblings, Seen: r.Seen.Union(genContext().Draw(t, "more"))}
		if r.Leaf() != more.Leaf() {
			t.Fatal("what was seen changes the leaf")
		}
		other := genRecord().Draw(t, "other")
		if (r.Leaf() == other.Leaf()) != r.Equal(&other) {
			t.Fatal("the leaf and Equal disagree")
		}
	})
}

// Whatever bytes come, Parse does not panic, and it accepts one form only.
func FuzzParse(f *testing.F) {
	for _, r := range seedRecords() {
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		LeafOf(b)
		KeyOf(b)
		if header, err := Header(b); err == nil {
			if _, err := ParseHeader(header); err == nil && KeyOf(b) == nil {
				t.Fatal("KeyOf finds no key in a good header")
			}
		}
		r, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if len(r.Key) > KeySizeMax || len(r.Seen) > SeenMax || len(r.Siblings) > SiblingsMax {
			t.Fatal("a record over its bounds is taken")
		}
		if again := r.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x\nis also written\n%x", b, again)
		}
	})
}

// The checksum keeps a fuzzer out of the header's parser; this target mends it
// first.
func FuzzParseBehindTheChecksum(f *testing.F) {
	for _, r := range seedRecords() {
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mended := mend(bytes.Clone(b))
		r, err := ParseHeader(mended)
		if err != nil {
			return
		}
		header, err := Header(mended)
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Siblings { // Append wants values; only the header is compared
			r.Siblings[i].Value = nil
		}
		if again := r.Append(nil); !bytes.Equal(again, header) {
			t.Fatalf("%x\nis also written\n%x", header, again)
		}
	})
}

// mend gives b a right leaf and checksum, if it has a header at all.
func mend(b []byte) []byte {
	header, err := Header(b)
	if err != nil {
		return b
	}
	if leaf, ok := leafInHeader(header); ok {
		copy(header[5:], leaf[:])
	}
	b[0] = format
	sum(header)
	return b
}

func seedRecords() []Record {
	one := Record{Key: []byte("k")}
	two := one.Put(nil, NewSibling(Dot{1, 1}, 5, 0, []byte("value"))).Put(nil, NewTombstone(Dot{2, 300}, 6))
	long := Record{Key: bytes.Repeat([]byte("key"), 1000)}
	return []Record{one, two, long.Put(nil, NewSibling(Dot{1 << 60, 1}, 1, 9, nil))}
}

func BenchmarkAppend(b *testing.B) {
	r, buf := benchRecord(1), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = r.Append(buf[:0])
	}
}

func BenchmarkParse(b *testing.B) {
	encoded := benchRecord(1).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHeader(b *testing.B) {
	encoded := benchRecord(1).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseHeader(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	r := benchRecord(1)
	s := benchSibling(1, 100)
	b.ReportAllocs()
	for b.Loop() {
		r.Put(r.Seen, s)
	}
}

func BenchmarkMerge(b *testing.B) {
	x, y := benchRecord(1), benchRecord(2)
	b.ReportAllocs()
	for b.Loop() {
		Merge(*x, *y)
	}
}

func BenchmarkNewSibling(b *testing.B) {
	value := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		NewSibling(Dot{1, 1}, 1, 0, value)
	}
}

func benchSibling(a Actor, seq uint64) Sibling {
	return NewSibling(Dot{a, seq}, 1, 0, make([]byte, 128))
}

// benchRecord is a key that three homes wrote in turn.
func benchRecord(a Actor) *Record {
	r := Record{Key: []byte("user:0000000000000042")}
	for i := range Actor(3) {
		r = r.Put(r.Seen, benchSibling(i*10+a, 7))
	}
	return &r
}
