package antientropy

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// message is what catch-up and stand-ins send.
type message interface {
	wire.Appender
	wire.Parser
}

func genDots(t *rapid.T) store.DotSet {
	var c store.Clock
	for range rapid.IntRange(0, 30).Draw(t, "dots") {
		c.Add(version.Dot{Actor: version.Actor(rapid.Uint64Range(1, 3).Draw(t, "actor")), Seq: rapid.Uint64Range(1, 40).Draw(t, "seq")}, false)
	}
	return dotsOfClock(&c)
}

func genMessage(t *rapid.T) message {
	p := func() ring.Partition { return ring.Partition(rapid.IntRange(0, ring.SlotCount-1).Draw(t, "p")) }
	blob := func(min int) []byte { return rapid.SliceOfN(rapid.Byte(), min, 20).Draw(t, "blob") }
	n := rapid.Uint64()
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		m := &clocksRequest{Epoch: n.Draw(t, "epoch"), Era: n.Draw(t, "era"), Since: n.Draw(t, "since"), From: p()}
		for range rapid.IntRange(0, 3).Draw(t, "only") {
			m.Only = append(m.Only, p())
		}
		slices.Sort(m.Only)
		m.Only = slices.Compact(m.Only)
		return m
	case 1:
		m := &clocksResponse{Era: n.Draw(t, "era"), Now: n.Draw(t, "now")}
		ps := rapid.SliceOfNDistinct(rapid.IntRange(0, ring.SlotCount-2), 0, 5, rapid.ID[int]).Draw(t, "partitions")
		slices.Sort(ps)
		for _, q := range ps {
			m.Clocks = append(m.Clocks, partitionClock{pOf(q), clockOfDots(genDots(t))})
			if ends := genEnds(t, true); len(ends) > 0 {
				m.Ends = append(m.Ends, partitionEnds{pOf(q), ends})
			}
		}
		if m.More = rapid.Bool().Draw(t, "more"); m.More {
			m.Next = ring.SlotCount - 1
		}
		return m
	case 2:
		m := &pullRequest{Epoch: n.Draw(t, "epoch"), Partition: p(), Era: n.Draw(t, "era"), Want: genDots(t), Have: clockOfDots(genDots(t))}
		if rapid.Bool().Draw(t, "after") {
			m.After = blob(1)
		}
		return m
	case 3:
		m := &pullResponse{Verdict: rapid.Bool().Draw(t, "verdict"), Done: rapid.Bool().Draw(t, "done"), Scanned: rapid.Bool().Draw(t, "scanned")}
		for a := range rapid.IntRange(0, 4).Draw(t, "base") {
			m.Base = append(m.Base, version.Dot{Actor: version.Actor(a + 1), Seq: 1 + n.Draw(t, "seq")>>1})
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "items") {
			key := []byte{byte('a' + i)}
			it := item{key: key}
			if rapid.Bool().Draw(t, "record") {
				r := version.Record{Key: key}.Put(nil, version.NewSibling(version.Dot{Actor: 1, Seq: 1}, 1, 0, blob(0)))
				it.encoded = r.Append(nil)
			}
			m.Items = append(m.Items, it)
			if rapid.Bool().Draw(t, "hidden") {
				m.Hidden = append(m.Hidden, wantedKey{key, []version.Dot{{Actor: 1, Seq: 2}, {Actor: 2, Seq: 1}}})
			}
		}
		if !m.Done {
			m.Next = blob(1)
		}
		return m
	case 4:
		m := &standInsRequest{Partition: p()}
		for range rapid.IntRange(0, 4).Draw(t, "records") {
			m.Records = append(m.Records, blob(1))
		}
		return m
	case 5:
		return &endRequest{Epoch: n.Draw(t, "epoch"), Partition: p(), Look: rapid.Bool().Draw(t, "look"), Ends: genEnds(t, false)}
	case 6:
		m := &endResponse{Epoch: n.Draw(t, "epoch"), Word: endWord(rapid.IntRange(0, endWords-1).Draw(t, "word"))}
		for _, e := range slices.Concat(genEnds(t, false), genEnds(t, true)) {
			m.Ends = append(m.Ends, endAnswer{rapid.Bool().Draw(t, "minting"), e, e.Dots})
		}
		return m
	}
	ps := rapid.SliceOfNDistinct(rapid.IntRange(0, ring.SlotCount-1), 1, 5, rapid.ID[int]).Draw(t, "partitions")
	slices.Sort(ps)
	switch rapid.IntRange(0, 2).Draw(t, "rest") {
	case 0:
		m := &claimsRequest{Epoch: n.Draw(t, "epoch")}
		for _, q := range ps {
			m.Partitions = append(m.Partitions, pOf(q))
		}
		return m
	case 1:
		m := &claimsResponse{Looked: rapid.IntRange(len(ps), claimsMax).Draw(t, "looked")}
		for _, q := range ps {
			m.Clocks = append(m.Clocks, partitionClock{pOf(q), clockOfDots(genDots(t))})
		}
		return m
	}
	m := &standInsResponse{}
	for range rapid.IntRange(0, 4).Draw(t, "errors") {
		m.Errors = append(m.Errors, blob(1))
	}
	return m
}

func TestMessagesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMessage(t)
		b := m.AppendWire(nil)
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(message)
		r := wire.NewReader(b)
		if err := got.ParseWire(r); err != nil || len(r.Rest()) > 0 {
			t.Fatalf("%v, %d bytes left", err, len(r.Rest()))
		}
		if again := got.AppendWire(nil); !bytes.Equal(again, b) {
			t.Fatalf("%+v became %+v", m, got)
		}
		for cut := range b {
			part := reflect.New(reflect.TypeOf(m).Elem()).Interface().(message)
			r := wire.NewReader(b[:cut])
			if part.ParseWire(r) == nil && r.Err() == nil && cut > 0 && len(r.Rest()) == 0 {
				t.Fatalf("a message cut off at %d of %d is read", cut, len(b))
			}
		}
	})
}

// fuzzMessage holds that whatever parses is written as something that parses to
// the same, and that nothing panics.
func fuzzMessage(f *testing.F, blank func() message, seeds ...message) {
	for _, m := range seeds {
		f.Add(m.AppendWire(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := blank()
		if m.ParseWire(wire.NewReader(b)) != nil {
			return
		}
		again := m.AppendWire(nil)
		other := blank()
		if err := other.ParseWire(wire.NewReader(again)); err != nil {
			t.Fatalf("%s: %v", hex.EncodeToString(b), err)
		}
		if !bytes.Equal(other.AppendWire(nil), again) {
			t.Fatalf("%s is not stable", hex.EncodeToString(b))
		}
	})
}

func someClock() store.Clock {
	return store.Clock{Actors: []store.ActorClock{{Actor: 5, Base: 7, Ranges: []store.Range{{First: 9, Last: 12}}}}}
}

func FuzzClocksRequest(f *testing.F) {
	fuzzMessage(f, func() message { return new(clocksRequest) }, &clocksRequest{1, 2, 3, 4, []ring.Partition{5, 6}})
}

func FuzzClocksResponse(f *testing.F) {
	fuzzMessage(f, func() message { return new(clocksResponse) },
		&clocksResponse{Era: 1, Now: 2, Clocks: []partitionClock{{3, someClock()}, {4, someClock()}}, More: true, Next: 9})
}

func FuzzPullRequest(f *testing.F) {
	c := someClock()
	fuzzMessage(f, func() message { return new(pullRequest) },
		&pullRequest{Epoch: 1, Partition: 2, Era: 3, Want: dotsOfClock(&c), Have: c, After: []byte("k")})
}

func FuzzPullResponse(f *testing.F) {
	r := version.Record{Key: []byte("k")}.Put(nil, version.NewSibling(version.Dot{Actor: 1, Seq: 1}, 1, 0, []byte("v")))
	fuzzMessage(f, func() message { return new(pullResponse) },
		&pullResponse{Verdict: true, Base: version.Context{{Actor: 1, Seq: 2}}, Items: []item{{key: []byte("a")}, {encoded: r.Append(nil)}}, Next: []byte("k"),
			Hidden: []wantedKey{{[]byte("a"), []version.Dot{{Actor: 1, Seq: 2}}}}})
}

func FuzzStandInsRequest(f *testing.F) {
	fuzzMessage(f, func() message { return new(standInsRequest) }, &standInsRequest{3, [][]byte{[]byte("a"), []byte("b")}})
}

func FuzzStandInsResponse(f *testing.F) {
	fuzzMessage(f, func() message { return new(standInsResponse) }, &standInsResponse{[][]byte{[]byte("a"), nil}})
}

// A set of dots and the clock that claims them are the same.
func TestDotsAsAClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genDots(t), genDots(t)
		ca := clockOfDots(a)
		if back := dotsOfClock(&ca); !reflect.DeepEqual(back, a) {
			t.Fatalf("%v became %v", a, back)
		}
		both := unite(a, b)
		for actor := range version.Actor(4) {
			for n := range uint64(45) {
				d := version.Dot{Actor: actor, Seq: n}
				if both.Has(d) != (a.Has(d) || b.Has(d)) {
					t.Fatalf("%v and %v: %v", a, b, both)
				}
			}
		}
		cb := clockOfDots(both)
		if back := dotsOfClock(&cb); !reflect.DeepEqual(back, both) {
			t.Fatalf("%v is not in order", both)
		}
	})
}

func TestPullAsksForNoMoreThanItMay(t *testing.T) {
	var many store.DotSet
	for a := range version.Actor(wantActors + 10) {
		d := store.ActorDots{Actor: a + 1}
		for n := range uint64(100) {
			d.Ranges = append(d.Ranges, store.Range{First: 2*n + 1, Last: 2*n + 1})
		}
		many = append(many, d)
	}
	first := firstOf(many)
	if len(first) != wantActors || first.Count() != wantActors*wantRanges {
		t.Errorf("%d actors, %d dots", len(first), first.Count())
	}
	m := &pullRequest{Want: first}
	if err := new(pullRequest).ParseWire(wire.NewReader(m.AppendWire(nil))); err != nil {
		t.Errorf("what may be asked for is refused: %v", err)
	}
}

func FuzzSyncRequest(f *testing.F) {
	c := someClock()
	fuzzMessage(f, func() message { return new(syncRequest) },
		&syncRequest{Epoch: 1, Partition: 2}, &syncRequest{Epoch: 1, Partition: 2, Era: 3, Want: dotsOfClock(&c), Have: c, After: []byte("k")})
}

func FuzzSyncResponse(f *testing.F) {
	r := version.Record{Key: []byte("k")}.Put(nil, version.NewSibling(version.Dot{Actor: 1, Seq: 1}, 1, 0, []byte("v")))
	fuzzMessage(f, func() message { return new(syncResponse) },
		&syncResponse{Era: 1, Clock: someClock(), Ends: someEnds(true), Of: 7},
		&syncResponse{Era: 1, Items: []item{{key: []byte("a")}, {encoded: r.Append(nil)}}, Next: []byte("k"), Scanned: true,
			Hidden: []wantedKey{{[]byte("a"), []version.Dot{{Actor: 1, Seq: 2}}}}})
}
