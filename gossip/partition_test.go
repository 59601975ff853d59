package gossip

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
)

// world is a cluster on a network in memory, in a bubble: minutes cost
// nothing.
type world struct {
	t     *testing.T
	net   *memNet
	nodes map[byte]*Cluster
	cfgs  map[byte]Config
	books map[byte]*memBook
}

// inBubble runs a story and then waits until the libraries are gone.
func inBubble(t *testing.T, seed uint64, story func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, net: newMemNet(seed),
			nodes: make(map[byte]*Cluster), cfgs: make(map[byte]Config), books: make(map[byte]*memBook),
		}
		defer func() { // also after a failed wait
			for number := range w.nodes {
				w.stop(number)
			}
			time.Sleep(time.Minute)
		}()
		story(w)
	})
}

// start starts node number, with the book of its earlier lives.
func (w *world) start(number byte, seeds ...byte) *Cluster {
	w.t.Helper()
	cfg := memConfig(w.net, number, seeds...)
	if w.books[number] == nil {
		w.books[number] = &memBook{}
	}
	cfg.Book = w.books[number]
	cfg.State = State{Cluster: clusterID(1), Epoch: 2, Ready: "ready"}
	return w.startWith(number, cfg)
}

func (w *world) startWith(number byte, cfg Config) *Cluster {
	w.t.Helper()
	c, err := Start(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[number] = c
	w.cfgs[number] = cfg
	return c
}

func (w *world) stop(number byte) {
	w.t.Helper()
	if err := w.nodes[number].Close(); err != nil {
		w.t.Errorf("close %d: %v", number, err)
	}
	delete(w.nodes, number)
}

// all waits until each of these sees exactly these alive, and says how long
// it took.
func (w *world) all(limit time.Duration, numbers ...byte) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for _, n := range numbers {
		sees(w.t, w.nodes[n], limit, numbers...)
	}
	return time.Since(begin)
}

func TestALongPartitionHealsByItself(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		for n := byte(1); n <= 6; n++ {
			w.start(n, 1)
		}
		w.all(time.Minute, 1, 2, 3, 4, 5, 6)
		w.net.cut([]byte{1, 2, 3}, []byte{4, 5, 6})
		w.all(time.Minute, 1, 2, 3)
		w.all(time.Minute, 4, 5, 6)
		time.Sleep(5 * time.Minute)
		for _, c := range w.nodes {
			if n := len(c.View().Peers); n != 6 {
				t.Errorf("node %s forgot members: it knows %d of 6", c.cfg.ID.Short(), n)
			}
		}
		w.net.heal()
		w.all(2*time.Minute, 1, 2, 3, 4, 5, 6)
	})
}

func TestFault02_AnIsolatedNodeIsMissedAndComesBackWithItsNews(t *testing.T) {
	inBubble(t, 11, func(w *world) {
		for n := byte(1); n <= 5; n++ {
			w.start(n, 1)
		}
		w.all(time.Minute, 1, 2, 3, 4, 5)
		w.net.cut([]byte{1, 2, 3, 4}, []byte{5})
		if took := w.all(time.Minute, 1, 2, 3, 4); took > 30*time.Second {
			t.Errorf("it was missed after %v", took)
		}
		w.all(time.Minute, 5)
		w.nodes[5].Announce(State{Cluster: clusterID(1), Epoch: 77})
		w.nodes[1].Announce(State{Cluster: clusterID(1), Epoch: 78})
		time.Sleep(10 * time.Minute)
		w.net.heal()
		if took := w.all(time.Minute, 1, 2, 3, 4, 5); took > 30*time.Second {
			t.Errorf("it came back after %v", took)
		}
		for _, c := range w.nodes {
			waitView(t, c, "the news of both sides", time.Minute, func(v *View) bool {
				return v.Peer(nodeID(5)).State.Epoch == 77 && v.Peer(nodeID(1)).State.Epoch == 78
			})
		}
	})
}

func TestHalvesRestartedWhileApartFindEachOtherByTheBook(t *testing.T) {
	inBubble(t, 2, func(w *world) {
		for n := byte(1); n <= 6; n++ {
			w.start(n, 1)
		}
		w.all(time.Minute, 1, 2, 3, 4, 5, 6)
		time.Sleep(5 * time.Second) // the books are saved
		w.net.cut([]byte{1, 2, 3}, []byte{4, 5, 6})
		time.Sleep(time.Minute)
		for n := byte(1); n <= 6; n++ {
			w.stop(n)
		}
		// No seed, and serf's memory is gone: only the books know the others.
		for n := byte(1); n <= 6; n++ {
			w.start(n)
		}
		w.all(5*time.Minute, 1, 2, 3)
		w.all(5*time.Minute, 4, 5, 6)
		time.Sleep(time.Hour)
		w.net.heal()
		w.all(5*time.Minute, 1, 2, 3, 4, 5, 6)
	})
}

func TestAllStoppedAndStartedWithoutSeedsMeetAgain(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		for n := byte(1); n <= 5; n++ {
			w.start(n, 1)
		}
		w.all(time.Minute, 1, 2, 3, 4, 5)
		time.Sleep(5 * time.Second)
		for n := byte(1); n <= 5; n++ {
			w.stop(n)
		}
		for _, n := range []byte{4, 2, 5, 1, 3} {
			w.start(n)
			time.Sleep(300 * time.Millisecond)
		}
		if took := w.all(time.Minute, 1, 2, 3, 4, 5); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestFault14_AnIDAtANewAddressSoonAfterItsDeath(t *testing.T) {
	for _, away := range []time.Duration{0, 3 * time.Second, 20 * time.Second, time.Hour} {
		t.Run(fmt.Sprintf("away %v", away), func(t *testing.T) {
			inBubble(t, 4, func(w *world) {
				for n := byte(1); n <= 4; n++ {
					w.start(n, 1)
				}
				w.all(time.Minute, 1, 2, 3, 4)
				time.Sleep(time.Minute)
				cfg := w.cfgs[3]
				w.stop(3)
				died := time.Now()
				time.Sleep(away)
				cfg.Transport = w.net.host(33)
				cfg.Seeds = nil
				moved := w.startWith(3, cfg)
				for _, n := range []byte{1, 2, 3, 4} {
					waitView(t, w.nodes[n], "node 3 alive at its new address", 2*time.Minute, func(v *View) bool {
						p := v.Peer(nodeID(3))
						return len(aliveIDs(v)) == 4 && p.GossipAddr == memAddr(33)
					})
				}
				// The others notice the death in some ten seconds, and then
				// must not keep the ID bound to the old address.
				if took := time.Since(died); took > away+25*time.Second {
					t.Errorf("the new address is known %v after the death", took)
				}
				time.Sleep(10 * time.Minute)
				w.all(time.Minute, 1, 2, 3, 4)
				for _, c := range w.nodes {
					healthy(t, c)
				}
				if !moved.judge.settled.Load() {
					t.Error("node 3 is not settled at its new address")
				}
				for _, e := range w.books[1].entries {
					if e.ID == nodeID(3) && e.Addrs[0] != memAddr(33) {
						t.Errorf("the book of node 1 says %v", e.Addrs)
					}
				}
			})
		})
	}
}

func TestFault45_FiveStartAtOnceAndTheirSeedsComeLater(t *testing.T) {
	for name, seeds := range map[string][]byte{"one seed": {5}, "the same list": {1, 2, 3, 4, 5}, "two seeds": {4, 5}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 5, func(w *world) {
				newcomer := func(n byte) {
					cfg := memConfig(w.net, n, seeds...)
					cfg.Book = &memBook{}
					w.startWith(n, cfg)
				}
				for n := byte(1); n <= 3; n++ {
					newcomer(n)
				}
				time.Sleep(2 * time.Minute)
				newcomer(5)
				newcomer(4)
				if took := w.all(time.Minute, 1, 2, 3, 4, 5); took > 40*time.Second {
					t.Errorf("it took %v", took)
				}
				for _, c := range w.nodes {
					if len(c.Foreign()) != 0 {
						t.Errorf("node %s refused somebody: %+v", c.cfg.ID.Short(), c.Foreign())
					}
				}
			})
		})
	}
}

func TestIslandsOfOneFoundingMeetThroughTheSeedsTheyHaveNotReached(t *testing.T) {
	inBubble(t, 6, func(w *world) {
		w.net.cut([]byte{1, 2}, []byte{3, 4})
		for n := byte(1); n <= 4; n++ {
			cfg := memConfig(w.net, n, 1, 2, 3, 4)
			w.startWith(n, cfg)
		}
		w.all(time.Minute, 1, 2)
		w.all(time.Minute, 3, 4)
		w.net.heal() // no node of one island has ever heard of the other one
		w.all(10*time.Minute, 1, 2, 3, 4)
	})
}

func TestFault48_TheOriginalOutlivesACopyThatTookItsPlaceWhileCutOff(t *testing.T) {
	inBubble(t, 7, func(w *world) {
		for n := byte(1); n <= 4; n++ {
			w.start(n, 1)
		}
		w.all(time.Minute, 1, 2, 3, 4)
		time.Sleep(time.Minute)
		original := w.nodes[3]
		w.net.cut([]byte{1, 2, 4, 33}, []byte{3})
		time.Sleep(time.Minute)
		cfg := w.cfgs[3]
		cfg.Transport = w.net.host(33)
		copied, err := Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer closed(t, copied)
		for _, c := range []*Cluster{w.nodes[1], w.nodes[2], w.nodes[4], copied} {
			waitView(t, c, "the copy in the place of node 3", 2*time.Minute, func(v *View) bool {
				p := v.Peer(nodeID(3))
				return p.Alive && p.GossipAddr == memAddr(33)
			})
		}
		time.Sleep(5 * time.Minute)
		healthy(t, copied)
		w.net.heal()
		select {
		case err := <-copied.Failed():
			if !errors.Is(err, ErrDuplicate) {
				t.Errorf("error %v", err)
			}
		case <-time.After(10 * time.Minute):
			t.Error("the copy goes on beside the original")
		}
		for _, n := range []byte{1, 2, 3, 4} {
			waitView(t, w.nodes[n], "the original back in its place", 10*time.Minute, func(v *View) bool {
				p := v.Peer(nodeID(3))
				return len(aliveIDs(v)) == 4 && p.GossipAddr == memAddr(3)
			})
		}
		healthy(t, original)
	})
}

func TestFault51_TwoClustersWithOneSharedSeedStayTwo(t *testing.T) {
	inBubble(t, 8, func(w *world) {
		member := func(n, cluster byte, seeds ...byte) {
			cfg := memConfig(w.net, n, seeds...)
			cfg.Book = &memBook{}
			if cluster != 0 {
				cfg.State.Cluster = clusterID(cluster)
			}
			w.startWith(n, cfg)
		}
		member(1, 1)
		member(2, 1, 1)
		member(3, 1, 1, 5) // 5 belongs to the other cluster
		member(5, 2)
		member(6, 2, 5)
		w.all(time.Minute, 1, 2, 3)
		w.all(time.Minute, 5, 6)
		// A newcomer with seeds in both belongs to neither yet; it must not
		// become a bridge.
		member(9, 0, 2, 6)
		time.Sleep(10 * time.Minute)

		of := map[byte]byte{1: 1, 2: 1, 3: 1, 5: 2, 6: 2}
		for n, cluster := range of {
			for _, p := range w.nodes[n].View().Peers {
				if theirs := p.State.Cluster; !theirs.IsZero() && theirs != clusterID(cluster) {
					t.Errorf("node %d of cluster %d sees %s of cluster %s", n, cluster, p.ID.Short(), theirs)
				}
			}
			healthy(t, w.nodes[n])
		}
		sides := make(map[ring.ClusterID]bool)
		for _, p := range w.nodes[9].View().Peers {
			if !p.State.Cluster.IsZero() {
				sides[p.State.Cluster] = true
			}
		}
		if len(sides) != 1 {
			t.Errorf("the newcomer sees %d clusters, want one", len(sides))
		}
		refused := w.nodes[5].Foreign()
		if !slices.ContainsFunc(refused, func(f Foreign) bool {
			return f.ID == nodeID(3) && f.Cluster == clusterID(1) && f.Addr == memAddr(3)
		}) {
			t.Errorf("node 5 does not tell of node 3: %+v", refused)
		}
		if len(w.nodes[3].Foreign()) == 0 {
			t.Error("node 3 does not tell of the other cluster")
		}
	})
}

func TestStopIsNotLeaveAndForgetRemoves(t *testing.T) {
	inBubble(t, 9, func(w *world) {
		for n := byte(1); n <= 3; n++ {
			w.start(n, 1)
		}
		w.all(time.Minute, 1, 2, 3)
		time.Sleep(5 * time.Second)
		w.stop(3)
		w.all(time.Minute, 1, 2)
		w.stop(2)
		w.all(time.Minute, 1)
		time.Sleep(25 * time.Hour) // serf by itself forgets after 24
		one := w.nodes[1]
		for _, n := range []byte{2, 3} {
			p := one.View().Peer(nodeID(n))
			if p == nil || p.Alive || p.RPCAddr != fmt.Sprintf("127.0.0.1:900%d", n) || p.State.Epoch != 2 {
				t.Fatalf("the stopped node %d is seen as %+v", n, p)
			}
		}
		one.Forget(nodeID(3))
		waitView(t, one, "node 3 gone", time.Minute, func(v *View) bool { return v.Peer(nodeID(3)) == nil })
		time.Sleep(5 * time.Minute)
		if slices.Contains(w.books[1].ids(), nodeID(3)) {
			t.Error("the book still has the removed node")
		}
		if n := len(one.serf.Members()); n != 2 {
			t.Errorf("serf has %d members, want 2", n)
		}
		if !slices.Contains(w.books[1].ids(), nodeID(2)) || one.View().Peer(nodeID(2)) == nil {
			t.Error("a node that nobody removed is forgotten")
		}
	})
}

func TestABookThatCannotBeSavedIsSavedLater(t *testing.T) {
	inBubble(t, 10, func(w *world) {
		book := &memBook{fail: errors.New("disk full")}
		cfg := memConfig(w.net, 1)
		cfg.Book = book
		w.startWith(1, cfg)
		w.start(2, 1)
		w.all(time.Minute, 1, 2)
		time.Sleep(2 * time.Minute)
		book.mu.Lock()
		tries := book.saves
		book.fail = nil
		book.mu.Unlock()
		if tries < 2 || tries > 10 {
			t.Errorf("%d tries in two minutes", tries)
		}
		time.Sleep(time.Minute)
		if !slices.Contains(book.ids(), nodeID(2)) {
			t.Error("the book was never saved")
		}
		book.mu.Lock()
		tries = book.saves
		book.mu.Unlock()
		time.Sleep(time.Hour)
		book.mu.Lock()
		defer book.mu.Unlock()
		if more := book.saves - tries; more > 7 {
			t.Errorf("%d writes in an hour of peace", more)
		}
	})
}

// TestRandomCutsAndRestartsAlwaysHeal cuts, restarts and moves nodes at
// random, and wants one cluster at the end. KITH_LONG=N tries N seeds.
func TestRandomCutsAndRestartsAlwaysHeal(t *testing.T) {
	seeds := 3
	if n, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil {
		seeds = max(n, 50)
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inBubble(t, uint64(seed), func(w *world) { randomStory(w, uint64(seed)) })
		})
	}
}

func randomStory(w *world, seed uint64) {
	rng := chance(seed, "story")
	all := []byte{1, 2, 3, 4, 5, 6}
	w.net.loss = 0.02
	for _, n := range all {
		w.start(n, 1)
	}
	w.all(2*time.Minute, all...)
	time.Sleep(5 * time.Second)
	next := byte(100)
	for range 8 {
		switch n := all[rng.IntN(len(all))]; rng.IntN(4) {
		case 0, 1:
			shuffled := slices.Clone(all)
			rng.Shuffle(len(all), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			k := 1 + rng.IntN(len(all)-1)
			w.net.cutHosts(w.addrs(shuffled[:k]), w.addrs(shuffled[k:]))
		case 2:
			w.stop(n)
			time.Sleep(time.Duration(rng.Int64N(int64(time.Minute))))
			cfg := w.cfgs[n]
			old := cfg.Transport.(*memHost)
			cfg.Transport = w.net.host(old.ip[3])
			cfg.Seeds = nil
			w.startWith(n, cfg)
		default:
			w.net.heal()
			w.stop(n)
			cfg := w.cfgs[n]
			cfg.Transport = w.net.host(next)
			cfg.Seeds = nil
			next++
			w.startWith(n, cfg)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Minute))))
	}
	w.net.heal()
	w.all(10*time.Minute, all...)
	for _, c := range w.nodes {
		healthy(w.t, c)
	}
}

func (w *world) addrs(numbers []byte) []string {
	var addrs []string
	for _, n := range numbers {
		addrs = append(addrs, w.cfgs[n].Transport.(*memHost).addr())
	}
	return addrs
}
