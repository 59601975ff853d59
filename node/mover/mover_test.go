package mover

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

func join(i int) func(*ring.Record) (*ring.Record, error) {
	return func(r *ring.Record) (*ring.Record, error) { return r.WithJoin(ring.Member{ID: nodeID(i)}) }
}

// Members come and go, are killed in between and started again, and everything that the
// record asks for is done; each record follows the one before it.
func TestEverythingThatIsAskedForIsDone(t *testing.T) {
	for seed := range uint64(8) {
		inWorld(t, seed, 4, 32, 3, func(w *world) {
			for i := 5; i <= 6; i++ {
				w.start(nodeID(i))
				w.wish(join(i))
			}
			for range 6 {
				time.Sleep(300 * time.Millisecond)
				m := w.members[nodeID(1+int(seed)%6)]
				m.kill()
				time.Sleep(200 * time.Millisecond)
				w.start(m.id)
			}
			w.until("two have joined", atRest)
			w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(nodeID(1)) })
			w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithRetreat(nodeID(6)) })
			r := w.until("one has left, and one is on standby", func(r *ring.Record) bool {
				return atRest(r) && r.Member(nodeID(1)) == nil && r.Member(nodeID(6)).State == ring.Standby
			})
			if !r.IsBanned(nodeID(1)) || r.HomeCount(nodeID(6)) != 0 {
				t.Errorf("seed %d: in the end there are %v", seed, r.Members)
			}
		})
	}
}

// A node pulls no more partitions at once than it is told to, and no more moves are
// under way than the pace allows.
func TestThePaceIsKept(t *testing.T) {
	inWorld(t, 1, 3, 64, 3, func(w *world) {
		w.slow = 300 * time.Millisecond
		m := w.start(nodeID(4))
		w.wish(join(4))
		w.until("it has joined", atRest)
		if m.most > 4 || m.most < 2 {
			t.Errorf("%d pulls at once, want 4", m.most)
		}
		for _, r := range w.records {
			in := 0
			for i := range r.Moves {
				if r.Moves[i].Phase != ring.PhasePlan {
					in++
				}
			}
			if in > 6 {
				t.Errorf("%d moves under way at epoch %d, want at most 6", in, r.Epoch)
			}
		}
	})
}

// Beside requests records are rarer, and change more; a moment without any does not hold
// moves up.
func TestRecordsAreFewerBesideRequests(t *testing.T) {
	for _, load := range []uint64{0, 1000} {
		inWorld(t, 12, 3, 64, 3, func(w *world) {
			w.load = load
			w.start(nodeID(4))
			time.Sleep(2 * time.Second) // it is noticed by then
			w.wish(join(4))
			w.until("it has joined", atRest)
			w.mu.Lock()
			defer w.mu.Unlock()
			close := 0
			for i := 1; i < len(w.times); i++ {
				if gap := w.times[i].Sub(w.times[i-1]); gap < recordEveryBeside-50*time.Millisecond {
					close++
				}
			}
			if load > 0 && close > len(w.times)/8 || load == 0 && close < len(w.times)/2 {
				t.Errorf("with %d requests a second %d of %d records came at once after another one", load, close, len(w.times))
			}
		})
	}
}

// Where the member that has a slot does not give it, as one that has lost something,
// others are asked who are enough together.
func TestWhoDoesNotGiveIsPassedOver(t *testing.T) {
	inWorld(t, 2, 4, 16, 3, func(w *world) {
		w.refuses = func(from ring.NodeID, _ ring.Partition) error {
			if from == nodeID(2) {
				return errors.New("it has lost something")
			}
			return nil
		}
		w.start(nodeID(5))
		w.wish(join(5))
		w.until("it has joined without the second one's help", atRest)
	})
}

// A member that is away for a moment is waited for; one that stays away is not: others
// are asked who are enough together.
func TestWhoIsAwayForAMomentIsWaitedFor(t *testing.T) {
	for _, away := range []time.Duration{5 * time.Second, time.Hour} {
		inWorld(t, 9, 4, 16, 3, func(w *world) {
			others := 0 // pulls from another one than who has the slot
			w.refuses = func(from ring.NodeID, p ring.Partition) error {
				if m := w.tip.MoveOf(p); m != nil && m.From != from {
					others++
				}
				return nil
			}
			w.members[nodeID(2)].kill()
			w.start(nodeID(5))
			w.wish(join(5))
			time.Sleep(away)
			w.start(nodeID(2))
			w.until("it has joined", atRest)
			if (others > 0) != (away == time.Hour) {
				t.Errorf("with a member away for %v there were %d pulls from others", away, others)
			}
		})
	}
}

// What nobody gives is tried again, with pauses that grow, and said.
func TestWhatIsNotGivenIsTriedAgain(t *testing.T) {
	inWorld(t, 3, 3, 4, 3, func(w *world) {
		tries, heal := 0, false
		w.refuses = func(ring.NodeID, ring.Partition) error {
			if heal {
				return nil
			}
			tries++
			return errors.New("the disk is away")
		}
		m := w.start(nodeID(4))
		w.wish(join(4))
		time.Sleep(time.Minute)
		var said []string
		for _, s := range m.mover.Status().Moves {
			if s.Phase == "dual" {
				said = append(said, s.Waits)
			}
		}
		if len(said) == 0 || !slices.Contains(said, "the disk is away") {
			t.Errorf("status says %q of moves that do not go on", said)
		}
		w.mu.Lock()
		if partitions := len(said); tries > 25*partitions || tries < 5*partitions {
			t.Errorf("%d tries of %d pulls in a minute", tries, partitions)
		}
		heal = true
		w.mu.Unlock()
		w.until("it has joined", atRest)
	})
}

// The first active member that is there takes out who is lost; where it goes away, the
// next one does.
func TestTheDutiesPassToTheNextOne(t *testing.T) {
	inWorld(t, 4, 5, 16, 3, func(w *world) {
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithStandby(ring.Member{ID: nodeID(6)}) })
		w.members[nodeID(1)].kill()
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithRemoval(nodeID(6)) })
		w.until("the lost one is no member", func(r *ring.Record) bool { return r.Member(nodeID(6)) == nil })
	})
}

// Slots of a member that was given up for somebody to take its place stay where they
// are; once it is removed they go to the others.
func TestALostMembersSlotsWaitForItsHeir(t *testing.T) {
	inWorld(t, 5, 5, 16, 3, func(w *world) {
		w.members[nodeID(5)].kill()
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithLost(nodeID(5)) })
		before := w.newest()
		time.Sleep(10 * time.Minute)
		if r := w.newest(); r != before {
			t.Fatalf("the record has changed: %v", r.Changes(before))
		}
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithRemoval(nodeID(5)) })
		w.until("its slots are with the others", func(r *ring.Record) bool { return r.Member(nodeID(5)) == nil && atRest(r) })
	})
}

// That a member is removed stands in the record: whoever has forgotten all that it saw
// goes on, also where a partition's move stood in the way when it was removed.
func TestARemovalOutlivesAllMovers(t *testing.T) {
	inWorld(t, 10, 5, 1, 3, func(w *world) {
		r := w.newest()
		homes := r.Homes(0)
		lost, other := homes[2], ring.NodeID{}
		for i := range r.Members {
			if id := r.Members[i].ID; !slices.Contains(homes, id) {
				other = id
			}
		}
		for _, m := range w.members {
			m.kill()
		}
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithMoves([]ring.Move{{Slot: 0, To: other}}) })
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithSteps([]ring.StepTo{{Step: ring.StepDual}}) })
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithRemoval(lost) })
		if m := w.newest().MoveOf(0); m == nil || m.From == lost {
			t.Fatalf("the move is %v", m)
		}
		for i := range r.Members {
			if id := r.Members[i].ID; id != lost {
				w.start(id)
			}
		}
		w.until("its slot is with another one", func(r *ring.Record) bool { return r.Member(lost) == nil && atRest(r) })
	})
}

// While somebody may take the place of a lost member, its slots stay where they are, and
// what is asked of others is done.
func TestWhoWaitsForAnHeirHoldsUpNobodyElse(t *testing.T) {
	inWorld(t, 11, 6, 32, 3, func(w *world) {
		w.members[nodeID(5)].kill()
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithLost(nodeID(5)) })
		had := w.newest().HomeCount(nodeID(5))
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(nodeID(1)) })
		w.start(nodeID(7))
		w.wish(join(7))
		r := w.until("one has left", func(r *ring.Record) bool { return r.Member(nodeID(1)) == nil && atRest(r) })
		if got := r.HomeCount(nodeID(5)); got != had || r.Member(nodeID(5)).State != ring.Lost {
			t.Errorf("the lost one had %d slots and has %d", had, got)
		}
		w.wish(func(r *ring.Record) (*ring.Record, error) {
			return r.WithReplacement(nodeID(5), ring.Member{ID: nodeID(8)})
		})
		w.start(nodeID(8))
		w.until("everybody has its share", func(r *ring.Record) bool {
			return atRest(r) && r.HomeCount(nodeID(7)) >= 16 && r.HomeCount(nodeID(8)) >= 16
		})
	})
}

// Who leaves goes only when nobody needs anything of it any more, and says so.
func TestWhoLeavesStaysWhileItOwes(t *testing.T) {
	inWorld(t, 6, 4, 8, 3, func(w *world) {
		m := w.members[nodeID(4)]
		w.mu.Lock()
		m.owes = "it keeps 3 records for others"
		w.mu.Unlock()
		w.wish(func(r *ring.Record) (*ring.Record, error) { return r.WithLeave(nodeID(4)) })
		w.until("it has nothing", func(r *ring.Record) bool { return r.HomeCount(nodeID(4)) == 0 && len(r.Moves) == 0 })
		time.Sleep(time.Minute)
		if w.newest().Member(nodeID(4)) == nil {
			t.Fatal("it has left")
		}
		if got := m.mover.Owes(); got != "it keeps 3 records for others" {
			t.Errorf("it says %q", got)
		}
		w.mu.Lock()
		m.owes = ""
		w.mu.Unlock()
		w.until("it has left", func(r *ring.Record) bool { return r.Member(nodeID(4)) == nil })
	})
}

// Nothing is proposed while there is nothing to do, and little while nothing can be
// decided.
func TestIdleMoversAreQuiet(t *testing.T) {
	inWorld(t, 7, 5, 64, 3, func(w *world) {
		time.Sleep(time.Minute)
		w.mu.Lock()
		before := w.offers
		w.mu.Unlock()
		time.Sleep(time.Hour)
		w.mu.Lock()
		if w.offers != before {
			t.Errorf("%d proposals in an idle hour", w.offers-before)
		}
		w.denies = errors.New("too few keepers answer")
		w.mu.Unlock()
		w.start(nodeID(6))
		w.mu.Lock()
		r, err := w.tip.WithJoin(ring.Member{ID: nodeID(6)})
		if err != nil {
			t.Error(err)
		}
		w.tip, before = r, w.offers
		for _, m := range w.members {
			m.adopt(r)
		}
		w.mu.Unlock()
		time.Sleep(time.Hour)
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := w.offers - before; n > 3*3600/4 || n < 3600/16 {
			t.Errorf("%d proposals in an hour in which none was decided", n)
		}
	})
}

// Who looks at the moves sees how many are left, who waits for what, and how fast it
// goes.
func TestStatusTellsOfTheMoves(t *testing.T) {
	inWorld(t, 8, 3, 64, 3, func(w *world) {
		w.slow = time.Second
		m := w.start(nodeID(4))
		w.wish(join(4))
		time.Sleep(20 * time.Second)
		s := m.mover.Status()
		if s.Running == 0 || s.Queued == 0 || s.Done == 0 || s.Running+s.Queued != len(s.Moves) || s.Seconds <= 0 {
			t.Errorf("%d running, %d queued, %d done, %d moves, %.0f seconds to go", s.Running, s.Queued, s.Done, len(s.Moves), s.Seconds)
		}
		m.kill()
		waits := map[string]int{}
		for _, move := range w.members[nodeID(1)].mover.Status().Moves {
			waits[move.Waits]++
		}
		if waits["4, which drives it, cannot be reached"]+waits[nodeID(4).Short()+", which drives it, cannot be reached"] == 0 ||
			waits["its target "+nodeID(4).Short()+" cannot be reached"] == 0 {
			t.Errorf("with the target away, moves wait for: %v", waits)
		}
		w.start(nodeID(4))
		w.until("it has joined", atRest)
	})
}
