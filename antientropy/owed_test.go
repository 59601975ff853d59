package antientropy

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// seldomAudited has no audit come by the schedule.
func seldomAudited(c *Config) { c.AuditEvery = 24 * time.Hour }

// purgeAt forgets a record at a node, whoever else has it.
func (w *world) purgeAt(i int, b []byte) {
	w.t.Helper()
	key := version.KeyOf(b)
	gone, err := w.nodes[i].storage().PurgeAll(w.rec.PartitionOf(key), []store.Purged{{Key: key, Leaf: version.LeafOf(b)}}, uint64(time.Now().UnixMilli()))
	if err != nil || !gone[0] {
		w.t.Fatalf("purge at %d: %v, %v", i, gone, err)
	}
}

// goneAt is for eventually.
func (w *world) goneAt(key string, nodes ...int) func() error {
	return func() error {
		for _, i := range nodes {
			if _, has := w.nodes[i].dump()[key]; has {
				return fmt.Errorf("node %d has %s", i, key)
			}
		}
		return nil
	}
}

// keyOf is a key of a partition.
func (w *world) keyOf(p ring.Partition) string {
	for i := 0; ; i++ {
		if k := fmt.Sprint("key-", i); w.partitionOf(k) == p {
			return k
		}
	}
}

// A target may pull a dead record from a source that is about to forget it, when all
// others have. No clock tells: they are told of what they show, and by an audit.
func TestWhoBecomesAHomeIsComparedWithTheOthersSoon(t *testing.T) {
	o := worldOptions{nodes: 5, replicas: 3, partitions: 16, real: true, tune: seldomAudited}
	inWorld(t, o, func(inner *world) {
		w := &moveWorld{world: inner}
		homes := inner.homesOf(movedPartition)
		w.a, w.b, w.from = homes[0], homes[1], homes[2]
		slot := inner.rec.HomeIndex(movedPartition, inner.nodes[w.from].id)
		w.to = slices.IndexFunc(inner.nodes, func(h *home) bool { return inner.rec.HomeIndex(movedPartition, h.id) < 0 })
		key := w.keyOf(movedPartition)
		w.write(w.a, key, "v", w.b, w.from)
		b := w.nodes[w.b].put(key, "", true, true)
		w.deliver(b, w.a, w.from)
		time.Sleep(time.Minute) // all have met
		w.purgeAt(w.a, b)
		w.purgeAt(w.b, b)
		next, err := w.rec.WithMoves([]ring.Move{{Partition: movedPartition, Slot: uint8(slot), To: w.nodes[w.to].id}})
		if err != nil {
			t.Fatal(err)
		}
		w.rec = next
		w.step(ring.StepDual, w.everybody()...)
		w.mustSync(w.to, w.from)
		w.step(ring.StepReadNew, w.everybody()...)
		w.mustSync(w.to, w.from)
		w.step(ring.StepDone, w.everybody()...)
		w.eventually(time.Minute, "forgotten", w.goneAt(key, w.a, w.b, w.to))
	})
}

// Who asks for a purge knows the homes of its time. What has become a home since is told
// by those who purge.
func TestAPurgeByAnOlderRecordIsMadeUpForByWhoServesIt(t *testing.T) {
	for _, older := range []bool{true, false} {
		inWorld(t, worldOptions{tune: seldomAudited}, func(w *world) {
			p := ring.Partition(3)
			key := w.keyOf(p)
			w.write(0, key, "v", 1, 2)
			b := w.remove(1, key, 0, 2)
			w.quiet()
			time.Sleep(time.Minute)
			req := &purgeRequest{Partition: p, Now: uint64(time.Now().UnixMilli()), Items: []purgedKey{{[]byte(key), version.LeafOf(b)}}, Epoch: w.rec.Since[p]}
			if older {
				req.Epoch--
			}
			resp, err := ask(context.Background(), w.nodes[0].repair, w.nodes[1].id, purgeRoute, req)
			if err != nil || !resp.Gone[0] {
				t.Fatal(resp, err)
			}
			if older {
				w.eventually(time.Minute, "forgotten by the others", w.gone(key))
				return
			}
			time.Sleep(5 * time.Minute)
			if at := w.holders(key); !slices.Equal(at, []int{0, 2}) {
				t.Errorf("%v have it: that they still do is for who drives the purge to see to", at)
			}
		})
	}
}

// Of two homes that have not heard of a purge one meets the other first, finds it equal,
// and is told by the third only then.
func TestAPurgeThatTwoHomesMissedIsMadeUpForAtBoth(t *testing.T) {
	for purged := range 3 {
		for driver := range 3 {
			if driver == purged {
				continue
			}
			inWorld(t, worldOptions{tune: seldomAudited}, func(w *world) {
				w.write(0, "k", "v", 1, 2)
				b := w.remove(1, "k", 0, 2)
				w.quiet()
				time.Sleep(time.Minute)
				w.halt(driver)
				w.purgeAt(purged, b)
				w.start(driver)
				w.eventually(time.Minute, "forgotten by all", w.gone("k"))
			})
		}
	}
}

// reluctant removes nothing at its store's first purges, as if the records had changed.
type reluctant struct {
	Store
	left int
}

func (d *reluctant) PurgeAll(p ring.Partition, records []store.Purged, now uint64) ([]bool, error) {
	if d.left > 0 {
		d.left--
		return make([]bool, len(records)), nil
	}
	return d.Store.PurgeAll(p, records, now)
}

// What is confirmed by all may be purged by some only: by the driver itself or by
// another home, because of a failure or a change meanwhile.
func TestAPurgeThatSomeHomeDidNotCarryOutIsMadeUpForSoon(t *testing.T) {
	for which := range 3 {
		for _, fails := range []bool{true, false} {
			nodes := 0
			inWorld(t, worldOptions{tune: func(c *Config) {
				seldomAudited(c)
				soonForgetting(c)
				if nodes++; nodes-1 != which {
					return
				}
				if fails {
					c.Store = &deaf{c.Store, 1}
				} else {
					c.Store = &reluctant{c.Store, 1}
				}
			}}, func(w *world) {
				w.write(0, "k", "v", 1, 2)
				w.remove(1, "k", 0, 2)
				w.eventually(10*time.Minute, "gone somewhere", func() error {
					if n := len(w.holders("k")); n == 3 {
						return fmt.Errorf("%d have it", n)
					}
					return nil
				})
				w.eventually(time.Minute, "gone everywhere", w.gone("k"))
			})
		}
	}
}

// A dead record that others hold no more is told of by who looks for such: it need not
// wait for the schedule.
func TestADeadRecordThatOnlyItsDriverHasGoesSoon(t *testing.T) {
	inWorld(t, worldOptions{tune: func(c *Config) {
		seldomAudited(c)
		c.ForgetAfter = 5 * time.Minute
	}}, func(w *world) {
		w.write(0, "k", "v", 1, 2)
		b := w.remove(1, "k", 0, 2)
		w.quiet()
		time.Sleep(time.Minute)
		driver := slices.IndexFunc(w.nodes, func(h *home) bool { return h.id == w.rec.Homes(w.partitionOf("k"))[0] })
		for i := range w.nodes {
			if i != driver {
				w.purgeAt(i, b)
			}
		}
		w.eventually(7*time.Minute, "gone everywhere", w.gone("k"))
	})
}
