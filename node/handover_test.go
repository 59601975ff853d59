package node_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// isolate cuts a machine off from all others, but not from clients.
func (x *box) isolate() {
	for _, o := range x.boxes {
		if o != x {
			x.net.Cut(x.name, o.name)
			x.net.Cut(o.name, x.name)
		}
	}
}

// putOne writes a key through a machine, for its acknowledgement alone.
func (x *box) putOne(key, value string) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := api.Put.Call(ctx, x.me, x.peer(), &api.PutRequest{Key: []byte(key), Value: []byte(value), W: api.One}); err != nil {
		x.t.Fatalf("seed %d: put %s at %s: %v", x.seed, key, x.name, err)
	}
}

// wants reads a key from a machine at all homes, until it is what it should be.
func (x *box) wants(key, value string) {
	x.t.Helper()
	x.until(fmt.Sprintf("%s reads %s as %s", x.name, key, value), func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		resp, err := api.Get.Call(ctx, x.me, x.peer(), &api.GetRequest{Key: []byte(key), R: api.All})
		return err == nil && len(resp.Values) == 1 && string(resp.Values[0].Data) == value
	})
}

// aloneAt are keys of which a machine is a home, one of each of its partitions.
func (x *box) aloneAt(r *ring.Record) (keys []string) {
	seen := map[ring.Partition]bool{}
	for i := 0; len(seen) < r.HomeCount(x.id); i++ {
		key := fmt.Sprintf("alone-%d", i)
		if p := r.PartitionOf([]byte(key)); r.HomeIndex(p, x.id) >= 0 && !seen[p] {
			seen[p] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// A member is asked to leave and is cut off at once. What it acknowledges alone meanwhile
// is not lost with its slots, which move without it: it leaves when others have that.
func TestWhoLeavesHandsOverWhatItAloneHolds(t *testing.T) {
	for seed := range uint64(3) {
		inBubble(t, 210+seed, 8, 3, func(b *bubble) {
			b.found(5)
			leaver := b.boxes[4]
			rng := rand.New(rand.NewPCG(seed, 1))
			keys := leaver.aloneAt(leaver.record())
			b.boxes[0].must(api.ChangeRequest{Verb: api.VerbLeave, Member: leaver.name})
			leaver.isolate()
			for _, key := range keys {
				leaver.putOne(key, "v")
			}
			b.until("its slots have moved", func() bool {
				r := b.boxes[0].record()
				return r != nil && r.HomeCount(leaver.id) == 0 && len(r.Moves) == 0
			})
			if seed > 0 { // it is killed while it hands over
				leaver.kill()
				leaver.start()
			}
			b.net.Heal()
			for range 3 * seed {
				time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Second))))
				select {
				case <-leaver.node.Done():
				default:
					leaver.kill()
					leaver.start()
				}
			}
			<-leaver.node.Done()
			b.settled(b.boxes[:4]...)
			for _, x := range b.boxes[:4] {
				for _, key := range keys {
					x.wants(key, "v")
				}
			}
		})
	}
}

// Who cannot hand over stays, and says what for.
func TestWhoHasSomethingToHandOverStays(t *testing.T) {
	inBubble(t, 220, 8, 3, func(b *bubble) {
		b.found(5)
		leaver := b.boxes[4]
		r := leaver.record()
		keys := leaver.aloneAt(r)
		b.boxes[0].must(api.ChangeRequest{Verb: api.VerbLeave, Member: leaver.name})
		leaver.isolate()
		for _, key := range keys {
			leaver.putOne(key, "v")
		}
		b.until("its slots have moved", func() bool {
			r := b.boxes[0].record()
			return r != nil && r.HomeCount(leaver.id) == 0 && len(r.Moves) == 0
		})
		for _, x := range b.boxes[1:4] {
			x.kill()
		}
		b.net.Heal() // the record comes, and no majority of most partitions' homes is there
		b.until("it knows that it has no slots", func() bool {
			r := leaver.record()
			return r != nil && r.HomeCount(leaver.id) == 0
		})
		time.Sleep(2 * time.Minute)
		if left := leaver.node.Store().Dropping(); len(left) == 0 {
			t.Error("all was let go")
		}
		for _, x := range b.boxes[1:4] {
			x.start()
		}
		<-leaver.node.Done()
		b.settled(b.boxes[:4]...)
		for _, key := range keys {
			b.boxes[0].wants(key, "v")
		}
	})
}
