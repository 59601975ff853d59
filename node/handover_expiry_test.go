package node_test

import (
	"context"
	"testing"
	"time"

	"github.com/kithdb/kith/rpc/api"
)

// putUntil writes a key through a machine, for its acknowledgement alone, with a time to
// live.
func (x *box) putUntil(key, value string, ttl time.Duration) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req := &api.PutRequest{Key: []byte(key), Value: []byte(value), W: api.One, TTL: uint64(ttl.Milliseconds())}
	if _, err := api.Put.Call(ctx, x.me, x.peer(), req); err != nil {
		x.t.Fatalf("seed %d: put %s at %s: %v", x.seed, key, x.name, err)
	}
}

// shows is what a machine reads of a key at all homes, empty for nothing.
func (x *box) shows(key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	resp, err := api.Get.Call(ctx, x.me, x.peer(), &api.GetRequest{Key: []byte(key), R: api.All})
	if err != nil || len(resp.Values) == 0 {
		return "", err
	}
	return string(resp.Values[0].Data), nil
}

// What is handed over keeps its time to live. What has expired by then takes with it what
// it had replaced, and nothing of it is left in the end.
func TestWhatIsHandedOverExpiresAtItsTime(t *testing.T) {
	inBubble(t, 250, 8, 3, func(b *bubble) {
		b.found(5)
		leaver := b.boxes[4]
		keys := leaver.aloneAt(leaver.record())
		if len(keys) < 2 {
			t.Fatalf("the leaver is a home of %d partitions", len(keys))
		}
		past, living := keys[0], keys[1]
		leaver.putOne(past, "replaced")
		b.boxes[0].wants(past, "replaced")
		b.boxes[0].must(api.ChangeRequest{Verb: api.VerbLeave, Member: leaver.name})
		leaver.isolate()
		leaver.putUntil(past, "short", 20*time.Second)
		leaver.putUntil(living, "long", 10*time.Minute)
		over := time.Now().Add(10 * time.Minute)
		b.until("its slots have moved", func() bool {
			r := b.boxes[0].record()
			return r != nil && r.HomeCount(leaver.id) == 0 && len(r.Moves) == 0
		})
		time.Sleep(30 * time.Second)
		if v, err := b.boxes[0].shows(past); err != nil || v != "replaced" {
			t.Fatalf("before the handing over: %q, %v", v, err)
		}
		b.net.Heal()
		<-leaver.node.Done()
		r := b.settled(b.boxes[:4]...)
		if time.Until(over) < time.Minute {
			t.Fatal("it took too long to see anything")
		}
		for _, x := range b.boxes[:4] {
			if v, err := x.shows(past); err != nil || v != "" {
				t.Errorf("%s reads %q of what has expired, %v", x.name, v, err)
			}
			x.wants(living, "long")
		}
		time.Sleep(time.Until(over.Add(-5 * time.Second)))
		b.boxes[0].wants(living, "long")
		time.Sleep(time.Until(over.Add(5 * time.Second)))
		for _, x := range b.boxes[:4] {
			if v, err := x.shows(living); err != nil || v != "" {
				t.Errorf("%s reads %q past its time, %v", x.name, v, err)
			}
		}
		b.until("all is forgotten", func() bool {
			for _, x := range b.boxes[:4] {
				if !x.empty(r.PartitionOf([]byte(past))) || !x.empty(r.PartitionOf([]byte(living))) {
					return false
				}
			}
			return true
		})
	})
}
