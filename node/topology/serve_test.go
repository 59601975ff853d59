package topology

import (
	"context"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc"
)

// The store of a member takes a record a moment before the member holds it, and may
// refuse by it already. Whoever was refused, and asks that member for its record, gets
// the new one and not the word that there is none.
func TestWhoAsksDuringAnAdoptionGetsTheNewRecord(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		nodes := w.founded(3, 3)
		held := w.agree(2, nodes...)
		n := nodes[1]
		n.disk.mu.Lock()
		n.disk.slow = time.Second
		n.disk.mu.Unlock()
		next, err := held.WithStandby(guest(1))
		if err != nil {
			t.Fatal(err)
		}
		adopted := make(chan error)
		go func() { adopted <- n.Adopt(t.Context(), next.Encode()) }()
		time.Sleep(500 * time.Millisecond)
		if n.Current().Epoch != held.Epoch {
			t.Fatal("the adoption took no time")
		}
		resp, err := n.servePull(t.Context(), rpc.Peer{ID: nodes[0].id}, &pullRequest{Cluster: held.Cluster, Epoch: held.Epoch})
		if err != nil || resp.Epoch != next.Epoch || len(resp.Record) == 0 {
			t.Errorf("who asks meanwhile gets epoch %v, %v", resp, err)
		}
		if err := <-adopted; err != nil {
			t.Error(err)
		}
		// Nobody waits for longer than it has time.
		late, err := next.WithStandby(guest(2))
		if err != nil {
			t.Fatal(err)
		}
		go func() { adopted <- n.Adopt(t.Context(), late.Encode()) }()
		time.Sleep(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := n.servePull(ctx, rpc.Peer{ID: nodes[0].id}, &pullRequest{Cluster: held.Cluster, Epoch: next.Epoch}); err == nil {
			t.Error("who has no time gets an answer")
		}
		if err := <-adopted; err != nil {
			t.Error(err)
		}
	})
}
