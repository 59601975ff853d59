package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
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
	boots int
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

// TestStoreDoesWhatTheRecordsDo runs random puts, with contexts old and new, and
// merges between two homes, with restarts, and compares every answer with
// version.Record on a map.
func TestStoreDoesWhatTheRecordsDo(t *testing.T) {
	for seed := range uint64(runs(12, 1000)) {
		r := rand.New(rand.NewPCG(seed, 3))
		homes := make([]*home, 2)
		for i := range homes {
			d := disk.New(seed*2 + uint64(i))
			homes[i] = &home{d: d, model: map[string]version.Record{}, Store: mustOpen(t, d.Open(), modelOptions())}
		}
		var contexts []version.Context // that reads have returned, by key below
		var keysOf []string
		for step := range 400 {
			h := homes[r.IntN(2)]
			key := fmt.Sprintf("k%d", r.IntN(12))
			p := ring.Partition(len(key) + int(key[1])%5)
			switch r.IntN(10) {
			case 0:
				h.restart(t, r)
			case 1, 2, 3:
				rec := h.check(t, p, key)
				contexts, keysOf = append(contexts, rec.Seen), append(keysOf, key)
			case 4, 5, 6:
				h.mergeFrom(t, homes[r.IntN(2)], p, key)
			default:
				var ctx version.Context
				bound := r.IntN(3) > 0 && len(contexts) > 0
				if bound {
					i := r.IntN(len(contexts))
					key, ctx = keysOf[i], contexts[i]
					p = ring.Partition(len(key) + int(key[1])%5)
				}
				value := fmt.Sprint(step) + strings.Repeat("x", r.IntN(2)*r.IntN(6000))
				h.put(t, p, key, value, bound, ctx, r.IntN(8) == 0)
			}
		}
		for _, h := range homes {
			for key := range h.model {
				h.check(t, ring.Partition(len(key)+int(key[1])%5), key)
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
	if health := h.Health(); len(health.Losses) > 0 {
		t.Fatalf("losses: %+v", health)
	}
	eventually(t, "all keys counted", func() bool { return h.Stats().Keys == int64(len(h.model)) })
}

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
	clock := h.ClockOf(p)
	for _, d := range want.Seen {
		if !clock.Has(d) {
			t.Fatalf("key %s: clock of partition %d lacks %v", key, p, d)
		}
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
	ours := h.record(key)
	h.model[key] = version.Merge(ours, theirs)
	h.check(t, p, key)
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
	if !bytes.Equal(o.record, now.Append(nil)) || o.siblings != len(now.Siblings) {
		t.Fatalf("key %s: Minted was given another record than the model's", key)
	}
	h.check(t, p, key)
}
