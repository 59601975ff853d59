package kv_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// A node that drains answers what is under way, refuses what clients ask then, and goes
// on as a home of what others coordinate.
func TestDrainAnswersWhatIsUnderWayAndTakesNothingNew(t *testing.T) {
	inWorld(t, 3, 3, func(w *world) {
		c := w.nodes[0].kv
		told := make(outcomes, 10)
		for _, other := range w.nodes[1:] {
			w.net.Cut(w.nodes[0].host.Name(), other.host.Name())
		}
		c.Put(&api.PutRequest{Key: []byte("k"), Value: []byte("v")}, time.Now().Add(5*time.Second), told)
		time.Sleep(100 * time.Millisecond)
		soon, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if left, err := c.Drain(soon); left != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after a second %d are left: %v", left, err)
		}
		if len(told) != 0 {
			t.Errorf("what is under way was answered with %v", <-told)
		}
		if left, err := c.Drain(context.Background()); left != 0 || err != nil || len(told) != 1 {
			t.Errorf("drained with %d left and %d answered: %v", left, len(told), err)
		}
		w.net.Heal()
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		if _, err := api.Put.Call(ctx, w.client, w.nodes[0].peer, &api.PutRequest{Key: []byte("k"), Value: []byte("v")}); !errors.Is(err, api.ErrNotReady) {
			t.Errorf("a put of a client: %v", err)
		}
		if _, err := api.Get.Call(ctx, w.client, w.nodes[0].peer, &api.GetRequest{Key: []byte("k")}); !errors.Is(err, api.ErrNotReady) {
			t.Errorf("a get of a client: %v", err)
		}
		if _, err := api.PutAll.Call(ctx, w.client, w.nodes[0].peer, &api.PutAllRequest{Puts: []api.PutRequest{{Key: []byte("k")}}}); !errors.Is(err, api.ErrNotReady) {
			t.Errorf("puts of a client: %v", err)
		}
		if _, err := api.GetAll.Call(ctx, w.client, w.nodes[0].peer, &api.GetAllRequest{Keys: [][]byte{[]byte("k")}}); !errors.Is(err, api.ErrNotReady) {
			t.Errorf("gets of a client: %v", err)
		}
		if _, err := api.Scan.Call(ctx, w.client, w.nodes[0].peer, &api.ScanRequest{}); !errors.Is(err, api.ErrNotReady) {
			t.Errorf("a scan of a client: %v", err)
		}
		if _, err := api.Put.Call(ctx, w.client, w.nodes[1].peer, &api.PutRequest{Key: []byte("k"), Value: []byte("w"), W: api.All}); err != nil {
			t.Errorf("a put to all homes by another node: %v", err)
		}
	})
}
