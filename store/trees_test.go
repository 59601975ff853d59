package store_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// rescan adds up the leaves of a partition's records, as slowly as can be.
func rescan(t rapid.TB, s *store.Store, p ring.Partition) store.Tree {
	t.Helper()
	var tree store.Tree
	err := s.Scan(p, nil, 0, func(key, record []byte) bool {
		leaf := &tree.Leaves[store.TreeLeaf(p, key)]
		*leaf = plus(*leaf, version.LeafOf(record))
		return true
	})
	if err != nil {
		t.Fatalf("scan of partition %d: %v", p, err)
	}
	return tree
}

// plus adds byte by byte.
func plus(s store.Sum, d version.Digest) store.Sum {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(s.High>>(56-8*i)), byte(s.Low>>(56-8*i))
	}
	carry := 0
	for i := 15; i >= 0; i-- {
		carry += int(b[i]) + int(d[i])
		b[i] = byte(carry)
		carry >>= 8
	}
	var out store.Sum
	for i := range 8 {
		out.High, out.Low = out.High<<8|uint64(b[i]), out.Low<<8|uint64(b[8+i])
	}
	return out
}

// wantTree waits until a tree can be trusted, and compares it.
func wantTree(t rapid.TB, s *store.Store, p ring.Partition) {
	t.Helper()
	var tree *store.Tree
	eventually(t, fmt.Sprintf("tree of partition %d", p), func() (ok bool) {
		tree, _, ok = s.TreeOf(p)
		return ok
	})
	if tree.Leaves != rescan(t, s, p).Leaves {
		t.Fatalf("tree of partition %d is not that of its records", p)
	}
}

func TestTreeEqualsARescanAfterAnyHistory(t *testing.T) {
	for seed := range uint64(runs(40, 3000)) {
		bubble(t, func(t *testing.T) {
			h := &treeHistory{r: rand.New(rand.NewPCG(seed, 11)), d: disk.New(seed)}
			h.open(t)
			for range 300 {
				h.step(t)
			}
			h.settle()
			for p := range ring.Partition(4) {
				wantTree(t, h.s, p)
			}
			if h.trusted == 0 {
				t.Fatalf("seed %d: no tree was ever trusted", seed)
			}
		})
	}
}

// treeHistory does anything to a store, and keeps what is under way.
type treeHistory struct {
	r       *rand.Rand
	d       *disk.Disk
	s       *store.Store
	under   []*outcome
	minted  [][]byte // records, for late merges
	changes map[ring.Partition]uint64
	last    map[ring.Partition]store.Tree
	trusted int
}

func (h *treeHistory) open(t *testing.T) {
	h.s = open(t, h.d.Open(), small())
	h.changes, h.last = map[ring.Partition]uint64{}, map[ring.Partition]store.Tree{}
}

func (h *treeHistory) settle() {
	for _, o := range h.under {
		if o.wait() == nil && len(o.record) > 0 {
			h.minted = append(h.minted, o.record)
		}
	}
	h.under = nil
}

func (h *treeHistory) step(t *testing.T) {
	p, key := ring.Partition(h.r.IntN(4)), fmt.Sprintf("k%d", h.r.IntN(20))
	switch h.r.IntN(24) {
	case 0, 1:
		h.look(t, p)
	case 2:
		h.merge(p)
	case 3, 4:
		// A verdict takes away what the sender has forgotten.
		h.settle()
		rec := get(t, h.s, p, key)
		m := &store.Merge{Partition: p, Record: version.Record{Key: []byte(key)}, Verdict: true, Base: rec.Seen, Sink: newOutcome()}
		for i := range rec.Siblings {
			m.Judged = append(m.Judged, rec.Siblings[i].Dot)
		}
		h.s.Merge(m)
		_ = m.Sink.(*outcome).wait()
	case 5:
		put := blind(p, key, "")
		put.Tombstone, put.Value, put.ValueDigest = true, nil, version.Digest{}
		h.under = append(h.under, start(h.s, put))
	case 6:
		h.settle()
		rec := get(t, h.s, p, key)
		if _, err := h.s.Purge(p, []byte(key), rec.Leaf(), 1<<62); err != nil {
			t.Fatal(err)
		}
	case 7:
		if h.r.IntN(4) == 0 {
			h.restart(t)
		}
	case 8:
		if h.r.IntN(4) == 0 {
			h.d.FailSync(disk.Of(storage.TypeJournal), 1, h.r.IntN(2) == 0, syscall.EIO)
			h.settle()
			_ = start(h.s, blind(p, key, "fails")).wait()
			serving(t, h.s)
		}
	default:
		value := strings.Repeat("x", h.r.IntN(3000))
		h.under = append(h.under, start(h.s, blind(p, key, value)))
	}
}

func (h *treeHistory) merge(p ring.Partition) {
	if len(h.minted) > 0 {
		h.under = append(h.under, startMerge(h.s, p, h.minted[h.r.IntN(len(h.minted))]))
	}
}

func (h *treeHistory) restart(t *testing.T) {
	how := h.r.IntN(3)
	if how == 0 {
		h.settle()
	}
	stop3(h.d, h.s, how)
	h.settle()
	h.open(t)
}

func stop3(d *disk.Disk, s *store.Store, how int) {
	switch how {
	case 1:
		d.Kill()
	case 2:
		d.PowerCut()
	}
	_ = s.Close()
}

// look compares a tree whenever it is trusted, between two batches.
func (h *treeHistory) look(t *testing.T, p ring.Partition) {
	h.settle()
	tree, changes, ok := h.s.TreeOf(p)
	if !ok {
		return
	}
	h.trusted++
	if tree.Leaves != rescan(t, h.s, p).Leaves {
		t.Fatalf("tree of partition %d is not that of its records", p)
	}
	if before, seen := h.last[p]; seen && before != *tree && h.changes[p] == changes {
		t.Fatalf("the tree of partition %d has changed, its number %d has not", p, changes)
	}
	h.last[p], h.changes[p] = *tree, changes
}

// A clean close leaves the trees, and the next opening reads no record for them.
func TestTreeOutlivesACleanClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		synctest.Wait()
		before, _, _ := s.TreeOf(1)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// No record can be read.
		s = openThenFail(t, d, syscall.EIO)
		tree, _, ok := s.TreeOf(1)
		if !ok || *tree != *before || tree.Root() == new(store.Tree).Root() {
			t.Fatalf("trusted %v, the same %v", ok, *tree == *before)
		}
	})
}

// The trees of a close are good for the very next opening only.
func TestTreeOfAnOlderCloseIsNotTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		mustPut(t, s, 1, "later", "v")
		d.Kill()
		_ = s.Close() // of a dead disk
		s = open(t, d.Open(), small())
		wantTree(t, s, 1)
		if len(get(t, s, 1, "later").Siblings) != 1 {
			t.Fatal("lost a put")
		}
	})
}

// openThenFail opens a store that has to count, on a disk that fails to read tables
// from the end of the opening on.
func openThenFail(t *testing.T, d *disk.Disk, err error) *store.Store {
	before, syncs := d.Snapshot(), d.Counts().Syncs
	s := open(t, d.Open(), small())
	syncs = d.Counts().Syncs - syncs
	d.Kill()
	_ = s.Close() // of a dead disk
	d.Restore(before)
	var failing atomic.Bool
	var done atomic.Int64
	d.SetSyncDelay(func() time.Duration {
		if done.Add(1) == syncs {
			failing.Store(true)
		}
		return 0
	})
	d.FailRead(func(fd storage.FileDesc) bool { return failing.Load() && fd.Type == storage.TypeTable }, disk.Forever, err)
	return open(t, d.Open(), small())
}

// A scan that cannot read for want of something in the process goes on later; until
// then no tree is trusted.
func TestTreeIsNotTrustedBeforeAllWasRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		d.Kill()
		_ = s.Close() // of a dead disk
		s = openThenFail(t, d, syscall.EMFILE)
		mustPut(t, s, 1, "meanwhile", "v")
		time.Sleep(time.Minute)
		if _, _, ok := s.TreeOf(1); ok {
			t.Fatal("trusted though not all was read")
		}
		d.Heal()
		time.Sleep(2 * time.Second)
		wantTree(t, s, 1)
		if h := s.Health(); len(h.Losses) > 0 || s.Stats().Keys != 401 {
			t.Fatalf("%d keys, health %+v", s.Stats().Keys, h)
		}
	})
}

// A record that cannot be read is removed, and what it was in the tree nobody
// knows: the tree is built anew, while writes go on.
func TestTreeIsRebuiltAfterABadRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		for i := range 3000 {
			mustPut(t, s, 1, fmt.Sprintf("k%04d", i), "v")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		replaceQuietly(t, d, []byte("d/\x00\x01k0007"), []byte("not a record"))
		s = open(t, d.Open(), small())
		_, err := s.Get(1, []byte("k0007"))
		wantError(t, err, store.ErrCorrupt)
		if _, _, ok := s.TreeOf(1); ok {
			t.Fatal("a tree is trusted that has a record which cannot be read")
		}
		if _, _, ok := s.TreeOf(2); !ok {
			t.Fatal("the tree of another partition is not trusted")
		}
		for i := range 3000 {
			mustPut(t, s, 1, fmt.Sprintf("k%04d", (i*7)%4000), "w")
		}
		wantTree(t, s, 1)
		if s.CountsForRead(1) || s.Stats().Rotten != 1 || s.Stats().Reopenings != 0 {
			t.Fatalf("health %+v, stats %+v", s.Health(), s.Stats())
		}
		mustPut(t, s, 1, "k0007", "x")
		wantTree(t, s, 1)
		wantValues(t, get(t, s, 1, "k0007"), "x")
	})
}

// A partition that could not be read for a while has a tree again once it is
// repaired.
func TestTreeIsRebuiltByRepair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := tables(t, d, 400)
		ringOf(t, s, 4)
		d.FailRead(disk.Of(storage.TypeTable), disk.Forever, syscall.EIO)
		_, err := s.Get(1, []byte("k0001"))
		wantError(t, err, store.ErrCorrupt)
		d.Heal()
		time.Sleep(5 * time.Minute)
		if _, _, ok := s.TreeOf(1); ok || s.CountsForRead(1) || s.Stats().Reopenings > 0 {
			t.Fatalf("trusted %v, health %+v", ok, s.Health())
		}
		mustPut(t, s, 1, "k0001", "w")
		mustRepair(t, s, 1)
		wantTree(t, s, 1)
	})
}
