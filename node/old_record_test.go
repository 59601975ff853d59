package node_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/node"
	"github.com/kithdb/kith/rpc/api"
)

// cutFrom cuts machines off from others, both ways.
func (b *bubble) cutFrom(some, others []*box) {
	for _, x := range some {
		for _, y := range others {
			b.net.Cut(x.name, y.name)
			b.net.Cut(y.name, x.name)
		}
	}
}

// A directory is restored from a backup of before its node had slots. By the ring record
// in it the node keeps nothing, and so has lost nothing; by the newest one it is a home,
// and lacks what was acknowledged there. Its empty copy counts for no read before it was
// filled from enough others, though the first whom it meets knows the old record only.
func TestFault35_ABackupFromBeforeItsSlotsCountsForNothing(t *testing.T) {
	inBubble(t, 240, 8, 3, func(b *bubble) {
		b.found(4)
		x := b.box()
		x.change = func(c *node.Config) { c.Standby = true }
		x.start()
		b.until("all know that it is on standby", func() bool {
			return !slices.ContainsFunc(b.up(), func(y *box) bool { r := y.record(); return r == nil || r.Member(x.id) == nil })
		})
		x.stop()
		backup := x.disk.Snapshot()
		x.start()
		b.until("it is ready", x.ready)
		time.Sleep(10 * time.Second) // the members meet
		behind := b.boxes[3]
		behind.stop()
		b.boxes[0].must(api.ChangeRequest{Verb: api.VerbJoin, Member: x.name})
		r := b.settled(b.boxes...)

		// A key that two other machines are homes of, which run.
		var key string
		var homes []*box
		for _, key = range x.aloneAt(r) {
			homes = slices.DeleteFunc(slices.Clone(b.boxes[:3]), func(y *box) bool { return r.HomeIndex(r.PartitionOf([]byte(key)), y.id) < 0 })
			if len(homes) == 2 {
				break
			}
		}
		p := r.PartitionOf([]byte(key))
		if len(homes) != 2 {
			t.Fatalf("partition %d has homes %v", p, r.Homes(p))
		}
		with, without := homes[0], homes[1]
		rest := slices.DeleteFunc(slices.Clone(b.boxes[:3]), func(y *box) bool { return y == with })
		b.cutFrom([]*box{x, with}, rest)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := api.Put.Call(ctx, b.me, x.peer(), &api.PutRequest{Key: []byte(key), Value: []byte("v"), W: api.Quorum}); err != nil {
			t.Fatal(err)
		}
		with.kill()
		x.kill()
		x.disk.Restore(backup)
		b.cutFrom([]*box{behind}, rest)
		behind.start()
		x.start()
		time.Sleep(10 * time.Second) // it hears of the loss, and of no new record
		if held := x.record(); held.Epoch >= r.Epoch || !x.node.Store().Health().MetaLost {
			t.Fatalf("epoch %d, health %+v", held.Epoch, x.node.Store().Health())
		}
		b.net.Heal()
		reads := 0
		for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
			for _, y := range []*box{x, without} {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				resp, err := api.Get.Call(ctx, b.me, y.peer(), &api.GetRequest{Key: []byte(key), R: api.Quorum})
				cancel()
				if reads++; err == nil && len(resp.Values) == 0 {
					t.Fatalf("%v after it was met, %s does not find what was acknowledged", time.Since(start), y.name)
				}
			}
		}
		if held := x.record(); held.HomeIndex(p, x.id) < 0 || x.node.Store().CountsForRead(p) || reads < 20 {
			t.Fatalf("%d reads, epoch %d, counts %v", reads, held.Epoch, x.node.Store().CountsForRead(p))
		}
		with.start()
		b.until("it is filled", func() bool { return x.node.Store().CountsForRead(p) && x.ready() })
		x.wants(key, "v")
	})
}
