package antientropy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// realWorld is a world whose homes have real stores on simulated disks.
type realWorld struct {
	*world
	disks  []*disk.Disk
	stores []*store.Store
	draws  uint64
	// clocksEvery is how far clocks on disk lag; 0 is the default.
	clocksEvery time.Duration
}

// inRealWorld runs f with three homes; nothing is running yet.
func inRealWorld(t *testing.T, o worldOptions, f func(w *realWorld)) {
	t.Helper()
	tune := o.tune
	o.stopped, o.tune = true, nil
	inWorld(t, o, func(inner *world) {
		w := &realWorld{world: inner, draws: o.seed << 40}
		for i, h := range w.nodes {
			w.disks = append(w.disks, disk.New(o.seed<<8+uint64(i)))
			w.stores = append(w.stores, nil)
			h.tune = func(c *Config) {
				if tune != nil {
					tune(c)
				}
				c.Store = w.stores[i]
			}
		}
		defer func() {
			for i := range w.nodes {
				w.stopNode(i)
			}
			time.Sleep(3 * time.Second) // goleveldb's pools end a while after Close
		}()
		f(w)
	})
}

// startNode opens a store and starts its repair.
func (w *realWorld) startNode(i int) {
	w.t.Helper()
	s, err := store.Open(w.disks[i].Open(), store.Options{
		WriteBuffer: 4 << 20, CacheBytes: 8 << 20, ClockPersistEvery: w.clocksEvery,
		Rand: func() uint64 { w.draws += 0x9e3779b97f4a7c15; return w.draws | 1 },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.stores[i] = s
	w.start(i)
}

func (w *realWorld) startAll() {
	for i := range w.nodes {
		w.startNode(i)
	}
}

func (w *realWorld) stopNode(i int) {
	w.halt(i)
	if w.stores[i] != nil {
		_ = w.stores[i].Close() // of a dead disk at times
		w.stores[i] = nil
	}
}

// realPut is one put on its way.
type realPut struct {
	record []byte
	done   chan error
}

// Minted implements store.PutSink.
func (p *realPut) Minted(record []byte, _ version.Dot, _ version.Context, _ int) { p.record = record }

// Committed implements store.PutSink and store.MergeSink.
func (p *realPut) Committed(err error) { p.done <- err }

// mint writes at node i, blind, and has the record merged at others.
func (w *realWorld) mint(i int, put store.Put, to ...int) []byte {
	w.t.Helper()
	sink := &realPut{done: make(chan error, 1)}
	put.Partition, put.Blind, put.Stamp, put.Sink = w.partitionOf(string(put.Key)), true, version.StampAt(time.Now()), sink
	put.ValueDigest = version.DigestOf(put.Value)
	w.stores[i].Put(&put)
	if err := <-sink.done; err != nil {
		w.t.Fatal(err)
	}
	for _, j := range to {
		w.bring(j, sink.record)
	}
	return sink.record
}

// bring merges a record at a node, as a coordinator does.
func (w *realWorld) bring(j int, record []byte) {
	w.t.Helper()
	r, err := version.Parse(record)
	if err != nil {
		w.t.Fatal(err)
	}
	sink := &realPut{done: make(chan error, 1)}
	w.stores[j].Merge(&store.Merge{Partition: w.partitionOf(string(r.Key)), Record: r, Encoded: record, Sink: sink})
	if err := <-sink.done; err != nil {
		w.t.Fatal(err)
	}
}

// content is all that a node holds, as leaves by key; and every tree must be what a
// scan finds.
func (w *realWorld) content(i int) map[string]version.Digest {
	w.t.Helper()
	out := map[string]version.Digest{}
	for p := range ring.Partition(w.rec.Partitions) {
		err := w.stores[i].Scan(p, nil, 0, func(key, record []byte) bool {
			out[string(key)] = version.LeafOf(record)
			return true
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return out
}

// same says that all homes hold the same, and have equal roots.
func (w *realWorld) same() error {
	first := w.content(0)
	for i := 1; i < len(w.nodes); i++ {
		other := w.content(i)
		for k, leaf := range first {
			if other[k] != leaf {
				return fmt.Errorf("key %s: node 0 has %x, node %d %x", k, leaf, i, other[k])
			}
		}
		if len(other) != len(first) {
			return fmt.Errorf("node 0 has %d keys, node %d %d", len(first), i, len(other))
		}
	}
	for p := range ring.Partition(w.rec.Partitions) {
		var roots []version.Digest
		for i := range w.nodes {
			tree, _, ok := w.stores[i].TreeOf(p)
			if !ok {
				return fmt.Errorf("the tree of partition %d at node %d is not to be trusted", p, i)
			}
			roots = append(roots, tree.Root())
		}
		for i, root := range roots {
			if root != roots[0] {
				return fmt.Errorf("partition %d: node %d has another root", p, i)
			}
		}
	}
	return nil
}

func TestRealHomesAreEqualAfterAuditsAlone(t *testing.T) {
	inRealWorld(t, worldOptions{seed: 1, partitions: 8, tune: onlyAudits}, func(w *realWorld) {
		w.startAll()
		time.Sleep(5 * time.Second)
		r := rand.New(rand.NewPCG(1, 2))
		for range 3 {
			for range 300 {
				var to []int
				i := r.IntN(3)
				for j := range 3 {
					if j != i && r.IntN(3) == 0 {
						to = append(to, j)
					}
				}
				put := store.Put{Key: fmt.Appendf(nil, "k-%d", r.IntN(120)), Value: fmt.Append(nil, r.Uint64())}
				if r.IntN(5) == 0 {
					put.Tombstone, put.Value = true, nil
				}
				w.mint(i, put, to...)
			}
			for i := range 3 {
				for j := range 3 {
					if i != j {
						w.mustAudit(i, j, r.IntN(2) == 0)
					}
				}
			}
			if err := w.same(); err != nil {
				t.Fatal(err)
			}
		}
		for _, h := range w.nodes {
			if st := h.repair.Status(); st.Anomalies != 0 {
				t.Errorf("node %d: %d anomalies, %s", h.i, st.Anomalies, st.LastAnomaly)
			}
		}
	})
}

func TestFault21_ForgottenStaysForgottenAfterAllLostPower(t *testing.T) {
	inRealWorld(t, worldOptions{seed: 2, partitions: 4, tune: soonForgetting}, func(w *realWorld) {
		w.clocksEvery = 24 * time.Hour
		w.startAll()
		var old [][]byte
		for i := range 60 {
			old = append(old, w.mint(i%3, store.Put{Key: fmt.Appendf(nil, "k-%d", i), Value: []byte("v")}, (i+1)%3))
		}
		time.Sleep(10 * time.Second)
		for i := range 60 {
			w.mint((i+1)%3, store.Put{Key: fmt.Appendf(nil, "k-%d", i), Tombstone: true}, i%3, (i+2)%3)
		}
		left := func() error {
			for i := range 3 {
				if n := len(w.content(i)); n > 0 {
					return fmt.Errorf("node %d holds %d records", i, n)
				}
			}
			return nil
		}
		w.eventually(5*time.Minute, "forgotten", left)
		for i := range 3 {
			w.disks[i].PowerCut()
			w.stopNode(i)
		}
		w.startAll()
		for _, b := range old { // a packet that was under way for minutes
			for i := range 3 {
				w.bring(i, b)
			}
		}
		if err := left(); err != nil {
			t.Errorf("deleted values are back: %v", err)
		}
	})
}

func TestForgettingAndWritesAtOnceLoseNothing(t *testing.T) {
	for seed := range uint64(realSeeds(t, 3)) {
		inRealWorld(t, worldOptions{seed: seed, partitions: 2, tune: func(c *Config) {
			c.ForgetAfter, c.AuditEvery = time.Second, 20*time.Second
		}}, func(w *realWorld) {
			w.startAll()
			r := rand.New(rand.NewPCG(seed, 3))
			want := map[string]string{}
			for n := range 400 {
				key := fmt.Sprintf("k-%d", r.IntN(15))
				put := store.Put{Key: []byte(key), Value: fmt.Append(nil, n)}
				want[key] = string(put.Value)
				if r.IntN(2) == 0 {
					put.Tombstone, put.Value = true, nil
					delete(want, key)
				}
				// The home of a key has seen all that was written of it: what
				// stands at the end is known.
				i := int(key[len(key)-1]) % 3
				var to []int
				for j := range 3 {
					if j != i && r.IntN(4) > 0 {
						to = append(to, j)
					}
				}
				w.mint(i, put, to...)
				time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
			}
			w.eventually(10*time.Minute, "equal, and only what can be read is left", func() error {
				if err := w.same(); err != nil {
					return err
				}
				for i := range 3 {
					if n := len(w.content(i)); n != len(want) {
						return fmt.Errorf("node %d holds %d records, want %d", i, n, len(want))
					}
				}
				return nil
			})
			forgotten := int64(0)
			for i, h := range w.nodes {
				forgotten += h.repair.Status().Forgotten
				for key, value := range want {
					b, err := w.stores[i].Get(w.partitionOf(key), []byte(key))
					if err != nil {
						t.Fatal(err)
					}
					rec, err := version.Parse(b)
					if err != nil || len(rec.Siblings) != 1 || string(rec.Siblings[0].Value) != value {
						t.Errorf("seed %d: node %d has %v of key %s, want %s", seed, i, rec.Siblings, key, value)
					}
				}
			}
			if forgotten == 0 {
				t.Errorf("seed %d: nothing was forgotten", seed)
			}
		})
	}
}

// realSeeds is how many worlds of nodes a test runs: few, a third of them under the race
// detector, which is slow, and sees as much in those; or as many as KITH_LONG says.
func realSeeds(t *testing.T, few int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && n > 0 {
		return few * 20
	}
	if raced {
		return (few + 2) / 3
	}
	return few
}

func TestFault33_TreesAreRebuiltAndAuditedAfterAPowerCut(t *testing.T) {
	inRealWorld(t, worldOptions{seed: 4, partitions: 4, tune: onlyAudits}, func(w *realWorld) {
		w.startAll()
		for i := range 200 {
			w.mint(i%3, store.Put{Key: fmt.Appendf(nil, "k-%d", i), Value: []byte("v")}, (i+1)%3, (i+2)%3)
		}
		w.disks[1].PowerCut()
		w.stopNode(1)
		w.mint(0, store.Put{Key: []byte("missed"), Value: []byte("v")}, 2)
		w.startNode(1)
		w.eventually(time.Minute, "audited", func() error {
			out, err := w.auditAt(0, 1, false)
			if err == nil && len(out.Skipped) > 0 {
				err = out.Skipped[0].why
			}
			return err
		})
		if err := w.same(); err != nil {
			t.Error(err)
		}
	})
}

func TestScrubOfARealStoreReadsWhatLiesThere(t *testing.T) {
	inRealWorld(t, worldOptions{seed: 5, partitions: 4, tune: func(c *Config) { c.ScrubEvery = time.Minute }}, func(w *realWorld) {
		w.startAll()
		for i := range 300 {
			w.mint(0, store.Put{Key: fmt.Appendf(nil, "k-%d", i), Value: make([]byte, 10000)})
		}
		// Opened anew, the records are in tables.
		w.stopNode(0)
		w.startNode(0)
		w.eventually(3*time.Minute, "scrubbed", func() error {
			if n := w.nodes[0].repair.Status().Scrubbed; n < 300 {
				return fmt.Errorf("%d records", n)
			}
			return nil
		})
		if st := w.nodes[0].repair.Status(); st.Rotten != 0 {
			t.Errorf("%d are rotten", st.Rotten)
		}
		if err := w.nodes[0].repair.scrubPass(context.Background(), w.stores[0]); err != nil {
			t.Error(err)
		}
	})
}
