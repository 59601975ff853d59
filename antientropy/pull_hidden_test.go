package antientropy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/store/version"
)

// dotOf is the write that an encoded record's only sibling is.
func dotOf(t *testing.T, b []byte) version.Dot {
	t.Helper()
	r, err := version.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return r.Siblings[0].Dot
}

// backToALoss has node 1 lose a key without noticing, and node 2 come back, which reaches
// nobody else. It waits until that has pulled what is shown, a key j.
func (w *world) backToALoss(key string) {
	w.t.Helper()
	w.write(0, "j", "v", 1)
	w.rot(1, key)
	w.cut(0, 2)
	w.cut(2, 0)
	w.start(2)
	w.eventually(time.Minute, "what the other one shows is pulled", func() error {
		if !w.has(2, "j") {
			return fmt.Errorf("j is not there")
		}
		return nil
	})
}

// A home was away while a value was written, and comes back to one that has lost it
// without noticing. It does not take that one's word for it, or two would say that
// the value was forgotten.
func TestPullDoesNotBelieveWhatItsSenderDoesNotShow(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		w.halt(2)
		lost := dotOf(t, w.write(0, "k", "v", 1))
		w.backToALoss("k")
		time.Sleep(2 * time.Minute) // audits, and asking again
		if c := w.nodes[2].store.ClockOf(0); c.Has(lost) {
			t.Error("the word of who has lost it was taken for it")
		}
		if !w.has(0, "k") || !w.nodes[2].repair.Counts(0) {
			t.Errorf("it is where nothing was lost: %v; who comes back counts: %v", w.has(0, "k"), w.nodes[2].repair.Counts(0))
		}
		w.net.Heal()
		w.eventually(5*time.Minute, "all hold it", w.allHold("k", "j"))
		if w.declared(1) != 1 || w.declared(0)+w.declared(2) > 0 {
			t.Errorf("declared %d, %d, %d", w.declared(0), w.declared(1), w.declared(2))
		}
	})
}

// What all others have forgotten is claimed by who has lost its clock, once none of
// them shows it.
func TestPullBelievesWhatNobodyShows(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		dead := dotOf(t, w.write(0, "k", "v", 1, 2))
		w.forgetAtAll("k")
		w.quiet()
		w.nodes[2].store.lose(0, func(string) bool { return false })
		w.nodes[2].store.mu.Lock()
		w.nodes[2].store.part(0).lossy = false // it is to catch up without being filled
		w.nodes[2].store.mu.Unlock()
		w.eventually(time.Minute, "settled", w.settled)
		if c := w.nodes[2].store.ClockOf(0); !c.Has(dead) {
			t.Error("what all have forgotten is lacking for ever")
		}
	})
}

// A newcomer is filled from one that has lost a value, before it sees who holds it.
func TestRefillClaimsNothingBeforeAllWereCompared(t *testing.T) {
	for _, first := range []int{0, 1} { // who can be reached first
		inWorld(t, worldOptions{partitions: 1}, func(w *world) {
			w.write(0, "k", "v", 1)
			w.write(0, "j", "v", 1, 2)
			w.quiet()
			w.halt(2)
			w.rot(1, "k")
			w.nodes[2].store.lose(0, func(string) bool { return true })
			w.cut(1-first, 2)
			w.cut(2, 1-first)
			w.start(2)
			w.eventually(time.Minute, "filled from one", func() error {
				if !w.has(2, "j") {
					return fmt.Errorf("j is not there")
				}
				return nil
			})
			time.Sleep(30 * time.Second)
			w.net.Heal()
			w.eventually(5*time.Minute, "all hold it", w.allHold("k", "j"))
			if w.declared(0)+w.declared(2) > 0 {
				t.Errorf("first from %d: declared %d, %d, %d", first, w.declared(0), w.declared(1), w.declared(2))
			}
		})
	}
}

func TestHiddenDotsAreThoseThatNoRecordShows(t *testing.T) {
	dots := func(all ...uint64) (out []version.Dot) {
		for _, n := range all {
			out = append(out, version.Dot{Actor: version.Actor(n / 10), Seq: n % 10})
		}
		return out
	}
	r := version.Record{Key: []byte("k")}
	r = r.Put(nil, version.NewSibling(dots(13)[0], 1, 0, []byte("v")))
	r = r.Put(r.Seen, version.NewSibling(dots(22)[0], 1, 0, []byte("w")))
	encoded := r.Append(nil)
	for _, c := range []struct {
		record     []byte
		asked, has []version.Dot
	}{
		{encoded, dots(13, 12, 22), nil},
		{encoded, dots(31, 14, 13, 23), dots(14, 23, 31)},
		{nil, dots(22, 13), dots(13, 22)},
		{nil, nil, nil},
		{encoded[:len(encoded)-1], dots(31), dots(31)}, // the values do not count
		{[]byte("no record"), dots(31), nil},
	} {
		if got := hiddenIn(c.record, c.asked); !slices.Equal(got, c.has) {
			t.Errorf("of %v: %v, want %v", c.asked, got, c.has)
		}
	}
	var many []version.Dot
	for n := range uint64(2*dotsMax + 5) {
		many = append(many, version.Dot{Actor: 1, Seq: 2*dotsMax + 5 - n})
	}
	got := hiddenIn(nil, many)
	if len(got) != len(many) || got[0].Seq != 1 || !slices.IsSortedFunc(got, version.Dot.Compare) {
		t.Errorf("%d of %d, from %v on", len(got), len(many), got[0])
	}
	n := 0
	for _, w := range wantedAt([]byte("k"), got) {
		if len(w.Dots) > dotsMax || string(w.Key) != "k" || w.Dots[0] != got[n] {
			t.Errorf("%d dots of %q behind %d", len(w.Dots), w.Key, n)
		}
		n += len(w.Dots)
	}
	if n != len(got) {
		t.Errorf("%d of %d dots are named", n, len(got))
	}
}

// A key was written so often that the writes its holder does not show are more than
// one question names; the value that must stay is the oldest of them.
func TestPullAsksAboutAllThatItsSenderDoesNotShow(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		w.halt(2)
		first := dotOf(t, w.write(0, "k", "first", 1))
		var seen version.Context
		var beside []byte
		for i := range 2 * dotsMax {
			beside = w.nodes[1].store.put(0, "k", fmt.Sprint("beside-", i), seen, false, false, version.StampAt(time.Now()))
			r, err := version.Parse(beside)
			if err != nil || len(r.Siblings) != 2 {
				t.Fatalf("%v, %v", r.Siblings, err)
			}
			seen = nil
			for _, d := range r.Seen {
				if d.Actor != first.Actor {
					seen = append(seen, d)
				}
			}
		}
		w.deliver(beside, 0)
		w.backToALoss("k")
		time.Sleep(time.Minute)
		if c := w.nodes[2].store.ClockOf(0); c.Has(first) {
			t.Error("the word of who has lost it was taken for it")
		}
		w.net.Heal()
		w.eventually(5*time.Minute, "all hold it", w.allHold("k", "j"))
		for i, h := range w.nodes {
			b, err := h.store.Get(0, []byte("k"))
			if err != nil {
				t.Fatal(err)
			}
			if r, err := version.Parse(b); err != nil || len(r.Siblings) != 2 {
				t.Errorf("node %d holds %d of two values, %v", i, len(r.Siblings), err)
			}
		}
	})
}

// A write is on one disk, which loses it without noticing, and on its way to another home,
// which acknowledges it. Meanwhile all others have heard that it was claimed.
func TestWhatIsOnItsWayIsNotTakenForForgotten(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1, tune: func(c *Config) { c.AuditEvery = time.Minute }}, func(w *world) {
		w.quiet()
		b := w.write(1, "k", "v")
		w.rot(1, "k")
		time.Sleep(12 * time.Second) // longer than requests take
		for _, i := range []int{0, 2} {
			if c := w.nodes[i].store.ClockOf(0); c.Has(dotOf(t, b)) {
				t.Errorf("node %d claims what nobody shows and not all have heard of", i)
			}
		}
		w.deliver(b, 0)
		w.eventually(5*time.Minute, "all hold it", w.allHold("k"))
		if w.declared(1) != 1 || w.declared(0)+w.declared(2) > 0 {
			t.Errorf("declared %d, %d, %d", w.declared(0), w.declared(1), w.declared(2))
		}
	})
}

// A write that nobody shows ever is claimed in the end: else clocks would keep a hole.
func TestWhatNeverComesIsTakenForForgottenInTheEnd(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		w.quiet()
		w.write(1, "k", "v")
		w.rot(1, "k")
		w.eventually(2*time.Minute, "settled", w.settled)
	})
}

// A home is heard of as one that claims a write, and loses it, and says so, before it is
// asked for it: what it answers then says nothing of that write.
func TestWhatAHomeClaimedBeforeItsLossIsNotClaimedAfterIt(t *testing.T) {
	nobody, third := []bool{false, false, false}, []bool{false, false, true}
	steps := []step{
		{What: "late", Wait: 8 * time.Second},
		{What: "write", Key: 0, To: nobody, Dead: true, Large: true},
		{What: "write", Key: 0, To: nobody, Dead: true, Large: true},
		{What: "write", Key: 1, To: third, Large: true, Sees: true, Wait: 10 * time.Millisecond},
		{What: "cut", Node: 0, Other: 1, Wait: 3 * time.Second},
		{What: "lose", Key: 1, Wait: time.Millisecond},
		{What: "halt", Node: 0},
		{What: "write", Node: 2, Key: 0, To: third, Sees: true, Wait: 8 * time.Second},
		{What: "write", Node: 1, Key: 1, To: nobody, Large: true, Wait: 3 * time.Second},
	}
	for seed := range uint64(10) {
		inWorld(t, worldOptions{seed: seed, partitions: 2, tune: func(c *Config) { c.AuditEvery = time.Minute }}, func(w *world) {
			if _, err := playedHistory(w, steps); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
	}
}
