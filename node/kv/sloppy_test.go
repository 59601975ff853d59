package kv_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// split cuts the nodes in two and waits until the circuits between them are open.
func (w *world) split(a, b []int) {
	w.t.Helper()
	names := func(nodes []int) (out []string) {
		for _, i := range nodes {
			out = append(out, w.nodes[i].host.Name())
		}
		return out
	}
	w.net.Partition(names(a), names(b))
	time.Sleep(20 * time.Second) // clocks are compared every few seconds: that finds it out
	for _, i := range a {
		for _, j := range b {
			if w.nodes[i].kv.Reachable(nodeID(j)) || w.nodes[j].kv.Reachable(nodeID(i)) {
				w.t.Fatalf("nodes %d and %d believe that they reach each other", i, j)
			}
		}
	}
}

// kept are the values that node i keeps of a key, by the home that they are for.
func (w *world) kept(i int, key string) map[ring.NodeID]string {
	w.t.Helper()
	out := map[ring.NodeID]string{}
	s := w.nodes[i].store
	homes, err := s.StandInHomes()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, home := range homes {
		all, err := s.StandIns(home, w.record.PartitionOf([]byte(key)), nil, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, one := range all {
			if string(one.Record.Key) == key {
				out[home] = string(one.Record.Siblings[one.Record.Winner()].Value)
			}
		}
	}
	return out
}

// TestFault01_SloppyHalfIsKeptAndComesBack: three nodes are cut from two. A sloppy
// put through the two is done for every key that has a home there, and refused for
// the others, at once. After the heal all that was acknowledged on either side is
// there, and what was written on both sides stands side by side.
func TestFault01_SloppyHalfIsKeptAndComesBack(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		few := []int{3, 4}
		w.split([]int{0, 1, 2}, few)
		acked := map[string]map[string]bool{}
		refused, sloppy := 0, 0
		for i := range 120 {
			key, via := fmt.Sprint("key-", i), few[i%2]
			here := 0
			for _, h := range w.homesIn(w.record, key) {
				if slices.Contains(few, h) {
					here++
				}
			}
			acked[key] = map[string]bool{}
			start := time.Now()
			resp, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte("few"), Sloppy: true})
			if took := time.Since(start); took > 50*time.Millisecond {
				t.Errorf("%s took %v", key, took)
			}
			switch {
			case here == 0:
				if !errors.Is(err, api.ErrUnavailable) || errors.Is(err, api.ErrUnknown) {
					t.Errorf("%s has no home here: %v", key, err)
				}
				refused++
			case err != nil:
				t.Errorf("%s has %d homes here: %v", key, here, err)
			default:
				acked[key]["few"] = true
				if resp.Receipt.Sloppy != (here == 1) || len(resp.Receipt.Answered) != 2 {
					t.Errorf("%s has %d homes here: %+v", key, here, resp.Receipt)
				}
				if here == 1 {
					sloppy++
					keeper := few[0]
					if slices.Contains(w.homesIn(w.record, key), keeper) {
						keeper = few[1]
					}
					if kept := w.kept(keeper, key); len(kept) == 0 {
						t.Errorf("nobody keeps %s", key)
					}
				}
			}
			if i%3 == 0 { // and on the other side, by whoever can
				if _, err := w.put(i%2, api.PutRequest{Key: []byte(key), Value: []byte("many")}); err == nil {
					acked[key]["many"] = true
				} else if here < 2 {
					t.Errorf("%s has %d homes there: %v", key, 3-here, err)
				}
			}
		}
		if refused == 0 || sloppy == 0 {
			t.Fatalf("%d refused, %d sloppy: the test tells nothing", refused, sloppy)
		}
		w.net.Heal()
		time.Sleep(10 * time.Second)
		for key, want := range acked {
			if got := w.values(0, key, api.All); !maps.Equal(got, want) {
				t.Errorf("%s shows %v, acknowledged were %v", key, got, want)
			}
		}
	})
}

// TestStandInNeverCountsForAStrictW: with two of three homes away, W=quorum is
// refused while others could stand in; W=all is with one away.
func TestStandInNeverCountsForAStrictW(t *testing.T) {
	inWorld(t, 6, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool {
			return slices.Equal(slices.Sorted(slices.Values(w.homesIn(w.record, key))), []int{0, 1, 2})
		})
		w.split([]int{0, 3, 4, 5}, []int{1, 2})
		for _, via := range []int{0, 3} {
			for _, level := range []api.Level{api.Quorum, 2, api.All} {
				if resp, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte("v"), W: level}); !errors.Is(err, api.ErrUnavailable) {
					t.Errorf("W=%d through node %d: %+v, %v", level, via, resp, err)
				}
			}
		}
		for i := range w.nodes {
			if w.own(i, key) != nil || len(w.kept(i, key)) > 0 {
				t.Errorf("node %d has what was refused", i)
			}
		}
		resp, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("one"), W: api.One})
		if err != nil || resp.Receipt.Sloppy || !slices.Equal(resp.Receipt.Answered, []ring.NodeID{nodeID(0)}) {
			t.Errorf("W=one: %+v, %v", resp, err)
		}
		// It is kept for both that are away, each by another member.
		time.Sleep(time.Second)
		keepers := map[ring.NodeID]bool{}
		for i := 3; i < 6; i++ {
			for home, value := range w.kept(i, key) {
				if value != "one" || keepers[home] {
					t.Errorf("node %d keeps %s for %s", i, value, home.Short())
				}
				keepers[home] = true
			}
		}
		if !maps.Equal(keepers, map[ring.NodeID]bool{nodeID(1): true, nodeID(2): true}) {
			t.Errorf("it is kept for %v", keepers)
		}
	})
}

// TestStrictPutIsUnknownWhereAStandInHasIt: the homes are cut off after they were
// counted. What a stand-in has changes nothing in what is told.
func TestStrictPutIsUnknownWhereAStandInHasIt(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool {
			return slices.Equal(slices.Sorted(slices.Values(w.homesIn(w.record, key))), []int{0, 1, 2})
		})
		w.split([]int{0, 2, 3, 4}, []int{1})
		w.net.Partition([]string{w.nodes[0].host.Name(), w.nodes[3].host.Name(), w.nodes[4].host.Name()}, []string{w.nodes[1].host.Name(), w.nodes[2].host.Name()})
		resp, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v")})
		if !errors.Is(err, api.ErrUnknown) {
			t.Errorf("%+v, %v", resp, err)
		}
		if len(w.kept(3, key))+len(w.kept(4, key)) != 1 {
			t.Errorf("it is kept by %v and %v: the test tells nothing", w.kept(3, key), w.kept(4, key))
		}
	})
}

// TestSloppyCountsOneStandInForEachHome: W=all with two homes away takes two
// members, and says who they are.
func TestSloppyCountsOneStandInForEachHome(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool {
			return slices.Equal(slices.Sorted(slices.Values(w.homesIn(w.record, key))), []int{0, 1, 2})
		})
		w.split([]int{0, 3, 4}, []int{1, 2})
		for _, via := range []int{0, 4} { // minted here, and forwarded
			resp, err := w.put(via, api.PutRequest{Key: []byte(key), Value: []byte("v"), W: api.All, Sloppy: true, TTL: 60_000})
			if err != nil || !resp.Receipt.Sloppy || resp.Receipt.Need != 3 {
				t.Fatalf("%+v, %v", resp, err)
			}
			got := slices.SortedFunc(slices.Values(resp.Receipt.Answered), ring.NodeID.Compare)
			if !slices.Equal(got, []ring.NodeID{nodeID(0), nodeID(3), nodeID(4)}) {
				t.Errorf("%v", got)
			}
		}
		if resp, err := w.put(0, api.PutRequest{Key: []byte(key), Delete: true, W: api.All, Sloppy: true}); err != nil || !resp.Receipt.Sloppy {
			t.Errorf("delete: %+v, %v", resp, err)
		}
		w.split([]int{0, 3}, []int{1, 2, 4})
		if _, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), W: api.All, Sloppy: true}); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("one member for two homes: %v", err)
		}
		// No read sees what is kept.
		if _, err := w.get(3, key, api.Quorum); !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("get: %v", err)
		}
	})
}

// TestSloppyPutWithAllHomesThereIsStrict: nobody stands in, and the receipt says so.
func TestSloppyPutWithAllHomesThereIsStrict(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		for i := range 20 {
			key := fmt.Sprint("key-", i)
			resp, err := w.put(i%5, api.PutRequest{Key: []byte(key), Value: []byte("v"), Sloppy: true})
			if err != nil || resp.Receipt.Sloppy {
				t.Errorf("%+v, %v", resp, err)
			}
			for j := range w.nodes {
				if len(w.kept(j, key)) > 0 {
					t.Errorf("node %d keeps %s", j, key)
				}
			}
		}
	})
}

// TestSloppyPutGoesOnFromAStandInThatIsGone: also when the homes turn out to be
// gone only after the put was minted.
func TestSloppyPutGoesOnFromAStandInThatIsGone(t *testing.T) {
	inWorld(t, 6, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool {
			return slices.Equal(slices.Sorted(slices.Values(w.homesIn(w.record, key))), []int{0, 1, 2})
		})
		order := w.record.Order(w.record.PartitionOf([]byte(key)))
		first := slices.IndexFunc(w.nodes, func(h *home) bool { return h.id == order[3] })
		w.halt(1)
		w.halt(2)
		w.halt(first)
		resp, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), Sloppy: true, W: api.All})
		if err != nil || !resp.Receipt.Sloppy || slices.Contains(resp.Receipt.Answered, order[3]) || len(resp.Receipt.Answered) != 3 {
			t.Errorf("%+v, %v", resp, err)
		}
		if _, err := w.put(0, api.PutRequest{Key: []byte("other" + key), Value: []byte("v"), Sloppy: true, W: api.All}); err != nil && !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	})
}

const standInRoute rpc.Route[standIn, empty] = "kv.standin"

// standIn is a stand-in's request as a stranger would write it.
type standIn struct {
	Home   []byte
	Epoch  uint64
	Stamp  uint64
	Record []byte
}

type empty struct{}

// TestStandInKeepsOnlyWhatIsAHomes: the fence holds for it as for homes, a home
// that is none is refused, and so are damaged records; a home itself merges.
func TestStandInKeepsOnlyWhatIsAHomes(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		key := w.keyWhere(func(key string) bool {
			return slices.Equal(slices.Sorted(slices.Values(w.homesIn(w.record, key))), []int{0, 1, 2})
		})
		record := version.Record{Key: []byte(key)}.Put(nil, version.NewSibling(version.Dot{Actor: 7, Seq: 1}, version.StampAt(time.Now()), 0, []byte("v")))
		good := record.Append(nil)
		send := func(to int, home ring.NodeID, epoch uint64, b []byte) error {
			w.t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			_, err := standInRoute.Call(ctx, w.client, rpc.Peer{Addr: w.nodes[to].peer.Addr}, &standIn{home[:], epoch, 0, b})
			return err
		}
		bad := slices.Clone(good)
		bad[len(bad)-1] ^= 1
		if err := send(3, nodeID(1), 2, bad); !errors.Is(err, api.ErrBadRequest) {
			t.Errorf("a damaged record: %v", err)
		}
		if err := send(3, nodeID(4), 2, good); !errors.Is(err, api.ErrBadRequest) {
			t.Errorf("for one that is no home: %v", err)
		}
		if err := send(3, nodeID(1), 0, good); !errors.Is(err, api.ErrFenced) {
			t.Errorf("by an epoch before the fence: %v", err)
		}
		if len(w.kept(3, key)) > 0 {
			t.Errorf("it keeps %v", w.kept(3, key))
		}
		if err := send(3, nodeID(1), 2, good); err != nil || !maps.Equal(w.kept(3, key), map[ring.NodeID]string{nodeID(1): "v"}) {
			t.Errorf("%v, %v", err, w.kept(3, key))
		}
		if err := send(0, nodeID(1), 2, good); err != nil || len(w.kept(0, key)) > 0 || w.own(0, key) == nil {
			t.Errorf("a home: %v", err)
		}
	})
}

// TestSloppyPutFollowsTheRing: a stand-in that knows a newer ring record refuses,
// and the put is sent to the homes of that.
func TestSloppyPutFollowsTheRing(t *testing.T) {
	inWorld(t, 5, 3, func(w *world) {
		next := w.ring(3, 0, 1, 3, 4) // node 2 is no member any more
		key := w.keyWhere(func(key string) bool {
			return slices.Equal(slices.Sorted(slices.Values(w.homesIn(w.record, key))), []int{0, 1, 2}) && slices.Contains(w.homesIn(next, key), 0)
		})
		w.halt(2)
		w.halt(1)
		w.adopt(next, 3, 4)
		resp, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte("v"), Sloppy: true})
		if err != nil || resp.Receipt.Epoch != 3 {
			t.Errorf("%+v, %v", resp, err)
		}
	})
}

// TestWhoLeavesKeepsNothingForOthers: nor does who has left, whatever the sender's ring
// record says of it; the next member in order does.
func TestWhoLeavesKeepsNothingForOthers(t *testing.T) {
	inWorld(t, 6, 3, func(w *world) {
		const leaver = 3
		joined, err := w.ring(3, 0, 1, 2, 4, 5).WithJoin(w.members[leaver])
		if err != nil {
			t.Fatal(err)
		}
		leaves, err := joined.WithLeave(nodeID(leaver)) // before it was given anything
		if err != nil {
			t.Fatal(err)
		}
		gone, err := leaves.WithoutMember(nodeID(leaver))
		if err != nil {
			t.Fatal(err)
		}
		w.adopt(joined, w.everyone()...)
		key := w.keyWhere(func(key string) bool {
			p := joined.PartitionOf([]byte(key))
			return joined.HomeIndex(p, nodeID(0)) >= 0 && joined.HomeIndex(p, nodeID(1)) >= 0 && joined.Order(p)[3] == nodeID(leaver)
		})
		fourth := joined.Order(joined.PartitionOf([]byte(key)))[4]
		next := slices.IndexFunc(w.nodes, func(h *home) bool { return h.id == fourth })
		w.halt(1)
		for _, r := range []*ring.Record{leaves, gone} {
			w.adopt(r, leaver)
			value := fmt.Sprintf("at epoch %d", r.Epoch)
			resp, err := w.put(0, api.PutRequest{Key: []byte(key), Value: []byte(value), Sloppy: true, W: api.All})
			if err != nil || slices.Contains(resp.Receipt.Answered, nodeID(leaver)) || !slices.Contains(resp.Receipt.Answered, nodeID(next)) {
				t.Errorf("%s: %+v, %v", value, resp, err)
			}
			if kept := w.kept(leaver, key); len(kept) > 0 {
				t.Errorf("%s: it keeps %v", value, kept)
			}
			if kept := w.kept(next, key); kept[nodeID(1)] != value {
				t.Errorf("%s: the next in order keeps %v", value, kept)
			}
			if n := w.nodes[leaver].kv.Keeping() + w.nodes[next].kv.Keeping(); n != 0 {
				t.Errorf("%s: %d records are on their way still", value, n)
			}
		}
	})
}
