package node_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// committed hands over what became of a merge.
type committed chan error

// Committed implements store.MergeSink.
func (c committed) Committed(err error) { c <- err }

// bringBack puts a record on a machine's disk behind its back, as rot does.
func (x *box) bringBack(p ring.Partition, encoded []byte) {
	x.t.Helper()
	r, err := version.Parse(encoded)
	if err != nil {
		x.t.Fatal(err)
	}
	done := make(committed, 1)
	x.node.Store().Merge(&store.Merge{Partition: p, Record: r, Encoded: encoded, Sink: done})
	if err := <-done; err != nil {
		x.t.Fatal(err)
	}
}

// notHomeOf is a key of which a machine is no home.
func (x *box) notHomeOf() (key string, p ring.Partition) {
	r := x.record()
	for i := 0; ; i++ {
		key = fmt.Sprintf("k%d", i)
		if p = r.PartitionOf([]byte(key)); !r.Holds(p, x.id) {
			return key, p
		}
	}
}

// forgotten writes a key and deletes it, waits until all homes have forgotten that, and
// gives what they had before.
func (b *bubble) forgotten(key string) (old []byte) {
	b.t.Helper()
	x := b.boxes[0]
	r := x.record()
	p := r.PartitionOf([]byte(key))
	var homes []*box
	for _, y := range b.boxes {
		if r.HomeIndex(p, y.id) >= 0 {
			homes = append(homes, y)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := api.Put.Call(ctx, b.me, x.peer(), &api.PutRequest{Key: []byte(key), Value: []byte("old"), W: api.All}); err != nil {
		b.t.Fatal(err)
	}
	old, err := homes[0].node.Store().Get(p, []byte(key))
	if err != nil || old == nil {
		b.t.Fatalf("%d bytes, %v", len(old), err)
	}
	if _, err := api.Put.Call(ctx, b.me, x.peer(), &api.PutRequest{Key: []byte(key), Delete: true, W: api.All}); err != nil {
		b.t.Fatal(err)
	}
	b.until("all have forgotten the delete", func() bool {
		return !slices.ContainsFunc(homes, func(y *box) bool { return !y.empty(p) })
	})
	return old
}

// What is on a disk of a partition that its node does not keep goes when the node starts.
func TestRecordsOfPartitionsThatAreNotKeptAreDroppedAtTheStart(t *testing.T) {
	inBubble(t, 230, 8, 3, func(b *bubble) {
		b.found(5)
		x := b.boxes[4]
		key, p := x.notHomeOf()
		x.bringBack(p, b.forgotten(key))
		x.kill()
		x.start()
		b.until("it is gone", func() bool { return x.empty(p) && len(x.node.Store().Dropping()) == 0 })
		if n := x.node.Store().Stats().StandIns; n > 0 {
			t.Errorf("%d records are kept for homes that have forgotten them", n)
		}
	})
}

// A value that was deleted and forgotten lies on a disk once more. When its partition is
// moved there it goes with the record that begins the move, and nobody ever reads it.
func TestAMoveBringsNothingBackThatWasForgotten(t *testing.T) {
	inBubble(t, 231, 8, 3, func(b *bubble) {
		b.found(4)
		x := b.boxes[3]
		key, p := x.notHomeOf()
		x.bringBack(p, b.forgotten(key))
		b.boxes[0].must(api.ChangeRequest{Verb: api.VerbWeight, Member: x.name, Number: 9})
		home := false
		for start := time.Now(); !home || time.Since(start) < 5*time.Second; time.Sleep(3 * time.Millisecond) {
			if r := x.record(); r != nil && r.Holds(p, x.id) {
				home = home || r.HomeIndex(p, x.id) >= 0
				if found, err := x.node.Store().Get(p, []byte(key)); err == nil && found != nil {
					t.Fatalf("%v after the move was asked for, %s holds what was forgotten", time.Since(start), x.name)
				}
			}
			for _, y := range b.boxes {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				resp, err := api.Get.Call(ctx, b.me, y.peer(), &api.GetRequest{Key: []byte(key), R: api.One})
				cancel()
				if err == nil && len(resp.Values) > 0 {
					t.Fatalf("%s reads %q, which was deleted", y.name, resp.Values[0].Data)
				}
			}
			if time.Since(start) > 5*time.Minute {
				t.Fatalf("partition %d does not come to %s%s", p, x.name, b.story())
			}
		}
	})
}
