package topology

import (
	"context"
	"errors"
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

func TestFault50_AnotherClusterIsRefusedAndNothingIsMerged(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		ours := w.founded(3, 3)
		theirs := w.node(Config{Founder: true, Expect: 1, Replicas: 1, Cluster: "other"})
		theirs.start()
		w.agree(2, theirs)
		if err := ours[0].add(1); err != nil {
			t.Fatal(err)
		}
		w.agree(3, ours...)
		ctx := t.Context()
		before := ours[0].Current().Digest()
		foreign := theirs.held.Load()
		if err := ours[0].Adopt(ctx, foreign.encoded); !errors.Is(err, ErrOtherCluster) {
			t.Fatalf("adopt: %v", err)
		}
		to := rpc.Peer{ID: ours[0].id, Addr: ours[0].addr}
		send := theirs.Topology.cfg.Transport
		if _, err := pullRoute.Call(ctx, send, to, &pullRequest{Cluster: foreign.record.Cluster}); !errors.Is(err, ErrOtherCluster) {
			t.Fatalf("pull: %v", err)
		}
		if _, err := tellRoute.Call(ctx, send, to, &tellRequest{foreign.encoded}); !errors.Is(err, ErrOtherCluster) {
			t.Fatalf("tell: %v", err)
		}
		// A register below, at and above ours.
		for _, epoch := range []uint64{2, 3, 9} {
			r := *foreign.record
			r.Epoch = epoch
			_, err := voteRoute.Call(ctx, send, to, &voteRequest{Register: epoch + 1, Base: r.Encode(), Ballot: paxos.Ballot{Round: 1}})
			if !errors.Is(err, ErrOtherCluster) {
				t.Fatalf("vote on a record of epoch %d: %v", epoch, err)
			}
		}
		if err := theirs.Learn(ctx, to, 3); !errors.Is(err, ErrOtherCluster) {
			t.Fatalf("learn: %v", err)
		}
		if ours[0].Current().Digest() != before || theirs.Current().Epoch != 2 {
			t.Fatal("something was merged")
		}
		// A newcomer of another name takes no record of ours.
		newcomer := w.node(Config{Cluster: "third"})
		newcomer.start()
		if err := newcomer.Learn(ctx, to, 1); !errors.Is(err, ErrOtherCluster) || newcomer.Current() != nil {
			t.Fatalf("newcomer: %v", err)
		}
	})
}

func TestFault51_ANewcomerBetweenTwoClustersJoinsNeither(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		var founders []*node
		for range 2 {
			n := w.node(Config{Founder: true, Expect: 1, Replicas: 1})
			w.cut(n)
			n.start()
			w.agree(2, n)
			founders = append(founders, n)
		}
		newcomer := w.node(Config{})
		newcomer.start()
		time.Sleep(time.Minute)
		if r := newcomer.Current(); r != nil {
			t.Fatalf("joined %s", r.Cluster)
		}
		founders[0].kill()
		w.agree(3, founders[1], newcomer)
		founders[0].start()
		time.Sleep(time.Minute)
		if founders[0].Current().Epoch != 2 || founders[0].Current().Cluster == founders[1].Current().Cluster {
			t.Fatal("two clusters merged")
		}
	})
}

func TestFounderWithALostDiskStopsAndSaysSo(t *testing.T) {
	for _, how := range []string{"seen in the view", "turned away by the membership"} {
		inWorld(t, 1, func(t *testing.T, w *world) {
			nodes := w.founded(3, 3)
			nodes[0].kill()
			wiped := w.node(Config{Founder: true, Expect: 3, Replicas: 3})
			if how != "seen in the view" {
				w.cut(wiped)
				wiped.cfg.Foreign = func() []gossip.Foreign {
					return []gossip.Foreign{{ClusterName: "x", Cluster: ring.ClusterID{7}},
						{ID: nodes[0].id, Addr: "gossip." + wiped.addr, Cluster: nodes[1].Current().Cluster}, {ID: nodes[1].id, Addr: "gossip.n2:1", Cluster: nodes[1].Current().Cluster}}
				}
			}
			wiped.start()
			<-wiped.life.done
			err := wiped.life.err
			if !errors.Is(err, ErrFounderLost) {
				t.Fatalf("%s: %v", how, err)
			}
			for _, want := range []string{nodes[1].Current().Cluster.String(), wiped.Current().Cluster.String(), "lost disk", "--join gossip.n"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q does not say %q", how, err, want)
				}
			}
			if wiped.Current().Founded() || nodes[1].Current().Epoch != 2 {
				t.Fatal("it founded all the same")
			}
		})
	}
}

func TestOpenRefusesWhatDoesNotBelong(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.node(Config{Founder: true, Expect: 1, Replicas: 1})
		n.start()
		w.agree(2, n)
		n.kill()
		good := n.disk.meta["ring"]

		n.cfg.Cluster = "other"
		if err := n.open(); !errors.Is(err, ErrOtherCluster) || !strings.Contains(err.Error(), `"test"`) {
			t.Errorf("another name: %v", err)
		}
		n.cfg.Cluster = "test"
		n.disk.meta["ring"] = banning(n.id)
		if err := n.open(); !errors.Is(err, ring.ErrBanned) {
			t.Errorf("banned: %v", err)
		}
		n.disk.meta["ring"] = good[:len(good)-1]
		if err := n.open(); err == nil {
			t.Error("a damaged record is taken")
		}
		n.disk.meta["ring"] = good
		n.disk.fail = errors.New("input/output error")
		if err := n.open(); !errors.Is(err, n.disk.fail) {
			t.Errorf("unreadable disk: %v", err)
		}
		n.disk.fail = nil
		for _, expect := range []int{2, -1, ring.MembersMax + 1} {
			bad := w.node(Config{Founder: true, Expect: expect, Replicas: 3})
			if err := bad.open(); err == nil {
				t.Errorf("expecting %d members for 3 replicas: no error", expect)
			}
		}
		if _, err := Open(Config{}); err == nil {
			t.Error("an empty config is taken")
		}
	})
}

// banning is a record of cluster "test" in which an ID is banned.
func banning(id ring.NodeID) []byte {
	r, err := ring.Found(ring.ClusterID{1}, "test", guest(1), 16, 1)
	if err != nil {
		panic(err)
	}
	next := *r
	next.Epoch, next.Banned = 2, []ring.NodeID{id}
	return next.Encode()
}

func TestABannedMemberStops(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.node(Config{})
		n.start()
		if err := n.Adopt(t.Context(), banning(n.id)); err != nil {
			t.Fatal(err)
		}
		<-n.life.done
		if !errors.Is(n.life.err, ring.ErrBanned) {
			t.Fatal(n.life.err)
		}
	})
}

func TestAdoptTakesOnlyWhatFollows(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(1, 1)[0]
		ctx := t.Context()
		held := n.held.Load()
		first := *held.record
		if err := n.Adopt(ctx, held.encoded); err != nil {
			t.Errorf("the same record: %v", err)
		}
		first.Epoch--
		first.Since = slices.Repeat([]uint64{1}, len(first.Since))
		if err := n.Adopt(ctx, first.Encode()); err != nil || n.Current().Epoch != 2 {
			t.Errorf("an older one: %v", err)
		}
		twin := *held.record
		twin.Members = slices.Clone(twin.Members)
		twin.Members[0].Name = "twin"
		if err := n.Adopt(ctx, twin.Encode()); !errors.Is(err, ErrDiverged) {
			t.Errorf("another record of the epoch: %v", err)
		}
		next := *held.record
		next.Epoch++
		next.Since = slices.Clone(next.Since)
		next.Since[0] = 1
		if err := n.Adopt(ctx, next.Encode()); !errors.Is(err, ErrDiverged) {
			t.Errorf("a fence went back: %v", err)
		}
		if err := n.Adopt(ctx, []byte("junk")); err == nil {
			t.Error("junk is adopted")
		}
		if n.Current() != held.record {
			t.Error("a refused record stands")
		}
	})
}

func TestARecordIsCurrentOnlyWhenItIsDurable(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(1, 1)[0]
		next, err := n.Current().WithStandby(guest(1))
		if err != nil {
			t.Fatal(err)
		}
		changed := n.Changed()
		n.disk.mu.Lock()
		n.disk.fail = errors.New("no space left on device")
		n.disk.mu.Unlock()
		if err := n.Adopt(t.Context(), next.Encode()); !errors.Is(err, n.disk.fail) || n.Current().Epoch != 2 {
			t.Fatalf("epoch %d, %v", n.Current().Epoch, err)
		}
		select {
		case <-changed:
			t.Fatal("a change was announced")
		default:
		}
		n.disk.mu.Lock()
		n.disk.fail = nil
		n.disk.mu.Unlock()
		if err := n.Adopt(t.Context(), next.Encode()); err != nil || n.Current().Epoch != 3 {
			t.Fatal(err)
		}
		<-changed
	})
}

func TestLearnPullsOnceForMany(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		late := nodes[2]
		late.life.stop()
		<-late.life.done
		w.watch(func(_, to ring.NodeID, route string, _ any) bool { return to == late.id })
		if err := nodes[0].add(1); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.sent[string(pullRoute)] = 0
		w.mu.Unlock()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				// What the connection tells of its peer is no address.
				if err := late.Learn(t.Context(), rpc.Peer{ID: nodes[0].id, Addr: "ephemeral:9"}, 3); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if late.Current().Epoch != 3 || w.sent[string(pullRoute)] != 1 {
			t.Fatalf("epoch %d after %d pulls", late.Current().Epoch, w.sent[string(pullRoute)])
		}
		if err := late.Learn(t.Context(), rpc.Peer{ID: nodes[0].id}, 4); err == nil || late.Current().Epoch != 3 {
			t.Fatalf("learned an epoch that nobody has: %v", err)
		}
		// The peer that asked is gone: whoever else holds the epoch will do.
		if err := nodes[0].add(2); err != nil {
			t.Fatal(err)
		}
		w.until("the other one announces it", func() bool {
			return nodes[1].Current().Epoch == 4 && late.cfgView().Peer(nodes[1].id).State.Epoch == 4
		})
		nodes[0].kill()
		if err := late.Learn(t.Context(), rpc.Peer{ID: nodes[0].id}, 4); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLearnFailsOnceForMany(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		w.mu.Lock()
		w.sent[string(pullRoute)] = 0
		w.mu.Unlock()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := nodes[2].Learn(t.Context(), rpc.Peer{ID: nodes[0].id}, 1<<40); err == nil {
					t.Error("learned an epoch that nobody has")
				}
			})
		}
		wg.Wait()
		if n := w.sent[string(pullRoute)]; n != 1 {
			t.Fatalf("%d pulls", n)
		}
		// The failure is not remembered for those who come later.
		if err := nodes[0].add(1); err != nil {
			t.Fatal(err)
		}
		if err := nodes[2].Learn(t.Context(), rpc.Peer{ID: nodes[0].id}, 3); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAheadNamesADivergedMemberAndLearnsFromOthers(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.founded(1, 1)[0]
		held := n.held.Load()
		peer := func(i byte, alive bool, s gossip.State) gossip.Peer {
			return gossip.Peer{ID: ring.NodeID{i}, RPCAddr: "x:1", Alive: alive, State: s}
		}
		ours := n.State()
		twin, newer, foreign := ours, ours, ours
		twin.Digest[0]++
		newer.Epoch++
		foreign.Cluster[0]++
		foreign.Epoch = 99
		for name, c := range map[string]struct {
			peers    []gossip.Peer
			want     []byte
			diverged bool
		}{
			"nobody":              {},
			"equal and foreign":   {peers: []gossip.Peer{peer(1, true, ours), peer(2, true, foreign), peer(3, true, gossip.State{})}},
			"reachable first":     {peers: []gossip.Peer{peer(1, false, newer), peer(2, true, newer)}, want: []byte{2}},
			"unreachable at last": {peers: []gossip.Peer{peer(1, false, newer), peer(2, true, ours)}, want: []byte{1}},
			"diverged":            {peers: []gossip.Peer{peer(1, true, twin), peer(2, true, newer)}, want: []byte{2}, diverged: true},
		} {
			ahead, err := n.ahead(&gossip.View{Peers: c.peers}, held)
			var got []byte
			for _, p := range ahead {
				got = append(got, p.ID[0])
			}
			if !slices.Equal(got, c.want) || errors.Is(err, ErrDiverged) != c.diverged || err != nil && !c.diverged {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	})
}

func TestNobodyLearnsFromANewcomer(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a, b := w.node(Config{}), w.node(Config{})
		a.start()
		b.start()
		if err := a.Learn(t.Context(), rpc.Peer{ID: b.id, Addr: b.addr}, 1); !errors.Is(err, ErrNotJoined) {
			t.Fatal(err)
		}
		if _, err := a.Propose(t.Context(), standby(guest(1))); !errors.Is(err, ErrNotJoined) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Learn(ctx, rpc.Peer{ID: b.id, Addr: b.addr}, 1); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}
