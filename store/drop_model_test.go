package store_test

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// rapidChecks sets how many histories rapid tries.
func rapidChecks(t *testing.T, n int) {
	was := flag.Lookup("rapid.checks").Value.String()
	t.Cleanup(func() { _ = flag.Set("rapid.checks", was) })
	if err := flag.Set("rapid.checks", strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
}

const modelPartitions = 3

// slowMap is what a store should hold, written out.
type slowMap struct {
	d      *disk.Disk
	s      *store.Store
	bubble *testing.T
	actor  version.Actor // of the last record from elsewhere
	epoch  uint64
	parts  [modelPartitions]slowPartition
	claims []oldClaim
	// handOver says that what is dropped is kept for its homes.
	handOver bool
	actors   map[version.Actor]bool // that have minted before the last drop or restart
}

type slowPartition struct {
	keys map[string]version.Record
	// gone are dots that were dropped, or lost with the clock, and did not come
	// again.
	gone map[version.Dot]bool
	note ring.Pulled
	// lossy says that it does not count; vague, that its clock was emptied, and so
	// claims some only of what is there.
	lossy, vague bool
	// again says that more was lost since it was lossy: what comes next begins anew.
	again bool
	fence uint64
	// kept is what was held when the partition was dropped.
	kept map[string]version.Record
	// emptied counts drops and losses.
	emptied int
	mine    version.Actor // that has minted since the last drop
}

// oldClaim was read at some time.
type oldClaim struct {
	p       ring.Partition
	era     uint64
	emptied int
	dots    store.DotSet
}

// TestDropsDoWhatASlowMapDoes runs random drops, writes, notes, losses, purges, claims
// of the past, crashes and failures of the disk, and compares everything that a store
// says with a map.
func TestDropsDoWhatASlowMapDoes(t *testing.T) {
	rapidChecks(t, runs(120, 6000))
	rapid.Check(t, func(rt *rapid.T) {
		// What ends a history goes out of the bubble, to rapid.
		var ended any
		bubble(t, func(t *testing.T) {
			defer func() { ended = recover() }()
			dropHistory(t, rt)
		})
		if rt.Failed() {
			rt.Fatalf("%v", ended)
		}
		if ended != nil {
			panic(ended) // rapid has drawn what is no history
		}
	})
}

func dropHistory(t *testing.T, rt *rapid.T) {
	m := &slowMap{d: disk.New(rapid.Uint64().Draw(rt, "seed")), bubble: t, actor: 1000, epoch: 1, actors: map[version.Actor]bool{}}
	m.handOver = rapid.Bool().Draw(rt, "hand over")
	m.d.SetTear(disk.Tear(rapid.IntRange(0, 2).Draw(rt, "tear")))
	for p := range m.parts {
		m.parts[p].empty()
	}
	m.open(rt)
	rt.Repeat(map[string]func(*rapid.T){
		"":              m.check,
		"put":           m.put,
		"many":          m.many,
		"merge":         m.merge,
		"purge":         m.purge,
		"drop":          m.drop,
		"dropAndWrite":  m.dropAndWrite,
		"dropAndCrash":  m.dropAndCrash,
		"note":          m.note,
		"noteAndCrash":  m.noteAndCrash,
		"lose":          m.lose,
		"repaired":      m.repaired,
		"remember":      m.remember,
		"claim":         m.claim,
		"restart":       m.restart,
		"failedSync":    m.failedSync,
		"dropAndFailed": m.dropAndFailed,
	})
	m.settle(rt)
	m.check(rt)
	for p := range ring.Partition(modelPartitions) {
		if !m.parts[p].lossy {
			wantTree(rt, m.s, p)
		}
	}
	if err := m.s.Close(); err != nil {
		rt.Fatal(err)
	}
}

func (q *slowPartition) empty() {
	if q.gone == nil {
		q.gone, q.kept = map[version.Dot]bool{}, map[string]version.Record{}
	}
	for key, r := range q.keys {
		if old, twice := q.kept[key]; twice {
			r = version.Merge(r, old)
		}
		q.kept[key] = r
	}
	for _, r := range q.keys {
		for _, d := range r.Seen {
			q.gone[d] = true
		}
		for i := range r.Siblings {
			q.gone[r.Siblings[i].Dot] = true
		}
	}
	q.keys = map[string]version.Record{}
	q.note, q.lossy, q.vague, q.again = ring.Pulled{}, false, false, false
	q.emptied++
}

func (m *slowMap) open(t *rapid.T) {
	o := small()
	o.HandOver = m.handOver
	s, err := store.Open(m.d.Open(), o)
	if err != nil {
		t.Fatal(err)
	}
	m.s = s
	m.bubble.Cleanup(func() { _ = s.Close() })
	for p := range m.parts {
		m.parts[p].mine = 0
	}
}

func (m *slowMap) partition(t *rapid.T) (ring.Partition, *slowPartition) {
	p := ring.Partition(rapid.IntRange(0, modelPartitions-1).Draw(t, "partition"))
	return p, &m.parts[p]
}

func drawKey(t *rapid.T) string { return fmt.Sprintf("k%d", rapid.IntRange(0, 5).Draw(t, "key")) }

// settle waits until nothing goes on by itself.
func (m *slowMap) settle(t *rapid.T) {
	until(t, m.s, "serving", func(h store.Health) bool { return h.Failed == nil })
	eventually(t, "dropped", func() bool {
		handOverAll(m.s)
		return len(m.s.Dropping()) == 0
	})
}

// check compares everything that can be asked.
func (m *slowMap) check(t *rapid.T) {
	m.settle(t)
	keys := 0
	for p := range m.parts {
		keys += len(m.parts[p].keys)
	}
	// The scan of an opening has claimed all by then.
	eventually(t, "keys are counted", func() bool { return m.s.Stats().Keys == int64(keys) })
	for i := range m.parts {
		p, q := ring.Partition(i), &m.parts[i]
		clock := m.s.ClockOf(p)
		found := map[string]bool{}
		err := m.s.Scan(p, nil, 0, func(key, record []byte) bool {
			want, ok := q.keys[string(key)]
			if !ok || string(want.Append(nil)) != string(record) {
				t.Fatalf("partition %d, key %q: there is %x, want %x", p, key, record, want.Append(nil))
			}
			found[string(key)] = true
			for _, d := range want.Seen {
				if !q.vague && !clock.Has(d) {
					t.Fatalf("partition %d, key %q: the clock does not claim %v", p, key, d)
				}
			}
			return true
		})
		if err != nil || len(found) != len(q.keys) {
			t.Fatalf("partition %d: %d of %d keys, %v", p, len(found), len(q.keys), err)
		}
		for d := range q.gone {
			if clock.Has(d) {
				t.Fatalf("partition %d: the clock claims %v, which is gone", p, d)
			}
		}
		if note := m.s.Pulled(p); note.By != q.note.By || note.Since != q.note.Since || !slices.Equal(note.From, q.note.From) {
			t.Fatalf("partition %d: note %v, want %v", p, note, q.note)
		}
		if m.s.CountsForRead(p) == q.lossy || m.s.Fence(p) < q.fence || m.s.Fence(p) > m.epoch {
			t.Fatalf("partition %d: counts %v, fence %d, want %+v", p, m.s.CountsForRead(p), m.s.Fence(p), q)
		}
	}
	m.checkKept(t)
}

// checkKept compares what is kept of dropped partitions.
func (m *slowMap) checkKept(t *rapid.T) {
	kept, want := keptOf(t, m.s), 0
	for p := range m.parts {
		if !m.handOver {
			break
		}
		want += len(m.parts[p].kept)
		for key, r := range m.parts[p].kept {
			if got := kept[ring.Partition(p)][key]; string(got) != string(r.Append(nil)) {
				t.Fatalf("partition %d, key %q: %x is kept, want %x", p, key, got, r.Append(nil))
			}
		}
	}
	n := 0
	for _, of := range kept {
		n += len(of)
	}
	if n != want {
		t.Fatalf("%d records are kept, want %d", n, want)
	}
	eventually(t, "kept records are counted", func() bool { return m.s.Stats().StandIns == int64(want) })
}
