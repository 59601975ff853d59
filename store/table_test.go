package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/sim/disk"
)

// tableOf makes a database with tables, and returns one of them.
func tableOf(t testing.TB, d *disk.Disk, n int) (storage.FileDesc, []byte) {
	t.Helper()
	db, err := leveldb.Open(d.Open(), engineOptions(64<<10, 1<<20, openMode{}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := db.Put(fmt.Appendf(nil, "d/%05d", i), bytes.Repeat([]byte{byte(i)}, 50+i%100), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.CompactRange(util.Range{}), db.Close()); err != nil {
		t.Fatal(err)
	}
	fds := liveTables(t, d)
	if len(fds) < 2 {
		t.Fatalf("%d tables", len(fds))
	}
	return fds[len(fds)/2], d.Read(fds[len(fds)/2])
}

// liveTables are the tables that the database consists of; others may be left.
func liveTables(t testing.TB, d *disk.Disk) (fds []storage.FileDesc) {
	t.Helper()
	m, err := readManifest(d.Open())
	if err != nil || m.damaged {
		t.Fatalf("%v, damaged %v", err, m.damaged)
	}
	for _, n := range m.tableNumbers() {
		fds = append(fds, tableFile(n))
	}
	return fds
}

// Our reading of a table is goleveldb's: the same entries in the same order.
func TestTableIsReadAsGoleveldbWroteIt(t *testing.T) {
	d := disk.New(1)
	tableOf(t, d, 5000)
	seen := map[string]bool{}
	for _, fd := range liveTables(t, d) {
		b, last := d.Read(fd), ""
		index, rot, err := readTableIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil || rot {
			t.Fatalf("%v: %v, filter rotten %v", fd, err, rot)
		}
		for _, e := range index.blocks {
			block, err := readBlock(bytes.NewReader(b), e.blockPlace)
			if err != nil {
				t.Fatal(err)
			}
			err = eachEntry(block, func(key, value []byte) error {
				var n int
				k := string(userKey(key))
				if _, err := fmt.Sscanf(k, "d/%d", &n); err != nil || k <= last || seen[k] || !isValue(key) || len(value) != 50+n%100 {
					return fmt.Errorf("entry %q of %d bytes behind %q: %v", key, len(value), last, err)
				}
				last, seen[k] = k, true
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(seen) != 5000 {
		t.Fatalf("%d entries of 5000", len(seen))
	}
}

// Every flipped bit of a table is found, except where nothing is written.
func TestFault33_EveryFlippedBitOfATableIsFound(t *testing.T) {
	d := disk.New(1)
	fd, b := tableOf(t, d, 2000)
	live := liveTable{size: int64(len(b)), from: []byte("d/"), to: []byte("d/9")}
	r := rand.New(rand.NewPCG(1, 1))
	unused := 0
	for range 600 {
		off := r.IntN(len(b))
		if r.IntN(4) == 0 {
			off = len(b) - 1 - r.IntN(200) // the end is where the structure is
		}
		d.Flip(fd, off, 1<<r.IntN(8))
		found, err := examineTable(d.Open(), fd.Num, live, false)
		if err != nil {
			t.Fatal(err)
		}
		if found.bad == 0 && !found.filterRot {
			unused++
			if off < len(b)-tableFooter || off >= len(b)-len(tableMagic) {
				t.Fatalf("byte %d of %d is damaged, and not found", off, len(b))
			}
		}
		restore(t, d, fd, b)
	}
	if unused > 210 {
		t.Fatalf("%d of 600 flips were not found", unused)
	}
}

func restore(t testing.TB, d *disk.Disk, fd storage.FileDesc, b []byte) {
	t.Helper()
	now := d.Read(fd)
	for i := range b {
		if now[i] != b[i] {
			d.Flip(fd, i, now[i]^b[i])
		}
	}
}

// Without its damaged blocks a table of the same size has all its other entries,
// as goleveldb reads it.
func TestMendedTableHasAllThatIsWhole(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 2))
		d := disk.New(seed)
		fd, before := tableOf(t, d, 3000)
		m, err := readManifest(d.Open())
		if err != nil || m.damaged {
			t.Fatalf("%v, damaged %v", err, m.damaged)
		}
		for range 1 + r.IntN(4) {
			d.Flip(fd, r.IntN(len(before)), 1<<r.IntN(8))
		}
		if seed%5 == 0 {
			d.Truncate(fd, r.IntN(len(before)))
		}
		found, err := examineTable(d.Open(), fd.Num, m.tables[fd.Num], false)
		if err != nil {
			t.Fatal(err)
		}
		if err := found.replace(d.Open()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if d.Size(fd) != len(before) {
			t.Fatalf("seed %d: %d bytes, were %d", seed, d.Size(fd), len(before))
		}
		if again, err := examineTable(d.Open(), fd.Num, m.tables[fd.Num], false); err != nil || again.bad > 0 || again.filterRot {
			t.Fatalf("seed %d: mended: %+v, %v", seed, again, err)
		}
		mendedReads(t, d, found, 3000)
	}
}

// mendedReads finds every key of the database that is not in a damaged span, and
// compacts it all without an error.
func mendedReads(t *testing.T, d *disk.Disk, found damagedTable, n int) {
	t.Helper()
	db, err := leveldb.Open(d.Open(), engineOptions(64<<10, 1<<20, openMode{}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		there := map[string]bool{}
		it := db.NewIterator(nil, nil)
		for it.Next() {
			there[string(it.Key())] = true
		}
		it.Release()
		if err := it.Error(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			key := fmt.Appendf(nil, "d/%05d", i)
			_, err := db.Get(key, &opt.ReadOptions{DontFillCache: true})
			if (err == nil) != there[string(key)] || err != nil && !errors.Is(err, leveldb.ErrNotFound) {
				t.Fatalf("%s: %v, scanned %v", key, err, there[string(key)])
			}
			lost := false
			for _, k := range found.lost {
				lost = lost || bytes.Compare(key, k.from) >= 0 && bytes.Compare(key, k.to) <= 0
			}
			if err != nil && !lost {
				t.Fatalf("%s is gone and not said to be lost: %q", key, found.lost)
			}
		}
		if err := db.CompactRange(util.Range{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// What damaged spans touch is never too little.
func TestKeySpanTouchesAllBetweenItsEnds(t *testing.T) {
	at := func(p, key string) []byte { return []byte(p + key) }
	for _, c := range []struct {
		span        keySpan
		first, last int
		any         bool
		named       bool
	}{
		{keySpan{at("d/", "\x00\x03abc"), at("d/", "\x00\x05x")}, 3, 5, true, false},
		{keySpan{at("d/", "\x00\x03abc"), at("d/", "\x00\x03abd")}, 3, 3, true, false},
		{keySpan{nil, at("d/", "\x00\x02x")}, 0, 2, true, false},
		{keySpan{at("c/", "\x00\x01"), at("d/", "\x01")}, 0, 63, true, false}, // a short end
		{keySpan{at("d/", "\x00\x09z"), at("m/", ".batch")}, 9, 63, true, false},
		{keySpan{at("d/", "\x00\x09z"), at("m/", "ring")}, 9, 63, true, true},
		{keySpan{at("d/", "\x00\x09z"), nil}, 9, 63, true, true},
		{keySpan{at("h/", "x"), at("m/", ".keys")}, 0, 0, false, false},
		{keySpan{at("m/", "boot"), at("m/", "node")}, 0, 0, false, true},
		{keySpan{at("t/", "\x00\x01"), at("t/", "\x00\x09")}, 0, 0, false, false},
		{keySpan{at("d/", "\x00\x50x"), at("d/", "\x00\x60x")}, 0, 0, false, false}, // not in use
	} {
		first, last, any := c.span.partitions(64)
		if any != c.any || any && (int(first) != c.first || int(last) != c.last) || c.span.touchesNamed() != c.named {
			t.Errorf("%q: %d to %d, %v, metadata %v", c.span, first, last, any, c.span.touchesNamed())
		}
	}
}

// Whatever bytes come, no table makes the reading of it fail otherwise than by
// saying that it is damaged.
func FuzzReadTable(f *testing.F) {
	d := disk.New(1)
	_, b := tableOf(f, d, 1500)
	f.Add(b[len(b)-tableFooter:])
	f.Add(b)
	small := appendIndexBlock(nil, nil)
	f.Add(appendFooter(append(small, small...), blockPlace{0, 4}, blockPlace{9, 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, _, err := readTableIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, errRot) {
				t.Fatal(err)
			}
			return
		}
		for _, e := range index.blocks {
			block, err := readBlock(bytes.NewReader(b), e.blockPlace)
			if err == nil {
				err = eachEntry(block, func(_, _ []byte) error { return nil })
			}
			if err != nil && !errors.Is(err, errRot) {
				t.Fatal(err)
			}
		}
	})
}
