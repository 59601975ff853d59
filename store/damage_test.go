package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// TestFault33_34_35_DamageIsNeverSilent damages synced bytes of any file in any
// way, after a close, a kill or a power cut. What was acknowledged then reads
// back, or the store says that it cannot vouch for it.
func TestFault33_34_35_DamageIsNeverSilent(t *testing.T) {
	quiet, loud, refused := 0, 0, 0
	seeds := seedsFrom(runs(120, 20000))
	// A journal emptied while a later one holds batches; a manifest cut
	// between two records.
	seeds = append(seeds, 915, 5067)
	for _, seed := range seeds {
		bubble(t, func(t *testing.T) {
			h := &history{r: rand.New(rand.NewPCG(seed, 2)), valMx: 3000, parts: 3}
			d := disk.New(seed)
			for range 1 + h.r.IntN(3) {
				s := mustOpen(t, d.Open(), crashOptions())
				h.load(s, 1+h.r.IntN(150))
				h.settle()
				stop(d, s, h.r)
			}
			what := damage(d, h.r)
			s, err := store.Open(d.Open(), crashOptions())
			if err != nil {
				refused++
				t.Logf("seed %d: %s: open: %v", seed, what, err)
				return
			}
			defer s.Close()
			silent, n := h.missing(s)
			if len(silent) > 0 {
				t.Fatalf("seed %d: %s: silently lost %q\n%v", seed, what, silent, d)
			}
			if n > 0 || len(s.Health().Losses) > 0 {
				loud++
			} else {
				quiet++
			}
		})
	}
	t.Logf("%d without effect, %d named, %d did not open", quiet, loud, refused)
	if loud == 0 || quiet == 0 || refused > loud/20 {
		t.Errorf("%d without effect, %d named, %d did not open: the test does not bite", quiet, loud, refused)
	}
}

// stop ends a store's process in one of three ways.
func stop(d *disk.Disk, s *store.Store, r *rand.Rand) {
	switch r.IntN(3) {
	case 0:
		_ = s.Close()
		return
	case 1:
		d.Kill()
	case 2:
		// Marks are synced about once a second.
		time.Sleep(3 * time.Second)
		d.PowerCut()
	}
	_ = s.Close()
}

// damage does something to one file, or to all of a kind.
func damage(d *disk.Disk, r *rand.Rand) string {
	var files []storage.FileDesc
	for _, fd := range d.Files(storage.TypeJournal | storage.TypeManifest | storage.TypeTable) {
		if d.Size(fd) > 0 {
			files = append(files, fd)
		}
	}
	fd := files[r.IntN(len(files))]
	size := d.Size(fd)
	off := r.IntN(size)
	switch r.IntN(8) {
	case 0, 1, 2:
		d.Flip(fd, off, 1<<r.IntN(8))
		return fmt.Sprintf("flip %v at %d of %d", fd, off, size)
	case 3:
		d.Truncate(fd, off)
		return fmt.Sprintf("truncate %v to %d of %d", fd, off, size)
	case 4:
		n := min(size-off, 1+r.IntN(4096))
		d.Zero(fd, off, n)
		return fmt.Sprintf("zero %d of %v at %d of %d", n, fd, off, size)
	case 5:
		d.Delete(fd)
		return fmt.Sprintf("delete %v", fd)
	case 6:
		d.Truncate(fd, 0)
		return fmt.Sprintf("empty %v", fd)
	}
	d.DeleteMeta()
	return "delete CURRENT"
}
