package topology

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

// newcomer is a directory that takes the place of a member.
func (w *world) newcomer(old ring.NodeID) *node {
	return w.node(Config{Replace: old.Short()})
}

// standsIn waits until all hold a record in which m has the place of old.
func (w *world) standsIn(m, old *node, nodes ...*node) *ring.Record {
	w.t.Helper()
	w.until("the newcomer has the place of the lost one", func() bool {
		for _, n := range nodes {
			if r := n.Current(); r == nil || r.Member(old.id) != nil || r.HomeCount(m.id) == 0 || r.Digest() != nodes[0].Current().Digest() {
				return false
			}
		}
		return true
	})
	return nodes[0].Current()
}

func TestANewcomerTakesThePlaceOfALostMember(t *testing.T) {
	for seed := range uint64(runs(6)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			w.storm(seed%2 == 1)
			old := nodes[seed%5]
			before := old.Current()
			old.kill()
			m := w.newcomer(old.id)
			m.start()
			left := append(slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == old }), m)
			r := w.standsIn(m, old, left...)
			if !r.IsBanned(old.id) || r.HomeCount(m.id) != before.HomeCount(old.id) || r.IsKeeper(m.id) != before.IsKeeper(old.id) || m.Replacing() != "" {
				t.Fatalf("seed %d: banned %v, %d homes of %d, waiting for %q", seed, r.IsBanned(old.id), r.HomeCount(m.id), before.HomeCount(old.id), m.Replacing())
			}
			for p := range ring.Partition(r.Partitions) {
				want := slices.Clone(before.Homes(p))
				if s := slices.Index(want, old.id); s >= 0 {
					want[s] = m.id
				}
				if !slices.Equal(r.Homes(p), want) {
					t.Fatalf("seed %d, partition %d: %v became %v", seed, p, before.Homes(p), r.Homes(p))
				}
			}
			if err := nodes[(seed+1)%5].add(1); err != nil {
				t.Fatalf("seed %d: the ring does not change any more: %v", seed, err)
			}
		})
	}
}

// The same command again, after it is done, does nothing.
func TestAReplacementThatIsDoneIsDone(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		nodes[2].kill()
		m := w.newcomer(nodes[2].id)
		m.start()
		epoch := w.standsIn(m, nodes[2], nodes[0], nodes[1], m).Epoch
		m.kill()
		m.start()
		time.Sleep(time.Minute)
		if got := m.Current().Epoch; got != epoch || m.life.isDead() {
			t.Fatalf("epoch %d became %d", epoch, got)
		}
	})
}

func (w *world) ends(n *node, want error, words ...string) {
	w.t.Helper()
	select {
	case <-n.life.done:
	case <-time.After(5 * time.Minute):
		w.t.Fatalf("it goes on, waiting for %q", n.Replacing())
	}
	if err := n.life.err; !errors.Is(err, want) {
		w.t.Fatalf("it ended with %v, want %v", err, want)
	}
	for _, word := range words {
		if !strings.Contains(n.life.err.Error(), word) {
			w.t.Errorf("%q does not say %q", n.life.err, word)
		}
	}
}

func TestAMemberThatLivesIsNotReplaced(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		m := w.newcomer(nodes[2].id)
		m.start()
		w.ends(m, ErrReplace, "alive", nodes[2].id.String(), "n3:1")
		if r := w.agree(2, nodes...); r.Epoch != 2 {
			t.Fatalf("epoch %d: the ring has changed", r.Epoch)
		}
	})
}

func TestNobodyIsReplacedWhileAnotherMemberReachesIt(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		m, old := w.newcomer(nodes[4].id), nodes[4]
		w.mu.Lock()
		for _, n := range append(slices.Clone(nodes[:3]), m) {
			w.cuts[pair(n.id, old.id)] = true // only n4 still reaches it
		}
		w.mu.Unlock()
		m.start()
		w.until("it says who reaches it", func() bool { return strings.Contains(m.Replacing(), "n4:1") })
		time.Sleep(time.Minute)
		if r := nodes[0].Current(); r.Epoch != 2 {
			t.Fatalf("epoch %d: the ring has changed", r.Epoch)
		}
		old.kill()
		w.standsIn(m, old, nodes[0], nodes[1], nodes[2], nodes[3], m)
	})
}

func TestAReplacementNamesWhatItCannotReplace(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		idle := w.bystander(nodes)
		idle.kill()
		for name, want := range map[string]string{
			"1234":                      "at least the first 8 digits",
			strings.Repeat("5", 32):     "no such member",
			idle.id.String():            "home of nothing",
			nodes[1].id.String() + "00": "no such member",
		} {
			m := w.node(Config{Replace: name})
			m.start()
			w.ends(m, ErrReplace, want, strings.ToLower(name))
		}
		self := w.node(Config{})
		self.cfg.Replace = self.id.String()
		self.start()
		w.ends(self, ErrReplace)
	})
}

// A member that was cut off tells the newcomer an old record, in which the lost member
// is not yet one: that is no reason to give up.
func TestAReplacementIsNotRefusedByAnOldRecord(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		idle := w.bystander(nodes) // home of nothing: no change has to wait for it
		nodes[2].kill()
		first := w.newcomer(nodes[2].id)
		w.cut(idle)
		first.start()
		w.standsIn(first, nodes[2], nodes[0], nodes[1], first)
		first.kill()
		second := w.newcomer(first.id)
		w.cut(idle, second)
		second.start()
		w.until("it says what it waits for", func() bool { return strings.Contains(second.Replacing(), "no such member") })
		time.Sleep(time.Minute)
		if second.life.isDead() || second.Current().Epoch != 3 {
			t.Fatalf("it has ended by epoch %d: %v", second.Current().Epoch, second.life.err)
		}
		w.heal()
		w.standsIn(second, first, nodes[0], nodes[1], idle, second)
	})
}

// Of two newcomers one gets the place, and the other learns that it is taken.
func TestAPlaceIsTakenOnce(t *testing.T) {
	for seed := range uint64(runs(6)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(4, 3)
			nodes[3].kill()
			a, b := w.newcomer(nodes[3].id), w.newcomer(nodes[3].id)
			a.start()
			time.Sleep(time.Duration(w.dice.IntN(100)) * time.Millisecond)
			b.start()
			var loser *node
			select {
			case <-a.life.done:
				loser = a
			case <-b.life.done:
				loser = b
			case <-time.After(5 * time.Minute):
				t.Fatalf("seed %d: both go on", seed)
			}
			w.ends(loser, ErrReplace, "replaced or removed already")
			winner := a
			if loser == a {
				winner = b
			}
			w.standsIn(winner, nodes[3], nodes[0], nodes[1], nodes[2], winner)
		})
	}
}

// second starts one that is to take a lost member's place when another one has taken it
// already, and the ring knows this one in its own way. It must go on: it is given back
// once it has for a minute.
func (w *world) second(known func(r *ring.Record, m ring.Member) (*ring.Record, error)) *node {
	w.t.Helper()
	nodes := w.founded(4, 3)
	nodes[3].kill()
	first, second := w.newcomer(nodes[3].id), w.newcomer(nodes[3].id)
	first.start()
	w.standsIn(first, nodes[3], nodes[0], nodes[1], nodes[2], first)
	if _, err := nodes[0].Propose(w.t.Context(), func(r *ring.Record) (*ring.Record, error) {
		return known(r, ring.Member{ID: second.id, Name: "second", Weight: 1})
	}); err != nil {
		w.t.Fatal(err)
	}
	second.start()
	w.until("it knows the ring", func() bool { r := second.Current(); return r != nil && r.Member(second.id) != nil })
	select {
	case <-second.life.done:
		w.t.Fatalf("it has ended: %v", second.life.err)
	case <-time.After(time.Minute):
	}
	return second
}

// Who is a member of its own has no place to take any more: an operator may have had it
// join, or it has had the place, has given its slots away since, and is started again
// with the same words. It goes on as a member.
func TestAMemberOfItsOwnTakesNoPlace(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		second := w.second((*ring.Record).WithJoin)
		if n := second.Current().HomeCount(second.id); n > 0 {
			t.Errorf("it has %d slots that nobody moved", n)
		}
	})
}

// One that has taken a place and given it away again, and is on standby, goes on as that
// when it is started again with the same words.
func TestWhoHasGivenItsPlaceAwayStaysOnStandby(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		second := w.second((*ring.Record).WithStandby)
		if m := second.Current().Member(second.id); m == nil || m.State != ring.Standby {
			t.Errorf("it is %+v", m)
		}
	})
}

// What was given up and is only late: it stops, and says why, whether it was
// running or is started again.
func TestAReplacedMemberThatComesBackStops(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		old := nodes[4]
		m := w.newcomer(old.id)
		w.cut(old)
		m.start()
		w.mu.Lock()
		w.cuts[pair(m.id, old.id)] = true
		w.mu.Unlock()
		w.standsIn(m, old, nodes[0], nodes[1], nodes[2], nodes[3], m)
		if old.Current().Epoch != 2 {
			t.Fatal("it was not cut off")
		}
		w.heal()
		w.ends(old, ring.ErrBanned, "another node has taken its place", "empty directory", "new ID")
		old.kill()
		if err := old.open(); !errors.Is(err, ring.ErrBanned) || !strings.Contains(err.Error(), old.id.String()) {
			t.Errorf("it starts again: %v", err)
		}
	})
}

func TestAMemberThatWasGivenUpStopsBeforeAnybodyHasItsPlace(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		old, away := nodes[4], nodes[3]
		m := w.newcomer(old.id)
		w.cut(old)
		away.kill() // so that the newcomer must wait
		w.mu.Lock()
		w.cuts[pair(m.id, old.id)] = true
		w.mu.Unlock()
		m.start()
		w.until("it is given up", func() bool {
			is := nodes[0].Current().Member(old.id)
			return is != nil && is.State == ring.Lost
		})
		w.heal()
		w.ends(old, ring.ErrBanned, "given up as lost")
	})
}

// Whoever was given up does not vote, even before it has stopped.
func TestALostKeeperDoesNotVote(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		r := w.founded(3, 3)[0].Current()
		for _, id := range r.Keepers {
			if got := judge(id, r, r.Epoch+1); got != votes {
				t.Errorf("keeper %s: %v", id, got)
			}
			lost, err := r.WithLost(id)
			if err != nil {
				t.Fatal(err)
			}
			if got := judge(id, lost, lost.Epoch+1); got != refuses {
				t.Errorf("lost keeper %s: %v", id, got)
			}
		}
	})
}

// fenced checks, whenever somebody adopts a replacement, that of every partition
// enough other homes have stored that the member is lost: with what they refuse, no
// quorum is left that a write of the newcomer does not meet.
func (w *world) fenced(old *node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := old.Current()
	w.onAdopt = func(_ *disk, r *ring.Record) {
		if r.Member(old.id) != nil {
			return
		}
		for p := range ring.Partition(before.Partitions) {
			homes := before.Homes(p)
			if !slices.Contains(homes, old.id) {
				continue
			}
			have := 0
			for _, n := range w.nodes {
				if n == old || !slices.Contains(homes, n.id) {
					continue
				}
				n.disk.mu.Lock()
				held, err := ring.Decode(n.disk.meta["ring"])
				n.disk.mu.Unlock()
				if err == nil && (held.Member(old.id) == nil || held.Member(old.id).State == ring.Lost) {
					have++
				}
			}
			if need := before.Replicas - before.Replicas/2; have < need {
				w.t.Errorf("seed %d, partition %d: replaced when %d of %d other homes knew that it is lost", w.seed, p, have, need)
			}
		}
	}
}

func TestThePlaceIsTakenOnlyWhenNoQuorumIsLeftThatHasNotHeard(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		old, away := nodes[4], nodes[3]
		w.fenced(old)
		m := w.newcomer(old.id)
		w.cut(old, away) // alive, and with a quorum of some partitions
		w.mu.Lock()
		w.cuts[pair(m.id, old.id)], w.cuts[pair(m.id, away.id)] = true, true
		w.mu.Unlock()
		m.start()
		w.until("it says whom it waits for", func() bool { return strings.Contains(m.Replacing(), "n4:1") })
		time.Sleep(time.Minute)
		if r := nodes[0].Current(); r.Member(old.id) == nil || r.Member(old.id).State != ring.Lost {
			t.Fatalf("the lost member is %+v", r.Member(old.id))
		}
		old.kill()
		w.heal()
		w.standsIn(m, old, nodes[0], nodes[1], nodes[2], away, m)
	})
}

// Two disks are lost at once, of the same partitions, too: both places are taken.
func TestTwoLostMembersAreReplaced(t *testing.T) {
	for seed := range uint64(runs(6)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			a, b := nodes[seed%5], nodes[(seed+2)%5]
			shared := 0
			for p := range ring.Partition(16) {
				if r := a.Current(); r.HomeIndex(p, a.id) >= 0 && r.HomeIndex(p, b.id) >= 0 {
					shared++
				}
			}
			if shared == 0 {
				t.Fatalf("seed %d: they share no partition", seed)
			}
			a.kill()
			b.kill()
			left := slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return n == a || n == b })
			first := w.newcomer(a.id)
			first.start()
			w.until("the first says for whom it waits", func() bool { return strings.Contains(first.Replacing(), b.addr) })
			second := w.newcomer(b.id)
			second.start()
			w.standsIn(first, a, append(left, first, second)...)
			w.standsIn(second, b, append(left, first, second)...)
		})
	}
}

// However often the newcomer dies on its way, and whatever gets lost, it ends in
// the lost one's place, and never before the fence.
func TestAReplacementSurvivesCrashesOfTheNewcomer(t *testing.T) {
	for seed := range uint64(runs(12)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			old := nodes[4]
			w.fenced(old)
			old.kill()
			w.storm(true)
			m := w.newcomer(old.id)
			m.start()
			for range 6 {
				time.Sleep(time.Duration(w.dice.IntN(300)) * time.Millisecond)
				victim := m
				if w.dice.IntN(3) == 0 {
					victim = nodes[w.dice.IntN(4)]
				}
				victim.kill()
				time.Sleep(time.Duration(w.dice.IntN(1000)) * time.Millisecond)
				victim.start()
			}
			w.storm(false)
			r := w.standsIn(m, old, nodes[0], nodes[1], nodes[2], nodes[3], m)
			if err := nodes[0].add(1); err != nil {
				t.Fatalf("seed %d: after epoch %d: %v", seed, r.Epoch, err)
			}
			if a, b := m.disk.stored(), nodes[0].disk.stored(); !slices.Equal(a, b) {
				t.Fatalf("seed %d: fences %v and %v", seed, a, b)
			}
		})
	}
}
