package gossip

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
)

func peerAt(n byte, addr string, cluster ring.ClusterID) Peer {
	return Peer{ID: nodeID(n), GossipAddr: addr, Alive: true, State: State{Cluster: cluster}}
}

func TestTheBookKeepsTheNewestAddressesFirstAndAFew(t *testing.T) {
	b := newPeerBook(nodeID(1), nil)
	now := time.Unix(1000, 0)
	for i := range 10 {
		b.meet(&View{Peers: []Peer{peerAt(2, fmt.Sprintf("10.0.0.%d:1", i), clusterID(1))}}, clusterID(1), now)
	}
	b.meet(&View{Peers: []Peer{peerAt(2, "10.0.0.8:1", clusterID(1))}}, clusterID(1), now)
	want := []string{"10.0.0.8:1", "10.0.0.9:1", "10.0.0.7:1", "10.0.0.6:1"}
	if all := b.all(); len(all) != 1 || !slices.Equal(all[0].Addrs, want) || !all[0].Seen.Equal(now) {
		t.Errorf("book: %+v", all)
	}
}

func TestTheBookDropsStrangersButNeverMembers(t *testing.T) {
	b := newPeerBook(nodeID(1), nil)
	now := time.Unix(1000, 0)
	b.meet(&View{Peers: []Peer{
		peerAt(1, "10.0.0.1:1", clusterID(1)), // itself
		peerAt(2, "10.0.0.2:1", clusterID(1)),
		peerAt(3, "10.0.0.3:1", ring.ClusterID{}),
	}}, clusterID(1), now)
	if len(b.all()) != 2 {
		t.Fatalf("book: %+v", b.all())
	}
	now = now.Add(strangerTime + time.Second)
	b.meet(&View{}, ring.ClusterID{}, now)
	if len(b.all()) != 2 {
		t.Error("a newcomer dropped its fellow newcomers")
	}
	b.meet(&View{}, clusterID(1), now.Add(1000*time.Hour))
	if all := b.all(); len(all) != 1 || all[0].ID != nodeID(2) {
		t.Errorf("book: %+v", all)
	}
}

func TestAForgottenMemberNeverComesBackIntoTheBook(t *testing.T) {
	b := newPeerBook(nodeID(1), []Entry{{ID: nodeID(2), Addrs: []string{"10.0.0.2:1"}, Cluster: clusterID(1)}})
	b.forget(nodeID(2))
	if saved := b.toSave(time.Unix(1, 0)); saved == nil || len(saved) != 0 {
		t.Errorf("to save: %+v", saved)
	}
	b.meet(&View{Peers: []Peer{peerAt(2, "10.0.0.2:1", clusterID(1))}}, clusterID(1), time.Unix(2, 0))
	if len(b.all()) != 0 || !b.isForgotten(nodeID(2)) {
		t.Errorf("book: %+v", b.all())
	}
}

func TestTheBookIsBoundedAndDropsTheLongestUnseen(t *testing.T) {
	var loaded []Entry
	for i := range EntriesMax + 10 {
		id := ring.NodeID{0: byte(i >> 8), 1: byte(i), 15: 2}
		loaded = append(loaded, Entry{ID: id, Addrs: make([]string, 9), Seen: time.Unix(int64(i), 0)})
	}
	b := newPeerBook(nodeID(1), loaded)
	all := b.all()
	if len(all) != EntriesMax {
		t.Fatalf("%d entries", len(all))
	}
	for _, e := range all {
		if e.Seen.Unix() < 10 || len(e.Addrs) > AddrsMax {
			t.Fatalf("kept %+v", e)
		}
	}
}

func TestTheBookIsWrittenForNewsOnly(t *testing.T) {
	b := newPeerBook(nodeID(1), nil)
	now := time.Unix(1e9, 0)
	v := &View{Peers: []Peer{peerAt(2, "10.0.0.2:1", clusterID(1))}}
	b.meet(v, clusterID(1), now)
	if b.toSave(now) == nil {
		t.Fatal("a new peer is not written")
	}
	b.meet(v, clusterID(1), now.Add(time.Minute))
	if b.toSave(now) != nil {
		t.Error("no news, and written")
	}
	b.meet(v, clusterID(1), now.Add(seenRefresh+time.Second))
	if b.toSave(now) == nil {
		t.Error("the time last seen is never written")
	}
	b.saveFailed()
	if b.toSave(now) == nil {
		t.Error("a failed write is not tried again")
	}
}
