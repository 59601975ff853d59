package store_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// A crash may leave the manifest's last record unfinished. The files of the
// state before it are still there: nothing is lost, and nobody is alarmed.
func TestTornManifestIsNoLoss(t *testing.T) {
	for seed := range uint64(runs(30, 1000)) {
		bubble(t, func(t *testing.T) {
			d := disk.New(seed)
			s := open(t, d.Open(), small())
			d.FailWrite(disk.Of(storage.TypeManifest), disk.Forever, syscall.EIO)
			var all []*outcome
			for i := range 300 {
				o := start(s, blind(1, fmt.Sprintf("k%d", i), strings.Repeat("x", 1000)))
				if all = append(all, o); o.wait() != nil {
					break
				}
			}
			d.Kill()
			s.Close()
			d.Heal()
			s = open(t, d.Open(), small())
			if h := s.Health(); len(h.Losses) > 0 {
				t.Fatalf("seed %d: %+v", seed, h)
			}
			for i, o := range all {
				if r := get(t, s, 1, fmt.Sprintf("k%d", i)); o.err == nil && !r.Seen.Covers(o.dot) {
					t.Fatalf("seed %d: lost k%d", seed, i)
				}
			}
		})
	}
}

// A crash at any step of the very first start leaves a store that starts.
func TestFirstStartMayCrashAnywhere(t *testing.T) {
	for name, fail := range map[string]func(d *disk.Disk){
		"marks":         func(d *disk.Disk) { d.FailWrite(disk.Of(storage.TypeTemp), disk.Forever, syscall.EIO) },
		"manifest":      func(d *disk.Disk) { d.FailWrite(disk.Of(storage.TypeManifest), disk.Forever, syscall.EIO) },
		"manifest sync": func(d *disk.Disk) { d.FailSync(disk.Of(storage.TypeManifest), disk.Forever, false, syscall.EIO) },
		"current":       func(d *disk.Disk) { d.FailMeta(disk.Forever, syscall.EIO) },
		"journal":       func(d *disk.Disk) { d.FailCreate(disk.Of(storage.TypeJournal), disk.Forever, syscall.EIO) },
		"first batch":   func(d *disk.Disk) { d.FailWrite(disk.Of(storage.TypeJournal), disk.Forever, syscall.EIO) },
		"first sync":    func(d *disk.Disk) { d.FailSync(disk.Of(storage.TypeJournal), disk.Forever, true, syscall.EIO) },
		"no removal": func(d *disk.Disk) {
			d.FailMeta(disk.Forever, syscall.EIO)
			d.FailRemove(disk.Every, disk.Forever, syscall.EIO)
		},
	} {
		for _, cut := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				d := disk.New(1)
				fail(d)
				if s, err := store.Open(d.Open(), small()); err == nil {
					s.Close()
					t.Fatalf("%s: opened", name)
				}
				if cut {
					d.PowerCut()
				} else {
					d.Kill()
				}
				d.Heal()
				s := open(t, d.Open(), small())
				if h := s.Health(); len(h.Losses) > 0 {
					t.Fatalf("%s, cut %v: %+v", name, cut, h)
				}
				mustPut(t, s, 1, "k", "v")
			})
		}
	}
}

func TestFailedOpenLeavesTheDataAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		mustPut(t, s, 1, "k", "v")
		d.PowerCut()
		s.Close()
		for name, fail := range map[string]func(){
			"full":  func() { d.SetCapacity(1) },
			"sync":  func() { d.FailSync(disk.Every, disk.Forever, false, syscall.EIO) },
			"read":  func() { d.FailRead(disk.Every, disk.Forever, syscall.EIO) },
			"meta":  func() { d.FailMeta(disk.Forever, syscall.EIO) },
			"erofs": func() { d.ReadOnly(true) },
		} {
			fail()
			if s, err := store.Open(d.Open(), small()); err == nil {
				s.Close()
				t.Fatalf("%s: opened", name)
			}
			d.Heal()
			d.ReadOnly(false)
		}
		s = open(t, d.Open(), small())
		wantValues(t, get(t, s, 1, "k"), "v")
		if h := s.Health(); len(h.Losses) > 0 {
			t.Fatalf("%+v", h)
		}
	})
}

// The marks show what is gone from the end of a journal, where goleveldb sees
// an ordinary end.
func TestFault34_JournalCutAtABatchBoundaryIsNoticed(t *testing.T) {
	for _, end := range []string{"close", "kill", "power cut"} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			mustPut(t, s, 1, "a", "1")
			journal, _ := d.Newest(storage.TypeJournal)
			size := d.Size(journal)
			mustPut(t, s, 1, "a", "2")
			switch end {
			case "kill":
				d.Kill()
			case "power cut":
				time.Sleep(3 * time.Second)
				d.PowerCut()
			}
			s.Close()
			d.Truncate(journal, size)
			s = open(t, d.Open(), small())
			if h := s.Health(); !h.LossyAll || s.CountsForRead(1) || len(s.ClockOf(1).Actors) > 1 {
				t.Fatalf("%s: %+v", end, h)
			}
			// It takes writes, says so for ever, and is not alarmed again.
			mustPut(t, s, 1, "a", "3")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			n := len(s.Health().Losses)
			s = open(t, d.Open(), small())
			if h := s.Health(); !h.LossyAll || len(h.Losses) != n {
				t.Fatalf("%s: %+v", end, h)
			}
			wantValues(t, get(t, s, 1, "a"), "3")
		})
	}
}

// Marks that were not synced are gone after a power cut. But a batch is written
// only when the one before it was synced: what stands behind damage shows that
// it is no torn end.
func TestFault33_DamageBeforeTheLastBatchIsNoTornEnd(t *testing.T) {
	for _, put := range []int{0, 1, 2, 3} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			d.SetTear(disk.TearAll)
			s := open(t, d.Open(), small())
			journal, _ := d.Newest(storage.TypeJournal)
			var ends []int
			for i := range 4 {
				ends = append(ends, d.Size(journal))
				mustPut(t, s, 1, fmt.Sprint(i), strings.Repeat("x", 100))
			}
			d.PowerCut()
			s.Close()
			d.Flip(journal, ends[put]+50, 1)
			s = open(t, d.Open(), small())
			// The last one may be a torn end. (It was not: only a mark
			// that outlived the power cut could have told.)
			if h := s.Health(); h.LossyAll != (put < 3) {
				t.Fatalf("put %d: %+v", put, h)
			}
		})
	}
}

// A damaged manifest is made anew from the tables and journals: it is loud, and
// costs no record.
func TestFault33_DamagedManifestCostsNoRecord(t *testing.T) {
	for seed := range uint64(runs(20, 1000)) {
		bubble(t, func(t *testing.T) {
			d := disk.New(seed)
			r := rand.New(rand.NewPCG(seed, 6))
			s := open(t, d.Open(), small())
			for i := range 400 {
				mustPut(t, s, 1, fmt.Sprintf("k%d", i), strings.Repeat("x", 1000))
			}
			stop(d, s, r)
			fd, _ := d.Newest(storage.TypeManifest)
			d.Flip(fd, r.IntN(d.Size(fd)), 1)
			s = open(t, d.Open(), small())
			for i := range 400 {
				wantValues(t, get(t, s, 1, fmt.Sprintf("k%d", i)), strings.Repeat("x", 1000))
			}
		})
	}
}

// Without any mark nothing can be vouched for.
func TestMissingMarksAreALoss(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	mustPut(t, s, 1, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range d.Files(storage.TypeTemp) {
		d.Delete(fd)
	}
	s = open(t, d.Open(), small())
	if h := s.Health(); !h.LossyAll {
		t.Fatalf("%+v", h)
	}
}

// One slot of marks is enough.
func TestOneDamagedMarkFileIsNoLoss(t *testing.T) {
	for i := range 2 {
		d := disk.New(1)
		for range 3 {
			s := open(t, d.Open(), small())
			mustPut(t, s, 1, "a", "1")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		d.Truncate(d.Files(storage.TypeTemp)[i], 0)
		s := open(t, d.Open(), small())
		if h := s.Health(); len(h.Losses) > 0 {
			t.Fatalf("%+v", h)
		}
		wantValues(t, get(t, s, 1, "a"), "1")
	}
}

func TestMarksRotate(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	slots := func() (sizes int) {
		for _, fd := range d.Files(storage.TypeTemp) {
			sizes += d.Size(fd)
		}
		return sizes
	}
	most := 0
	for i := range rounds(24_000, 100_000) {
		mustPut(t, s, 1, fmt.Sprint(i%7), "v")
		if i%1000 == 0 {
			most = max(most, slots())
		}
	}
	if most > 512<<10+100 || most < 300<<10 || len(d.Files(storage.TypeTemp)) > 2 {
		t.Fatalf("%d bytes of marks in %d files", most, len(d.Files(storage.TypeTemp)))
	}
	d.Kill()
	s.Close()
	s = open(t, d.Open(), small())
	if h := s.Health(); len(h.Losses) > 0 {
		t.Fatalf("%+v", h)
	}
}

// After any crash the clock claims what the disk holds, and soon all of it.
func TestClockIsRebuiltAfterACrash(t *testing.T) {
	d := disk.New(1)
	s := open(t, d.Open(), small())
	var dots []version.Dot
	for i := range 500 {
		dots = append(dots, mustPut(t, s, 1, fmt.Sprintf("k%d", i), "v").dot)
	}
	d.PowerCut()
	s.Close()
	s = open(t, d.Open(), small())
	eventually(t, "clock rebuilt", func() bool {
		c := s.ClockOf(1)
		for _, dot := range dots {
			if !c.Has(dot) {
				return false
			}
		}
		return true
	})
	eventually(t, "keys counted", func() bool { return s.Stats().Keys == 500 })
	c := s.ClockOf(1)
	if len(c.Actors) != 1 || c.Actors[0].Base != 500 || c.Has(version.Dot{Actor: dots[0].Actor, Seq: 501}) {
		t.Fatalf("clock %+v", c)
	}
}
