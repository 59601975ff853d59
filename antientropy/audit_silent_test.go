package antientropy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// back puts a record at a node as if its disk had gone back in time, and its clock
// had not.
func (w *world) back(i int, record []byte) {
	w.t.Helper()
	r, err := version.Parse(record)
	if err != nil {
		w.t.Fatal(err)
	}
	s := w.nodes[i].store
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.part(w.rec.PartitionOf(r.Key))
	q.records[string(r.Key)] = r
	s.claim(q, &r)
}

// forgetAtAll deletes a key, and has all nodes forget it.
func (w *world) forgetAtAll(key string) {
	w.t.Helper()
	p := w.partitionOf(key)
	b := w.nodes[0].put(key, "", true, true)
	for i := 1; i < len(w.nodes); i++ {
		w.deliver(b, i)
	}
	time.Sleep(time.Minute)
	for _, h := range w.nodes {
		if ok, err := h.store.Purge(p, []byte(key), version.LeafOf(b), uint64(time.Now().UnixMilli())); !ok || err != nil {
			w.t.Fatal(ok, err)
		}
	}
}

// declared is how many losses a node has declared.
func (w *world) declared(i int) int {
	s := w.nodes[i].store
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.why)
}

// allHold says that all nodes hold keys, and are settled.
func (w *world) allHold(keys ...string) func() error {
	return func() error {
		for i := range w.nodes {
			for _, key := range keys {
				if !w.has(i, key) {
					return fmt.Errorf("node %d has no record of %s", i, key)
				}
			}
		}
		return w.settled()
	}
}

func TestSilentLossDeletesNothingElsewhere(t *testing.T) {
	for _, from := range []int{0, 1} {
		inWorld(t, worldOptions{partitions: 1}, func(w *world) {
			var keys []string
			for i := range 30 {
				keys = append(keys, fmt.Sprint("k-", i))
				w.write(i%3, keys[i], "v", 0, 1, 2)
			}
			w.quiet()
			w.rot(1, "k-3")
			w.rot(1, "k-6")
			w.nodes[1].put("k-6", "new", true, false) // it has not seen what was lost
			out, err := w.auditAt(from, 1-from, false)
			why := []error{errLostThere, errLostHere}[from]
			if err != nil || len(out.Skipped) != 1 || !errors.Is(out.Skipped[0].why, why) {
				t.Fatalf("from %d: %+v, %v", from, out, err)
			}
			if w.declared(1) != 1 || w.declared(0)+w.declared(2) > 0 || w.nodes[1].store.CountsForRead(0) {
				t.Errorf("who has lost something does not say so: %v", w.nodes[1].store.Health())
			}
			for _, key := range keys {
				if !w.has(0, key) || !w.has(2, key) {
					t.Errorf("from %d: %s is gone where nothing was lost", from, key)
				}
			}
			w.eventually(time.Minute, "filled again", w.allHold(keys...))
			b, _ := w.nodes[2].store.Get(0, []byte("k-6"))
			if r, err := version.Parse(b); err != nil || len(r.Siblings) != 2 {
				t.Errorf("from %d: %v, %v, want what was lost and what was written since", from, r, err)
			}
		})
	}
}

func TestSilentLossIsFoundByTheSchedule(t *testing.T) {
	inWorld(t, worldOptions{partitions: 4, tune: func(c *Config) { c.AuditEvery = time.Minute }}, func(w *world) {
		w.write(0, "k", "v", 1, 2)
		w.quiet()
		w.rot(2, "k")
		w.eventually(5*time.Minute, "filled again", w.allHold("k"))
		if w.declared(2) != 1 || !strings.Contains(w.nodes[2].store.why[0], `key "k"`) {
			t.Errorf("declared: %q", w.nodes[2].store.why)
		}
	})
}

func TestCopyFromThePastIsEndedByTheOthers(t *testing.T) {
	for _, from := range []int{0, 1} {
		inWorld(t, worldOptions{partitions: 1, tune: onlyAudits}, func(w *world) {
			old := w.write(0, "k", "v", 1, 2)
			w.forgetAtAll("k")
			w.quiet()
			w.back(0, old)
			w.mustAudit(from, 1-from, false)
			for i := range w.nodes {
				if w.has(i, "k") || w.declared(i) > 0 {
					t.Errorf("from %d: node %d has what was deleted: %v; it declared %q", from, i, w.has(i, "k"), w.nodes[i].store.why)
				}
			}
		})
	}
}

func TestOfTwoHomesNoneDeletesWhatTheOtherHolds(t *testing.T) {
	for _, from := range []int{0, 1} {
		inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1}, func(w *world) {
			w.write(0, "k", "v", 1)
			w.quiet()
			w.rot(1, "k")
			if out, err := w.auditAt(from, 1-from, false); err != nil || len(out.Skipped) != 1 {
				t.Errorf("from %d: %+v, %v", from, out, err)
			}
			if !w.has(0, "k") || w.declared(1) != 1 || w.declared(0) != 0 {
				t.Errorf("from %d: the value is there: %v; declared %d and %d", from, w.has(0, "k"), w.declared(0), w.declared(1))
			}
			w.eventually(time.Minute, "filled again", w.allHold("k"))
		})
	}
}

// Whoever knows that it has lost something is no witness against one who knows of
// nothing.
func TestOfTwoHomesTheLossyOneIsToldWhatWasForgotten(t *testing.T) {
	inWorld(t, worldOptions{nodes: 2, replicas: 2, partitions: 1}, func(w *world) {
		old := w.write(0, "k", "v", 1)
		w.forgetAtAll("k")
		w.quiet()
		w.nodes[0].store.lose(0, func(string) bool { return false })
		w.back(0, old)
		w.eventually(time.Minute, "settled", w.settled)
		if w.has(0, "k") || w.has(1, "k") || w.declared(1) > 0 {
			t.Errorf("a deleted value is back: %v, %v; declared %q", w.has(0, "k"), w.has(1, "k"), w.nodes[1].store.why)
		}
	})
}

func TestNothingIsMergedWhileNobodyCanSayWhetherItWasLost(t *testing.T) {
	for _, from := range []int{0, 1} {
		inWorld(t, worldOptions{partitions: 1, tune: onlyAudits}, func(w *world) {
			w.write(0, "k", "v", 1, 2)
			w.quiet()
			w.rot(1, "k")
			w.halt(2)
			for range 2 {
				out := w.mustAudit(from, 1-from, false)
				if len(out.Anomalies) != 1 || !strings.Contains(out.Anomalies[0], wordSaid[wordAway]) || out.Pulled+out.Pushed > 0 {
					t.Errorf("from %d: %+v", from, out)
				}
			}
			if !w.has(0, "k") || w.has(1, "k") || w.declared(0)+w.declared(1) > 0 {
				t.Errorf("from %d: something was done: %v, %v", from, w.has(0, "k"), w.has(1, "k"))
			}
			w.start(2)
			w.eventually(time.Minute, "the third home is asked", func() error {
				out, err := w.auditAt(from, 1-from, false)
				if err == nil && len(out.Skipped) == 0 {
					err = errors.New("nothing was found to be lost")
				}
				return err
			})
			if !w.has(0, "k") || w.declared(1) != 1 {
				t.Errorf("from %d: declared %d", from, w.declared(1))
			}
		})
	}
}

func TestALossyHomeWithAnOldCopyWaitsForTheOthersWord(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		old := w.write(0, "k", "v", 1, 2)
		w.forgetAtAll("k")
		w.quiet()
		w.halt(2)
		w.nodes[0].store.lose(0, func(string) bool { return false })
		w.back(0, old)
		time.Sleep(time.Minute)
		if w.nodes[0].store.CountsForRead(0) || w.has(1, "k") {
			t.Error("a copy that the others have forgotten is taken for good")
		}
		w.start(2)
		w.eventually(2*time.Minute, "settled", w.settled)
		for i := range w.nodes {
			if w.has(i, "k") || w.declared(i) > 0 {
				t.Errorf("node %d has what was deleted: %v; it declared %q", i, w.has(i, "k"), w.nodes[i].store.why)
			}
		}
	})
}

func TestDoubtIsCheckedByTheHomeThatIsDoubted(t *testing.T) {
	inWorld(t, worldOptions{nodes: 4, replicas: 3, partitions: 8, tune: onlyAudits}, func(w *world) {
		ctx := context.Background()
		p := ring.Partition(3)
		homes := w.homesOf(p)
		at := w.nodes[homes[1]]
		key := ""
		for i := 0; key == "" || w.partitionOf(key) != p; i++ {
			key = fmt.Sprint("k-", i)
		}
		dot := func(b []byte) version.Dot {
			r, err := version.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			return r.Siblings[0].Dot
		}
		first := dot(w.write(homes[0], key, "v", homes[1], homes[2]))
		second := dot(w.write(homes[0], key, "w", homes[1], homes[2])) // it has replaced the first
		never := version.Dot{Actor: first.Actor, Seq: 1000}
		stranger := slices.IndexFunc(w.nodes, func(h *home) bool { return !slices.Contains(homes, h.i) })
		doubt := func(i int, q ring.Partition, d version.Dot) (*doubtResponse, error) {
			return ask(ctx, w.nodes[i].repair, at.id, doubtRoute, &doubtRequest{q, []byte(key), d})
		}
		for name, d := range map[string]version.Dot{"held": second, "replaced": first, "never heard of": never} {
			if resp, err := doubt(homes[0], p, d); err != nil || resp.Lost {
				t.Errorf("a write that is %s: %v, %v", name, resp, err)
			}
		}
		w.rot(at.i, key)
		if _, err := doubt(stranger, p, second); err == nil {
			t.Error("a stranger may doubt")
		}
		for q := range ring.Partition(8) {
			if q != p && w.rec.HomeIndex(q, at.id) >= 0 && w.rec.HomeIndex(q, w.nodes[homes[0]].id) >= 0 {
				if _, err := doubt(homes[0], q, second); err == nil {
					t.Errorf("the key is not of partition %d", q)
				}
			}
		}
		if resp, err := doubt(homes[0], p, never); err != nil || resp.Lost || w.declared(at.i) > 0 {
			t.Errorf("what was never claimed: %v, %v", resp, err)
		}
		if resp, err := doubt(homes[0], p, second); err != nil || !resp.Lost || w.declared(at.i) != 1 {
			t.Errorf("what was lost: %v, %v", resp, err)
		}
	})
}

// A pull names a key because of a later write to it, and its sender has lost an
// earlier one.
func TestPullLeavesWhatItsSenderMayHaveLostToTheAudit(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		w.write(1, "k", "first", 0, 2)
		w.quiet()
		w.rot(0, "k")
		w.write(0, "k", "second")
		w.eventually(2*time.Minute, "all hold both", func() error {
			if err := w.settled(); err != nil {
				return err
			}
			for i, h := range w.nodes {
				b, err := h.store.Get(0, []byte("k"))
				if err != nil {
					return err
				}
				if r, err := version.Parse(b); err != nil || len(r.Siblings) != 2 {
					return fmt.Errorf("node %d has %v, %v", i, r.Siblings, err)
				}
			}
			return nil
		})
		if w.declared(0) != 1 || w.declared(1)+w.declared(2) > 0 {
			t.Errorf("declared %d, %d, %d", w.declared(0), w.declared(1), w.declared(2))
		}
	})
}

func TestRulingsOnDisputedValues(t *testing.T) {
	for _, c := range []struct {
		words  []word
		holder bool
		want   ruling
	}{
		{nil, true, lost}, {nil, false, replaced},
		{[]word{wordHolds}, true, lost}, {[]word{wordGone}, true, replaced}, {[]word{wordReplaced}, false, replaced},
		{[]word{wordAway}, true, undecided}, {[]word{wordUnknown}, true, undecided}, {[]word{wordLossy}, true, undecided},
		{[]word{wordGone, wordAway}, true, undecided}, {[]word{wordGone, wordUnknown}, true, undecided},
		{[]word{wordGone, wordLossy}, true, replaced}, {[]word{wordGone, wordHolds}, true, lost},
		{[]word{wordHolds, wordAway}, true, lost}, {[]word{wordHolds, wordReplaced}, true, replaced},
	} {
		if got := rule(c.words, c.holder); got != c.want {
			t.Errorf("%v, holder %v: %v, want %v", c.words, c.holder, got, c.want)
		}
	}
}
