package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// guest is a member that no process stands behind: adding it is a change of the
// ring that asks nothing of others.
func guest(i int) ring.Member {
	return ring.Member{ID: ring.NodeID{0xff, byte(i)}, Name: fmt.Sprint("guest", i)}
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

func (n *node) add(i int) error {
	ctx, cancel := within(2 * time.Minute)
	defer cancel()
	r, err := n.Propose(ctx, standby(guest(i)))
	if err == nil && (r.Member(guest(i).ID) == nil || n.Current().Epoch < r.Epoch) {
		err = errors.New("reported as done, but it does not stand")
	}
	return err
}

func TestFault45_ManyStartAtOnceAndOneRingComesOut(t *testing.T) {
	for seed := range uint64(runs(12)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			w.storm(seed%3 == 2)
			nodes := make([]*node, 5)
			for i := range nodes {
				nodes[i] = w.node(Config{Founder: i == 0, Expect: 5, Replicas: 3, Self: ring.Member{Zone: fmt.Sprint(i % 3)}})
			}
			for _, i := range w.dice.Perm(5) {
				nodes[i].start()
				time.Sleep(time.Duration(w.dice.IntN(2000)) * time.Millisecond)
			}
			r := w.agree(2, nodes...)
			if r.Epoch != 2 || !r.Founded() || len(r.Members) != 5 || len(r.Keepers) != 5 {
				t.Fatalf("seed %d: epoch %d, founded %v, %d members, %d keepers", seed, r.Epoch, r.Founded(), len(r.Members), len(r.Keepers))
			}
			for _, n := range nodes {
				if m := r.Member(n.id); m == nil || m.State != ring.Active || r.HomeCount(n.id) == 0 || m.Zone != n.cfg.Self.Zone {
					t.Fatalf("seed %d: member %+v with %d homes", seed, m, r.HomeCount(n.id))
				}
				if fences := n.disk.stored(); len(fences) != 16 || fences[0] != 2 {
					t.Fatalf("fences %v", fences)
				}
			}
		})
	}
}

func TestFoundingWaitsForAllThatAreExpected(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		founder := w.node(Config{Founder: true, Expect: 3, Replicas: 3})
		founder.start()
		second := w.node(Config{})
		second.start()
		w.agree(1, founder, second)
		time.Sleep(time.Minute)
		if have, want := founder.Founding(); have != 2 || want != 3 || founder.Current().Founded() {
			t.Fatalf("%d of %d members, founded %v", have, want, founder.Current().Founded())
		}
		if s := second.State(); s.Ready != "joining" || s.Epoch != 1 {
			t.Fatalf("state %+v", s)
		}
		third := w.node(Config{})
		third.start()
		w.agree(2, founder, second, third)
		w.until("all announce it", func() bool {
			return !slices.ContainsFunc(second.cfgView().Peers, func(p gossip.Peer) bool { return p.State.Ready != "ready" || p.State.Epoch != 2 })
		})
	})
}

func TestFounderCountsOnlyWhoIsThereAndHoldsItsRecord(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		founder, deaf, gone := w.node(Config{Founder: true, Expect: 3, Replicas: 1}), w.node(Config{}), w.node(Config{})
		w.watch(func(from, _ ring.NodeID, _ string, _ any) bool { return from == deaf.id })
		for _, n := range w.nodes {
			n.start()
		}
		w.agree(1, founder, gone)
		time.Sleep(30 * time.Second)
		if have, _ := founder.Founding(); have != 2 {
			t.Fatalf("%d members with one that has not pulled the record", have)
		}
		gone.kill()
		w.watch(nil)
		w.agree(1, founder, deaf)
		time.Sleep(30 * time.Second)
		if have, _ := founder.Founding(); have != 2 || founder.Current().Founded() {
			t.Fatalf("%d members with one that is gone", have)
		}
		gone.start()
		w.agree(2, w.nodes...)
	})
}

func (n *node) cfgView() *gossip.View { return (*member)(n).View() }

func TestFounderGoesOnAfterARestartAtEpochOne(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		founder := w.node(Config{Founder: true, Expect: 3, Replicas: 3})
		founder.start()
		cluster := founder.Current().Cluster
		founder.kill()
		founder.start()
		others := []*node{w.node(Config{}), w.node(Config{})}
		for _, n := range others {
			n.start()
		}
		if r := w.agree(2, founder, others[0], others[1]); r.Cluster != cluster {
			t.Fatal("a restart founded another cluster")
		}
	})
}

func TestOneMemberFoundsAlone(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.node(Config{Founder: true, Expect: 1, Replicas: 1})
		n.start()
		if r := w.agree(2, n); !r.Founded() || r.HomeCount(n.id) != 16 {
			t.Fatalf("%d homes", r.HomeCount(n.id))
		}
	})
}

func TestLateJoinersBecomeStandbys(t *testing.T) {
	for seed := range uint64(runs(8)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(3, 3)
			w.storm(seed%2 == 1)
			// Two at the same moment, and one whose name is too far down
			// to be first.
			for range 2 {
				n := w.node(Config{})
				n.start()
				nodes = append(nodes, n)
			}
			r := w.agree(4, nodes...)
			for _, n := range nodes[3:] {
				if m := r.Member(n.id); m == nil || m.State != ring.Standby || r.HomeCount(n.id) != 0 {
					t.Fatalf("seed %d: %+v", seed, m)
				}
			}
			for _, n := range nodes {
				if fences := n.disk.stored(); slices.ContainsFunc(fences, func(f uint64) bool { return f != 2 }) {
					t.Fatalf("seed %d: a standby moved the fences: %v", seed, fences)
				}
			}
		})
	}
}

func TestConcurrentProposalsAllStand(t *testing.T) {
	for seed := range uint64(runs(10)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			w.storm(seed%2 == 1)
			var wg sync.WaitGroup
			for i, n := range nodes {
				wg.Go(func() {
					for j := range 2 {
						if err := n.add(10*i + j); err != nil {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
				})
			}
			wg.Wait()
			r := w.agree(12, nodes...)
			if r.Epoch != 12 || len(r.Members) != 15 {
				t.Fatalf("seed %d: epoch %d with %d members after 10 changes", seed, r.Epoch, len(r.Members))
			}
		})
	}
}

func TestAKeeperDownIsNotMissed(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		nodes[2].kill()
		if err := nodes[0].add(1); err != nil {
			t.Fatal(err)
		}
		nodes[1].kill()
		ctx, cancel := within(20 * time.Second)
		defer cancel()
		_, err := nodes[0].Propose(ctx, standby(guest(2)))
		var undecided *paxos.UndecidedError
		if !errors.As(err, &undecided) || undecided.Sent || !errors.Is(err, rpc.ErrUnreachable) && !strings.Contains(err.Error(), "unreachable") {
			t.Fatalf("one keeper of three: %v", err)
		}
		nodes[2].start() // it was away, and has never seen epoch 3
		if err := nodes[0].add(3); err != nil {
			t.Fatal(err)
		}
		nodes[1].start()
		w.agree(4, nodes...)
	})
}

// The proposer dies when that many of its accepts have left.
func TestAProposerKilledBetweenPrepareAndAccept(t *testing.T) {
	for left := range 4 {
		inWorld(t, uint64(left), func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			killed := nodes[0]
			out := make(chan struct{})
			accepts := 0
			w.watch(func(from, to ring.NodeID, route string, msg any) bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				vote, ok := msg.(*voteRequest)
				if !ok || from != killed.id || !vote.Accept {
					return false
				}
				if accepts++; accepts == left+1 {
					close(out)
				}
				return accepts > left
			})
			ctx, cancel := context.WithCancel(context.Background())
			failed := make(chan error)
			go func() {
				_, err := killed.Propose(ctx, standby(guest(1)))
				failed <- err
			}()
			<-out
			killed.kill()
			cancel()
			if err := <-failed; err == nil {
				t.Fatalf("%d accepts: a dead proposer reports success", left)
			}
			time.Sleep(100 * time.Millisecond) // what left arrives
			if err := nodes[1].add(2); err != nil {
				t.Fatal(err)
			}
			w.watch(nil)
			killed.start()
			r := w.agree(3, nodes...)
			if r.Member(guest(2).ID) == nil {
				t.Fatal("the second change does not stand")
			}
			// Three of five keepers accepted: it was decided, though nobody
			// knew, and the second proposer finished it first.
			if left >= 3 && (r.Member(guest(1).ID) == nil || r.Epoch != 4) {
				t.Fatalf("%d accepts: the change was decided and is lost, epoch %d", left, r.Epoch)
			}
		})
	}
}

// The founder is the only keeper of epoch 1. It dies when it has accepted epoch
// 2 and before it adopts it; then a member is gone.
func TestAFounderKilledInTheMiddleFinishesTheSameTable(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := []*node{w.node(Config{Founder: true, Expect: 3, Replicas: 2}), w.node(Config{}), w.node(Config{})}
		founder := nodes[0]
		founder.disk.slow = 500 * time.Millisecond
		for _, n := range nodes {
			n.start()
		}
		w.until("epoch 2 is accepted", func() bool {
			founder.disk.mu.Lock()
			defer founder.disk.mu.Unlock()
			cell, err := cellOf(founder.disk.meta[metaCell], 2)
			return err == nil && len(cell.Value) > 0
		})
		founder.kill()
		if founder.Current().Epoch != 1 {
			t.Fatal("killed too late")
		}
		nodes[2].kill()
		founder.cfg.Expect = 2
		founder.start()
		r := w.agree(2, founder, nodes[1])
		if r.Epoch != 2 || len(r.Members) != 3 {
			t.Fatalf("epoch %d with %d members", r.Epoch, len(r.Members))
		}
	})
}

func TestAStaleProposerStartsAnewFromWhatWasDecided(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		stale := nodes[4]
		w.cut(stale)
		for i := range 3 {
			if err := nodes[0].add(i); err != nil {
				t.Fatal(err)
			}
		}
		if stale.Current().Epoch != 2 {
			t.Fatal("the cut leaks")
		}
		w.mu.Lock()
		clear(w.cuts)
		w.mu.Unlock() // nobody is woken: the proposer is the first to notice
		if err := stale.add(9); err != nil {
			t.Fatal(err)
		}
		if r := w.agree(6, nodes...); r.Epoch != 6 {
			t.Fatalf("epoch %d after 4 changes", r.Epoch)
		}
	})
}

func TestFault47_AJoinDuringAPartitionWaitsOnTheMinority(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(5, 3)
		left, right := w.node(Config{}), w.node(Config{})
		w.cut(nodes[0], nodes[1], left)
		left.start()
		right.start()
		w.agree(3, append(slices.Clone(nodes[2:]), right)...)
		time.Sleep(2 * time.Minute)
		r := nodes[0].Current()
		if r.Epoch != 2 || left.Current() == nil || left.Current().Member(left.id) != nil {
			t.Fatalf("the minority changed the ring: epoch %d", r.Epoch)
		}
		w.heal()
		r = w.agree(4, append(slices.Clone(nodes), left, right)...)
		if r.Member(left.id) == nil || r.Member(right.id) == nil || r.HomeCount(left.id) != 0 {
			t.Fatal("a joiner is missing after the partition")
		}
	})
}

func TestAChangeIsDoneOnlyWhenAMajorityOfKeepersStoresIt(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		for _, n := range nodes[1:] {
			n.life.stop() // they vote, but do not pull by themselves
			<-n.life.done
		}
		w.watch(func(_, _ ring.NodeID, route string, _ any) bool { return route == string(tellRoute) })
		ctx, cancel := within(20 * time.Second)
		defer cancel()
		_, err := nodes[0].Propose(ctx, standby(guest(1)))
		if !errors.Is(err, ErrUnconfirmed) || !strings.Contains(err.Error(), "1 of 3") {
			t.Fatal(err)
		}
		w.watch(nil)
		if err := nodes[0].add(1); err != nil { // it stands: only to be confirmed
			t.Fatal(err)
		}
		stored := 0
		for _, n := range nodes {
			if n.Current().Epoch == 3 {
				stored++
			}
		}
		if stored < 2 {
			t.Fatalf("done, but stored by %d of 3", stored)
		}
	})
}

func TestRestartFromDiskKeepsTheRecord(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		want := nodes[0].Current().Digest()
		for _, n := range nodes {
			n.kill()
		}
		for _, n := range nodes {
			if err := n.open(); err != nil {
				t.Fatal(err)
			}
			if r := n.Current(); r == nil || r.Digest() != want {
				t.Fatalf("%s restarted with %+v", n.addr, r)
			}
			n.run()
		}
		if err := nodes[1].add(1); err != nil {
			t.Fatal(err)
		}
	})
}

// All die in the middle of proposals and come back, again and again; the world's
// disks check that no epoch has two records.
func TestNoEpochHasTwoRecordsThroughCrashesAndLoss(t *testing.T) {
	for seed := range uint64(runs(6)) {
		inWorld(t, seed, func(t *testing.T, w *world) {
			nodes := w.founded(5, 3)
			w.storm(true)
			for round := range 6 {
				ctx, cancel := within(time.Duration(1+w.dice.IntN(4000)) * time.Millisecond)
				var wg sync.WaitGroup
				for i, n := range nodes {
					topology := n.Topology // of this life
					wg.Go(func() { topology.Propose(ctx, standby(guest(10*round+i))) })
				}
				victims := w.dice.Perm(5)[:w.dice.IntN(4)]
				for _, v := range victims {
					time.Sleep(time.Duration(w.dice.IntN(1000)) * time.Millisecond)
					nodes[v].kill()
				}
				wg.Wait()
				cancel()
				for _, v := range victims {
					nodes[v].start()
				}
			}
			if err := nodes[seed%5].add(99); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			w.agree(nodes[seed%5].Current().Epoch, nodes...)
		})
	}
}
