package node

import (
	"testing"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
)

func TestStatusListsNobodyWhoWasReplaced(t *testing.T) {
	gone, newcomer := ring.NodeID{1}, ring.NodeID{2}
	r := &ring.Record{Banned: []ring.NodeID{gone}}
	for _, c := range []struct {
		peer gossip.Peer
		r    *ring.Record
		want bool
	}{
		{gossip.Peer{ID: gone, Alive: true}, r, false},
		{gossip.Peer{ID: newcomer, Alive: true}, r, true},
		{gossip.Peer{ID: newcomer}, r, false},
		{gossip.Peer{ID: newcomer, Alive: true}, nil, true},
	} {
		if got := joining(&c.peer, c.r); got != c.want {
			t.Errorf("%s, alive %v: %v, want %v", c.peer.ID.Short(), c.peer.Alive, got, c.want)
		}
	}
}
