package network_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/network"
)

// The news of a process's end may be late. Whoever sends to a machine that runs
// learns by the answer that nobody knows the connection any more.
func TestConnectionToAnEndedProcessBreaksWithTheNextPacket(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		first := w.server(1, peer(1))
		if _, _, err := w.call(peer(1), "warm", time.Second); err != nil {
			t.Fatal(err)
		}
		w.SetLink("s1", "client", network.Link{Late: 1, LateBy: 1000 * time.Hour})
		first.Crash()
		time.Sleep(time.Second)
		w.SetLink("s1", "client", network.Link{Latency: time.Millisecond})
		w.server(1, peer(1))
		if _, _, err := w.call(peer(1), "lost", time.Second); err == nil {
			t.Fatal("an ended process has answered")
		}
		if _, _, err := w.call(peer(1), "again", time.Second); err != nil {
			t.Fatalf("the connection to the ended process is still used: %v", err)
		}
	})
}

// A process may end while it is asked which cluster it belongs to.
func TestHandshakeWithAnEndedProcessBeginsAnew(t *testing.T) {
	bubble(t, network.Config{}, func(t *testing.T, w *world) {
		w.client.SetCluster(func() ring.ClusterID { return ring.ClusterID{1} })
		first := w.server(1, peer(1))
		first.SetCluster(func() ring.ClusterID {
			first.Crash()
			w.server(1, peer(1))
			return ring.ClusterID{1}
		})
		if _, _, err := w.call(peer(1), "hello", time.Second); err != nil {
			t.Fatal(err)
		}
	})
}
