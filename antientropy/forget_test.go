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
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// soonForgetting forgets after ten seconds.
func soonForgetting(c *Config) { c.ForgetAfter = 10 * time.Second }

// remove puts a tombstone at a node, and has it merged at others.
func (w *world) remove(i int, key string, to ...int) []byte {
	w.t.Helper()
	b := w.nodes[i].store.put(w.partitionOf(key), key, "", nil, true, true, version.StampAt(time.Now()))
	w.deliver(b, to...)
	return b
}

// holders are the nodes that have a record of a key.
func (w *world) holders(key string) (out []int) {
	for i := range w.nodes {
		if w.has(i, key) {
			out = append(out, i)
		}
	}
	return out
}

// gone is for eventually.
func (w *world) gone(keys ...string) func() error {
	return func() error {
		for _, k := range keys {
			if at := w.holders(k); len(at) > 0 {
				return fmt.Errorf("key %s is at %v", k, at)
			}
		}
		return nil
	}
}

func TestTombstonesAreForgottenOnceEveryHomeHasThem(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		var keys []string
		for i := range 600 { // more than a page
			k := fmt.Sprint("k-", i)
			keys = append(keys, k)
			w.write(i%3, k, "v", 0, 1, 2)
			w.write(i%3, "stays-"+k, "v", 0, 1, 2)
		}
		for i, k := range keys {
			w.remove((i+1)%3, k, 0, 1, 2)
		}
		time.Sleep(9 * time.Second)
		for _, k := range keys {
			if len(w.holders(k)) != 3 {
				t.Fatalf("key %s was forgotten too early", k)
			}
		}
		w.eventually(2*time.Minute, "forgotten", w.gone(keys...))
		for i, h := range w.nodes {
			if n := len(h.store.dump()); n != 600 {
				t.Errorf("node %d has %d records, want 600", i, n)
			}
			w.eventually(2*time.Minute, "counted", func() error {
				if st := h.repair.Status(); st.Forgotten != 600 || st.Tombstones != 0 || len(st.Blocked) > 0 {
					return fmt.Errorf("%+v", st)
				}
				return nil
			})
		}
	})
}

func TestLatePacketAfterForgettingStaysDead(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		old := w.write(0, "k", "v")
		w.deliver(old, 1)
		w.remove(1, "k", 0, 2)
		w.eventually(2*time.Minute, "forgotten", w.gone("k"))
		time.Sleep(time.Hour)
		w.deliver(old, 0, 1, 2)
		w.deliver(old, 2)
		if err := w.gone("k")(); err != nil {
			t.Errorf("a deleted value is back: %v", err)
		}
	})
}

func TestNothingIsForgottenWhileAHomeIsAway(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		w.write(0, "k", "v", 1, 2)
		w.quiet()
		w.halt(2)
		w.remove(0, "k", 1)
		time.Sleep(30 * time.Minute)
		if !w.has(0, "k") || !w.has(1, "k") {
			t.Fatal("a tombstone was forgotten that a home has not seen")
		}
		said := ""
		waiting := int64(0)
		for _, h := range w.nodes[:2] {
			st := h.repair.Status()
			said += strings.Join(st.Blocked, "\n")
			waiting += st.Tombstones
		}
		if !strings.Contains(said, "n3 ("+w.nodes[2].id.Short()+") "+whyAway) || waiting != 1 {
			t.Errorf("%d wait, blocked: %q", waiting, said)
		}
		w.start(2)
		w.eventually(5*time.Minute, "forgotten", w.gone("k"))
		for _, h := range w.nodes {
			w.eventually(time.Minute, "nothing is blocked", func() error {
				if st := h.repair.Status(); len(st.Blocked) > 0 || st.Tombstones > 0 {
					return fmt.Errorf("%v, %d", st.Blocked, st.Tombstones)
				}
				return nil
			})
		}
	})
}

func TestPurgeThatReachedSomeHomesOnlyIsEndedByVerdicts(t *testing.T) {
	for purged := range 3 {
		inWorld(t, worldOptions{tune: func(c *Config) { c.AuditEvery = time.Minute }}, func(w *world) {
			old := w.write(0, "k", "v", 1, 2)
			b := w.remove(1, "k", 0, 2)
			w.quiet()
			if ok, err := w.nodes[purged].store.Purge(w.partitionOf("k"), []byte("k"), version.LeafOf(b), uint64(time.Now().UnixMilli())); !ok || err != nil {
				t.Fatal(ok, err)
			}
			w.deliver(b, purged) // a late tombstone is none again
			if w.has(purged, "k") {
				t.Error("the tombstone is back")
			}
			w.eventually(3*time.Minute, "forgotten", w.gone("k"))
			w.deliver(old, 0, 1, 2)
			if err := w.gone("k")(); err != nil {
				t.Error(err)
			}
		})
	}
}

// deaf fails a store's first purges.
type deaf struct {
	Store
	left int
}

func (d *deaf) PurgeAll(p ring.Partition, records []store.Purged, now uint64) ([]bool, error) {
	if d.left > 0 {
		d.left--
		return make([]bool, len(records)), store.ErrFailed
	}
	return d.Store.PurgeAll(p, records, now)
}

// Who drives a purge may end in the middle of it, and with it its memory of who heard.
// Nobody waits for the next scheduled audit then, either.
func TestPurgeWhoseDriverDiedIsMadeUpForSoon(t *testing.T) {
	fails := 0
	inWorld(t, worldOptions{tune: func(c *Config) {
		soonForgetting(c)
		c.AuditEvery = 24 * time.Hour
		c.Store = &deaf{c.Store, fails}
	}}, func(w *world) {
		driver := slices.IndexFunc(w.nodes, func(h *home) bool { return h.id == w.rec.Homes(w.partitionOf("k"))[0] })
		w.halt(driver)
		fails = 1 << 30
		w.start(driver)
		w.write(0, "k", "v", 1, 2)
		w.remove(1, "k", 0, 2)
		w.eventually(10*time.Minute, "all others have purged it", func() error {
			if at := w.holders("k"); !slices.Equal(at, []int{driver}) {
				return fmt.Errorf("%v have it", at)
			}
			return nil
		})
		w.halt(driver)
		fails = 0
		w.start(driver)
		w.eventually(time.Minute, "it is gone everywhere", w.gone("k"))
	})
}

// A home that did not hear of a purge does not keep the dead record until the next
// scheduled audit.
func TestPurgeThatAHomeMissedIsMadeUpForSoon(t *testing.T) {
	nodes := 0
	inWorld(t, worldOptions{tune: func(c *Config) {
		soonForgetting(c)
		c.AuditEvery = 24 * time.Hour
		if nodes++; nodes == 3 { // another one drives
			c.Store = &deaf{c.Store, 1}
		}
	}}, func(w *world) {
		w.write(0, "k", "v", 1, 2)
		w.remove(1, "k", 0, 2)
		w.eventually(10*time.Minute, "it is gone somewhere", func() error {
			if n := len(w.holders("k")); n == 3 {
				return fmt.Errorf("%d have it", n)
			}
			return nil
		})
		w.eventually(time.Minute, "it is gone everywhere", w.gone("k"))
	})
}

// made is a record of an actor of its own, with one sibling.
func made(key string, seq uint64, at time.Time, expiry time.Time, seen version.Context) []byte {
	s := version.NewSibling(version.Dot{Actor: 99, Seq: seq}, version.StampAt(at), uint64(expiry.UnixMilli()), []byte("v"))
	if expiry.IsZero() {
		s.Expiry = 0
	}
	r := version.Record{Key: []byte(key)}.Put(seen, s)
	return r.Append(nil)
}

func TestExpiredValuesGoTheWayOfTombstones(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		b := made("k", 1, time.Now(), time.Now().Add(time.Hour), nil)
		w.deliver(b, 0, 1, 2)
		w.deliver(made("other", 2, time.Now(), time.Time{}, nil), 0, 1, 2)
		time.Sleep(time.Hour + forgetSkew)
		if len(w.holders("k")) != 3 {
			t.Error("forgotten although it has hardly expired")
		}
		w.eventually(2*time.Minute, "forgotten", w.gone("k"))
		if len(w.holders("other")) != 3 {
			t.Error("a value that does not expire is gone")
		}
		w.deliver(b, 0, 1, 2)
		if err := w.gone("k")(); err != nil {
			t.Error(err)
		}
	})
}

func TestNothingIsForgottenThatSawWhatSomeHomeLacks(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1, tune: soonForgetting}, func(w *world) {
		// The actor's first write, to another key, never came to anybody.
		first := made("late", 1, time.Now(), time.Time{}, nil)
		w.deliver(made("k", 2, time.Now(), time.Now().Add(time.Second), nil), 0, 1, 2)
		time.Sleep(time.Hour)
		if len(w.holders("k")) != 3 {
			t.Error("forgotten although its context is not stable")
		}
		said := ""
		for _, h := range w.nodes {
			said += strings.Join(h.repair.Status().Blocked, "\n")
		}
		if !strings.Contains(said, wordings[deadUnstable]) {
			t.Errorf("blocked: %q", said)
		}
		w.deliver(first, 1)
		w.eventually(30*time.Minute, "forgotten", w.gone("k"))
		w.eventually(time.Minute, "the late write is everywhere", func() error {
			if at := w.holders("late"); len(at) != 3 {
				return fmt.Errorf("at %v", at)
			}
			return nil
		})
	})
}

func TestForgettingTakesTheUnionOfWhatHomesHaveSeen(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		now := time.Now()
		b := made("k", 1, now, now.Add(time.Second), nil)
		w.deliver(b, 0, 1, 2)
		w.quiet()
		// Node 1 has seen more of the key than the others: a sibling of another
		// actor was replaced there by nothing that is left.
		s := w.nodes[1].store
		p := w.partitionOf("k")
		s.mu.Lock()
		q := s.part(p)
		rec := q.records["k"]
		rec.Seen = rec.Seen.Union(version.Context{{Actor: 77, Seq: 3}})
		q.records["k"] = rec
		for seq := range uint64(3) {
			q.clock.Add(version.Dot{Actor: 77, Seq: seq + 1}, false)
		}
		s.mu.Unlock()
		time.Sleep(time.Minute)
		if len(w.holders("k")) != 3 {
			t.Error("forgotten although the others lack what one record has seen")
		}
		for _, i := range []int{0, 2} {
			s := w.nodes[i].store
			s.mu.Lock()
			for seq := range uint64(3) {
				s.part(p).clock.Add(version.Dot{Actor: 77, Seq: seq + 1}, false)
			}
			s.mu.Unlock()
		}
		w.eventually(30*time.Minute, "forgotten", w.gone("k"))
	})
}

func TestTheOnlyHomeForgetsByItself(t *testing.T) {
	inWorld(t, worldOptions{nodes: 1, replicas: 1, tune: soonForgetting}, func(w *world) {
		w.write(0, "k", "v")
		w.remove(0, "k")
		w.eventually(2*time.Minute, "forgotten", w.gone("k"))
	})
}

func TestHomesDoNotConfirmForAnOlderRing(t *testing.T) {
	inWorld(t, worldOptions{partitions: 1}, func(w *world) {
		b := w.remove(0, "k", 1, 2)
		w.quiet()
		time.Sleep(time.Minute)
		rec, err := version.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for epoch, ok := range map[uint64]bool{w.rec.Since[0] - 1: false, w.rec.Since[0]: true} {
			resp, err := ask(context.Background(), w.nodes[0].repair, w.nodes[1].id, confirmRoute,
				&confirmRequest{0, epoch, []deadKey{{[]byte("k"), rec.Leaf(), rec.Seen}}})
			if ok != (err == nil) || ok && resp.Answers[0].Word != deadConfirmed || !ok && !errors.Is(err, api.ErrFenced) {
				t.Errorf("epoch %d: %+v, %v", epoch, resp, err)
			}
		}
	})
}

func TestConfirmSaysWhyNot(t *testing.T) {
	dead := version.Record{Key: []byte("k")}.Put(nil, version.NewTombstone(version.Dot{Actor: 1, Seq: 2}, 5))
	alive := version.Record{Key: []byte("k")}.Put(nil, version.NewSibling(version.Dot{Actor: 1, Seq: 2}, 5, 100, []byte("v")))
	more := dead
	more.Seen = dead.Seen.With(version.Dot{Actor: 9, Seq: 1})
	base := version.Context{{Actor: 1, Seq: 2}}
	wide := base.With(version.Dot{Actor: 9, Seq: 1})
	for name, c := range map[string]struct {
		mine    version.Record
		leaf    version.Digest
		seen    version.Context
		base    version.Context
		verdict bool
		now     uint64
		want    deadWord
		tells   bool // of more that was seen
	}{
		"equal":                        {dead, dead.Leaf(), dead.Seen, base, true, 0, deadConfirmed, false},
		"no record":                    {version.Record{}, dead.Leaf(), dead.Seen, base, true, 0, deadDiffers, false},
		"another record":               {alive, dead.Leaf(), dead.Seen, base, true, 200, deadDiffers, false},
		"not expired yet":              {alive, alive.Leaf(), alive.Seen, base, true, 99, deadAlive, false},
		"expired":                      {alive, alive.Leaf(), alive.Seen, base, true, 100, deadConfirmed, false},
		"lossy":                        {dead, dead.Leaf(), dead.Seen, base, false, 0, deadLossy, false},
		"base too low":                 {dead, dead.Leaf(), dead.Seen, version.Context{{Actor: 1, Seq: 1}}, true, 0, deadUnstable, false},
		"asked for more than the base": {dead, dead.Leaf(), more.Seen, base, true, 0, deadUnstable, false},
		"asked for more":               {dead, dead.Leaf(), more.Seen, wide, true, 0, deadConfirmed, false},
		"has seen more":                {more, more.Leaf(), dead.Seen, wide, true, 0, deadConfirmed, true},
		"has seen more than its base":  {more, more.Leaf(), dead.Seen, base, true, 0, deadUnstable, true},
		"nothing is never dead":        {version.Record{}, version.Digest{}, nil, base, true, 0, deadAlive, false},
	} {
		leaf := version.Digest{}
		if len(c.mine.Siblings) > 0 {
			leaf = c.mine.Leaf()
		}
		got := confirm(&c.mine, leaf, &deadKey{[]byte("k"), c.leaf, c.seen}, c.base, c.verdict, c.now)
		if got.Word != c.want || (got.Seen != nil) != c.tells {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestPurgeOfWhatHasChangedRemovesNothing(t *testing.T) {
	inWorld(t, worldOptions{}, func(w *world) {
		b := w.remove(0, "k", 1, 2)
		other := w.remove(0, "other", 1, 2)
		w.quiet()
		w.write(1, "k", "again", 0, 2)
		time.Sleep(time.Minute)
		p := w.partitionOf("k")
		r := w.nodes[0].repair
		now := uint64(time.Now().UnixMilli())
		for _, h := range w.nodes[1:] {
			resp, err := ask(context.Background(), r, h.id, purgeRoute, &purgeRequest{p, now, []purgedKey{
				{[]byte("k"), version.LeafOf(b)}, {[]byte("never was"), version.LeafOf(b)}}, w.rec.Since[p]})
			if err != nil || len(resp.Gone) != 2 || resp.Gone[0] || resp.Gone[1] {
				t.Errorf("%+v, %v", resp, err)
			}
			resp, err = ask(context.Background(), r, h.id, purgeRoute, &purgeRequest{w.partitionOf("other"), now, []purgedKey{{[]byte("other"), version.LeafOf(other)}}, w.rec.Since[p]})
			if err != nil || len(resp.Gone) != 1 || !resp.Gone[0] || w.has(h.i, "other") {
				t.Errorf("%+v, %v", resp, err)
			}
		}
		if len(w.holders("k")) != 3 {
			t.Error("a value is gone")
		}
	})
}

func TestFault41_ClockAnHourAheadForgetsNothingEarly(t *testing.T) {
	ahead := func(c *Config) {
		soonForgetting(c)
		if c.Self == nodeID(0) {
			c.Stamp = func() version.Stamp { return version.StampAt(time.Now().Add(time.Hour)) }
		}
	}
	inWorld(t, worldOptions{partitions: 1, tune: ahead}, func(w *world) {
		for i := range 40 {
			w.deliver(made(fmt.Sprint("k-", i), uint64(i+1), time.Now(), time.Now().Add(10*time.Minute), nil), 0, 1, 2)
		}
		time.Sleep(9 * time.Minute)
		for i, h := range w.nodes {
			if n := len(h.store.dump()); n != 40 {
				t.Errorf("node %d has %d of 40 values that can still be read", i, n)
			}
		}
		w.eventually(2*time.Hour, "forgotten", func() error {
			if n := len(w.nodes[1].store.dump()); n > 0 {
				return fmt.Errorf("%d are left", n)
			}
			return nil
		})
	})
}

func TestFailingHomeForgetsNothing(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		w.remove(0, "k", 1, 2)
		w.quiet()
		s := w.nodes[1].store
		s.mu.Lock()
		s.dead = store.ErrFailed
		s.mu.Unlock()
		time.Sleep(10 * time.Minute)
		for _, i := range []int{0, 2} {
			if !w.has(i, "k") {
				t.Errorf("node %d forgot what node 1 has not confirmed", i)
			}
		}
		s.mu.Lock()
		s.dead = nil
		s.mu.Unlock()
		w.eventually(30*time.Minute, "forgotten", w.gone("k"))
	})
}

func TestQuietPartitionsAreNotSearchedAgain(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		for i := range 100 {
			w.write(i%3, fmt.Sprint("k-", i), "v", 0, 1, 2)
		}
		w.quiet()
		time.Sleep(time.Minute)
		f := &forgetter{r: w.nodes[0].repair, places: map[ring.Partition]*deadPlace{}}
		began := time.Now()
		if err := f.pass(context.Background()); err != nil {
			t.Fatal(err)
		}
		read := time.Since(began) // pauses after records, and only after those
		if read == 0 {
			t.Fatal("the first search reads nothing")
		}
		time.Sleep(time.Minute)
		began = time.Now()
		if err := f.pass(context.Background()); err != nil || time.Since(began) != 0 {
			t.Errorf("nothing has changed, and the search took %v, %v", time.Since(began), err)
		}
		w.remove(0, "k-0", 1, 2)
		if err := f.pass(context.Background()); err != nil || time.Since(began) == 0 || time.Since(began) >= read {
			t.Errorf("one partition has changed, and the search took %v of %v, %v", time.Since(began), read, err)
		}
	})
}

func TestForgettingEndsWithItsContext(t *testing.T) {
	inWorld(t, worldOptions{stopped: true}, func(w *world) {
		w.start(0)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := w.nodes[0].repair.forgetLoop(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
