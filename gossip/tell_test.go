package gossip

import (
	"fmt"
	"testing"
	"time"
)

// A change of state goes out in a handful of packets, and may be lost with them,
// or in memberlist itself: where it replaces the only change that waits there, the
// numbers of those after it begin anew, and one of equal length and number takes
// its place. Only an exchange of whole states with some random node, every 30 s,
// would bring it then: a founding cluster stood still for so long.
func TestAStateWhosePacketsAreAllLostIsKnownSoon(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, seed, func(w *world) {
				members := []byte{1, 2, 3, 4, 5}
				for _, n := range members {
					w.start(n, 1)
				}
				w.all(time.Minute, members...)
				time.Sleep(10 * time.Second)
				w.net.lose(1)
				news := State{Cluster: clusterID(1), Epoch: 3, Ready: "ready"}
				w.nodes[4].Announce(news)
				time.Sleep(900 * time.Millisecond)
				w.net.lose(0)
				for _, n := range members {
					waitView(t, w.nodes[n], "the state of node 4", 8*time.Second, func(v *View) bool {
						return v.Peer(nodeID(4)).State == news
					})
				}
			})
		})
	}
}
