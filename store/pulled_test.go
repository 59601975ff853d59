package store_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// noteOf is a note of member by, from members of these first bytes.
func noteOf(by byte, since uint64, from ...byte) ring.Pulled {
	n := ring.Pulled{By: ring.NodeID{by}, Since: since}
	for _, id := range from {
		n.From = append(n.From, ring.NodeID{id})
	}
	return n
}

func wantNote(t testing.TB, s *store.Store, p ring.Partition, want ring.Pulled) {
	t.Helper()
	got := s.Pulled(p)
	if got.By != want.By || got.Since != want.Since || !slices.Equal(got.From, want.From) {
		t.Fatalf("note of partition %d is %v, want %v", p, got, want)
	}
}

func mustNote(t testing.TB, s *store.Store, p ring.Partition, n ring.Pulled) {
	t.Helper()
	if err := s.NotePulled(p, n); err != nil {
		t.Fatalf("note %v: %v", n, err)
	}
}

func TestNotesOfPullsAreDurableAndUniteTheirSources(t *testing.T) {
	for _, stop := range []int{0, 1, 2} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			if err := adopt(s, 5); err != nil {
				t.Fatal(err)
			}
			wantNote(t, s, 1, ring.Pulled{})
			mustNote(t, s, 1, noteOf(1, 5, 4, 3))
			mustNote(t, s, 1, noteOf(1, 5, 2, 3))
			mustNote(t, s, 2, noteOf(1, 5, 9))
			wantNote(t, s, 1, noteOf(1, 5, 2, 3, 4))
			stop3(d, s, stop)
			s = open(t, d.Open(), small())
			wantNote(t, s, 1, noteOf(1, 5, 2, 3, 4))
			wantNote(t, s, 2, noteOf(1, 5, 9))
			// Two at once meet in one batch.
			slow(d, time.Second)
			ended := make(chan error, 2)
			for _, from := range []byte{6, 7} {
				go func() { ended <- s.NotePulled(2, noteOf(1, 5, from)) }()
			}
			if err := errors.Join(<-ended, <-ended); err != nil {
				t.Fatal(err)
			}
			slow(d, 0)
			wantNote(t, s, 2, noteOf(1, 5, 6, 7, 9))
			mustNote(t, s, 2, noteOf(8, 5, 3))
			wantNote(t, s, 2, noteOf(8, 5, 3))
			if err := adopt(s, 6); err != nil {
				t.Fatal(err)
			}
			wantNote(t, s, 1, noteOf(1, 5, 2, 3, 4)) // whose epoch is over, which it says
			mustNote(t, s, 1, noteOf(1, 6, 2))
			wantNote(t, s, 1, noteOf(1, 6, 2))
		})
	}
}

// A note is on disk behind everything that was pulled, and shows when it is.
func TestNoteComesBehindWhatWasPulled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := disk.New(1)
		s := open(t, d.Open(), small())
		if err := adopt(s, 5); err != nil {
			t.Fatal(err)
		}
		get(t, s, 1, "k") // so that the merge does not wait for the disk
		slow(d, time.Second)
		changed := s.PulledChanged()
		merge := startMerge(s, 1, recordFrom(9, "k", "v"))
		ended := make(chan error, 1)
		go func() { ended <- s.NotePulled(1, noteOf(1, 5, 2)) }()
		synctest.Wait()
		wantNote(t, s, 1, ring.Pulled{})
		if err := <-ended; err != nil || !merge.isDone() || merge.err != nil {
			t.Fatalf("noted with %v; the merge before it is done: %v, %v", err, merge.isDone(), merge.err)
		}
		select {
		case <-changed:
		default:
			t.Fatal("nobody is told of a note")
		}
		wantNote(t, s, 1, noteOf(1, 5, 2))
	})
}

func TestNoteOfAnotherTimeIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := open(t, disk.New(1).Open(), small())
		if err := adopt(s, 5); err != nil {
			t.Fatal(err)
		}
		wantError(t, s.NotePulled(1, noteOf(1, 4, 2)), store.ErrFenced)
		if err := s.NotePulled(1, noteOf(1, 6, 2)); err == nil || errors.Is(err, store.ErrFenced) {
			t.Fatalf("under a record that is not here: %v", err)
		}
		for _, bad := range []ring.Pulled{{}, noteOf(0, 5, 2), noteOf(1, 5), noteOf(1, 0, 2)} {
			if s.NotePulled(1, bad) == nil {
				t.Fatalf("%v was taken", bad)
			}
		}
		if s.NotePulled(ring.SlotCount, noteOf(1, 5, 2)) == nil {
			t.Fatal("a partition beyond all was taken")
		}
		wantNote(t, s, 1, ring.Pulled{})
	})
}

// A loss voids the note of its partition, and what was pulled before it is not noted
// after it.
func TestLossVoidsTheNoteOfAPull(t *testing.T) {
	for name, lose := range map[string]func(s *store.Store) error{
		"of one": func(s *store.Store) error { return s.DeclareLossOf(1, "test") },
		"of all": func(s *store.Store) error { return s.DeclareLoss("test") },
	} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			if err := adopt(s, 5); err != nil {
				t.Fatal(err)
			}
			mustNote(t, s, 1, noteOf(1, 5, 2))
			mustNote(t, s, 2, noteOf(1, 5, 2))
			era, old := s.EraOf(1), s.EraOf(2)
			if err := lose(s); err != nil {
				t.Fatal(err)
			}
			other := noteOf(1, 5, 2)
			if name == "of all" {
				other = ring.Pulled{}
			}
			wantError(t, s.NotePulledIn(1, noteOf(1, 5, 3), era), store.ErrEra)
			if err := s.NotePulledIn(2, noteOf(1, 5, 2), old); (err != nil) != (name == "of all") {
				t.Fatalf("%s: of another partition: %v", name, err)
			}
			for range 2 {
				wantNote(t, s, 1, ring.Pulled{})
				wantNote(t, s, 2, other)
				d.PowerCut()
				_ = s.Close() // of a dead disk
				s = open(t, d.Open(), small())
			}
			// What was pulled after it counts, lossy or not.
			if err := s.NotePulledIn(1, noteOf(1, 5, 4), s.EraOf(1)); err != nil {
				t.Fatal(err)
			}
			wantNote(t, s, 1, noteOf(1, 5, 4))
		})
	}
}

// A damaged note is none, and no loss: what it says is pulled again.
func TestDamagedNoteIsNone(t *testing.T) {
	for _, value := range []string{"", "not a note", string(make([]byte, 52))} {
		bubble(t, func(t *testing.T) {
			d := disk.New(1)
			s := open(t, d.Open(), small())
			if err := adopt(s, 5); err != nil {
				t.Fatal(err)
			}
			mustNote(t, s, 1, noteOf(1, 5, 2))
			mustNote(t, s, 2, noteOf(1, 5, 2))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			replaceQuietly(t, d, []byte("m/.pulled/\x00\x01"), []byte(value))
			s = open(t, d.Open(), small())
			wantNote(t, s, 1, ring.Pulled{})
			wantNote(t, s, 2, noteOf(1, 5, 2))
			if h := s.Health(); len(h.Losses) > 0 {
				t.Fatalf("losses: %+v", h)
			}
		})
	}
}
