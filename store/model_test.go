package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// home is a store and what it should hold.
type home struct {
	*store.Store
	d     *disk.Disk
	model map[string]version.Record
	// claims are the dots that its clocks should claim, by partition.
	claims map[ring.Partition]dots
	// sure are those claims that no crash takes: a removal took them to disk.
	sure map[ring.Partition]dots
	// dead are records that were removed here: late packets.
	dead  []version.Record
	boots int
	lost  bool // its clock does not say what was replaced here
}

func (h *home) record(key string) version.Record {
	if r, ok := h.model[key]; ok {
		return r
	}
	return version.Record{Key: []byte(key)}
}

func modelOptions() store.Options {
	return store.Options{CacheBytes: 300 << 10, WriteBuffer: 128 << 10, RecordMax: 64 << 10}
}

// TestStoreDoesWhatTheRecordsDo runs random puts, with contexts old and new,
// merges and verdicts between two homes, late packets, purges and claims, with
// restarts and losses, and compares every answer, and every clock, with
// version.Record on a map and sets of dots.
func TestStoreDoesWhatTheRecordsDo(t *testing.T) {
	for seed := range uint64(runs(12, 1000)) {
		r := rand.New(rand.NewPCG(seed, 3))
		homes := make([]*home, 2)
		for i := range homes {
			d := disk.New(seed*2 + uint64(i))
			homes[i] = &home{d: d, model: map[string]version.Record{}, claims: map[ring.Partition]dots{}, sure: map[ring.Partition]dots{},
				Store: mustOpen(t, d.Open(), modelOptions())}
		}
		var contexts []version.Context // that reads have returned, by key below
		var keysOf []string
		for step := range 400 {
			h := homes[r.IntN(2)]
			key := fmt.Sprintf("k%d", r.IntN(12))
			p := partitionFor(key)
			switch r.IntN(16) {
			case 0:
				h.restart(t, r)
			case 1, 2, 3:
				rec := h.check(t, p, key)
				contexts, keysOf = append(contexts, rec.Seen), append(keysOf, key)
			case 4, 5, 6:
				h.mergeFrom(t, homes[r.IntN(2)], p, key)
			case 7, 8:
				h.verdictFrom(t, homes[r.IntN(2)], p, key)
			case 9, 10:
				h.purge(t, p, key)
			case 11:
				h.latePacket(t, r)
			case 12:
				h.incorporateFrom(t, homes[r.IntN(2)], p)
				if r.IntN(20) == 0 {
					h.lose(t)
				}
			default:
				var ctx version.Context
				bound := r.IntN(3) > 0 && len(contexts) > 0
				if bound {
					i := r.IntN(len(contexts))
					key, ctx = keysOf[i], contexts[i]
					p = partitionFor(key)
				}
				value := fmt.Sprint(step) + strings.Repeat("x", r.IntN(2)*r.IntN(6000))
				h.put(t, p, key, value, bound, ctx, r.IntN(8) == 0)
			}
		}
		for _, h := range homes {
			for key := range h.model {
				h.check(t, partitionFor(key), key)
			}
			scanned := 0
			for p := range ring.Partition(16) {
				if err := h.Scan(p, nil, 0, func(key, record []byte) bool {
					scanned++
					want := h.record(string(key))
					return bytes.Equal(record, want.Append(nil))
				}); err != nil {
					t.Fatal(err)
				}
			}
			if scanned != len(h.model) || h.Stats().Keys != int64(scanned) {
				t.Fatalf("seed %d: scanned %d, counted %d of %d records", seed, scanned, h.Stats().Keys, len(h.model))
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (h *home) restart(t *testing.T, r *rand.Rand) {
	if r.IntN(2) == 0 {
		h.d.PowerCut()
	}
	_ = h.Close() // fails on a dead disk
	h.Store = open(t, h.d.Open(), modelOptions())
	h.boots++
	if health := h.Health(); len(health.Losses) > 0 && !health.MetaLost {
		t.Fatalf("losses: %+v", health)
	}
	eventually(t, "all keys counted", func() bool { return h.Stats().Keys == int64(len(h.model)) })
	// A crash may take claims, but for those of what is there, and never
	// invents one. What is there is found again even where a loss had
	// emptied the clock.
	for key, rec := range h.model {
		h.claim(partitionFor(key), rec)
	}
	for p, all := range h.claims {
		if err := h.holdsClaims(p); err != nil && !h.lost {
			t.Fatal(err)
		}
		c := h.ClockOf(p)
		for d := range h.sure[p] {
			if !c.Has(d) {
				t.Fatalf("clock of partition %d has forgotten %v, which was removed", p, d)
			}
		}
		h.claims[p] = all.filter(c.Has)
		h.checkClock(t, p)
	}
}

// holdsClaims says which dot of a stored record the clock lacks.
func (h *home) holdsClaims(p ring.Partition) error {
	c := h.ClockOf(p)
	for key, rec := range h.model {
		for _, d := range rec.Seen {
			if partitionFor(key) == p && !c.Has(d) {
				return fmt.Errorf("key %s: clock of partition %d lacks %v", key, p, d)
			}
		}
	}
	return nil
}

// checkClock compares a clock with the model, both ways.
func (h *home) checkClock(t *testing.T, p ring.Partition) {
	t.Helper()
	c := h.ClockOf(p)
	if err := h.claimed(p).equal(c.Minus(&store.Clock{})); err != nil {
		t.Fatalf("clock of partition %d: %v", p, err)
	}
}

func (h *home) claimed(p ring.Partition) dots {
	if h.claims[p] == nil {
		h.claims[p] = dots{}
	}
	return h.claims[p]
}

// claim notes what a record that was put or merged makes known.
func (h *home) claim(p ring.Partition, r version.Record) {
	all := h.claimed(p)
	for _, d := range r.Seen {
		all[d] = true
	}
	for i := range r.Siblings {
		all[r.Siblings[i].Dot] = true
	}
}

// bases is the context of what the model's clock claims without a gap.
func (h *home) bases(p ring.Partition) (out version.Context) {
	all := h.claimed(p)
	for d := range all {
		if d.Seq == 1 {
			for all[version.Dot{Actor: d.Actor, Seq: d.Seq + 1}] {
				d.Seq++
			}
			out = out.With(d)
		}
	}
	return out
}

// merged is what is left of both records, written out in sets.
func (h *home) merged(p ring.Partition, ours, theirs version.Record, verdict bool, base version.Context) version.Record {
	out := version.Record{Key: ours.Key, Seen: ours.Seen.Union(theirs.Seen)}
	has := func(r version.Record, d version.Dot) bool {
		for i := range r.Siblings {
			if r.Siblings[i].Dot == d {
				return true
			}
		}
		return false
	}
	for _, s := range ours.Siblings {
		replaced := theirs.Seen.Covers(s.Dot) || verdict && base.Covers(s.Dot)
		if has(theirs, s.Dot) || !replaced {
			out.Siblings = append(out.Siblings, s)
		}
	}
	for _, s := range theirs.Siblings {
		if !has(ours, s.Dot) && !ours.Seen.Covers(s.Dot) && !h.claimed(p)[s.Dot] {
			out.Siblings = append(out.Siblings, s)
		}
	}
	slices.SortFunc(out.Siblings, func(a, b version.Sibling) int { return a.Dot.Compare(b.Dot) })
	return out
}

// keep puts a merged record into the model, or removes it without siblings.
func (h *home) keep(t *testing.T, p ring.Partition, key string, rec, from version.Record) {
	t.Helper()
	old := h.record(key)
	if len(rec.Siblings) == 0 {
		delete(h.model, key)
		if len(old.Siblings) > 0 {
			defer h.removed(p, old)
		}
	} else {
		h.model[key] = rec
	}
	if !rec.Equal(&old) || !old.Seen.Includes(rec.Seen) {
		h.claim(p, rec) // it was written
	}
	h.claim(p, from)
	h.check(t, p, key)
	h.checkClock(t, p)
}

// verdictFrom merges with what another home has incorporated, whether or not that
// holds the key.
func (h *home) verdictFrom(t *testing.T, other *home, p ring.Partition, key string) {
	t.Helper()
	base, theirs := other.bases(p), other.record(key)
	if other.lost {
		return
	}
	mustVerdict(t, h.Store, p, theirs, base)
	h.keep(t, p, key, h.merged(p, h.record(key), theirs, true, base), theirs)
}

func (h *home) removed(p ring.Partition, rec version.Record) {
	h.dead = append(h.dead, rec)
	h.sure[p] = maps.Clone(h.claimed(p))
}

func (h *home) latePacket(t *testing.T, r *rand.Rand) {
	t.Helper()
	if len(h.dead) == 0 {
		return
	}
	late := h.dead[r.IntN(len(h.dead))]
	key, p := string(late.Key), partitionFor(string(late.Key))
	mustMerge(t, h.Store, p, late)
	h.keep(t, p, key, h.merged(p, h.record(key), late, false, nil), late)
}

func (h *home) purge(t *testing.T, p ring.Partition, key string) {
	t.Helper()
	rec := h.record(key)
	may := len(rec.Siblings) > 0 && h.bases(p).Includes(rec.Seen)
	for i := range rec.Siblings {
		may = may && rec.Siblings[i].Tombstone
	}
	if got := purge(t, h.Store, p, rec, 0); got != may {
		t.Fatalf("purge of %s: %v, want %v", key, got, may)
	}
	if may {
		delete(h.model, key)
		h.removed(p, rec)
	}
	h.check(t, p, key)
	h.checkClock(t, p)
}

// incorporateFrom claims all that another home claims, after its records.
func (h *home) incorporateFrom(t *testing.T, other *home, p ring.Partition) {
	t.Helper()
	if other.lost {
		return
	}
	theirs, era := other.ClockOf(p), h.Era()
	for key := range other.model {
		if partitionFor(key) == p {
			h.verdictFrom(t, other, p, key)
		}
	}
	mine := h.ClockOf(p)
	if err := h.Incorporate(p, theirs.Minus(&mine), era); err != nil {
		t.Fatal(err)
	}
	for d := range other.claimed(p) {
		h.claimed(p)[d] = true
	}
	h.checkClock(t, p)
}

// lose empties the clocks, and repairs at once what was not really lost.
func (h *home) lose(t *testing.T) {
	t.Helper()
	if err := h.DeclareLoss("test"); err != nil {
		t.Fatal(err)
	}
	h.claims, h.sure = map[ring.Partition]dots{}, map[ring.Partition]dots{}
	h.lost = true
	for p := range ring.Partition(16) {
		h.checkClock(t, p)
		if h.CountsForRead(p) {
			t.Fatalf("partition %d counts", p)
		}
		if err := h.Repaired(p, h.Era()); err != nil || !h.CountsForRead(p) {
			t.Fatalf("partition %d counts: %v, %v", p, h.CountsForRead(p), err)
		}
	}
}

func partitionFor(key string) ring.Partition { return ring.Partition(len(key) + int(key[1])%5) }

// check compares what a home answers with what it should hold.
func (h *home) check(t *testing.T, p ring.Partition, key string) version.Record {
	t.Helper()
	got := newOutcome()
	h.Read(p, []byte(key), got)
	if err := got.wait(); err != nil {
		t.Fatal(err)
	}
	want, ok := h.model[key]
	if !ok {
		if got.record != nil {
			t.Fatalf("key %s was never written and holds %d bytes", key, len(got.record))
		}
		return want
	}
	if !bytes.Equal(got.record, want.Append(nil)) {
		t.Fatalf("key %s: record differs from the model", key)
	}
	return want
}

func (h *home) mergeFrom(t *testing.T, other *home, p ring.Partition, key string) {
	t.Helper()
	theirs, ok := other.model[key]
	if !ok {
		return
	}
	if err := startMerge(h.Store, p, theirs.Append(nil)).wait(); err != nil {
		t.Fatal(err)
	}
	h.keep(t, p, key, h.merged(p, h.record(key), theirs, false, nil), theirs)
}

func (h *home) put(t *testing.T, p ring.Partition, key, value string, bound bool, ctx version.Context, tombstone bool) {
	t.Helper()
	put := blind(p, key, value)
	put.Blind, put.Context = !bound, ctx
	if tombstone {
		put.Tombstone, put.Value, put.ValueDigest = true, nil, version.Digest{}
	}
	o := start(h.Store, put)
	if err := o.wait(); err != nil {
		if errors.Is(err, store.ErrTooLarge) && !o.minted {
			h.check(t, p, key)
			return
		}
		t.Fatal(err)
	}
	old := h.record(key)
	if !bound {
		ctx = old.Seen
	}
	sib := version.NewSibling(o.dot, put.Stamp, 0, []byte(value))
	if tombstone {
		sib = version.NewTombstone(o.dot, put.Stamp)
	}
	if old.Seen.Covers(o.dot) {
		t.Fatalf("dot %v was minted before", o.dot)
	}
	now := old.Put(ctx, sib)
	h.model[key] = now
	h.claim(p, now)
	if !bytes.Equal(o.record, now.Append(nil)) || o.siblings != len(now.Siblings) {
		t.Fatalf("key %s: Minted was given another record than the model's", key)
	}
	h.check(t, p, key)
}
