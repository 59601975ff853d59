package kv_test

import (
	"testing"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store/version"
)

// What a read tells the other homes counts for nothing, and leaves nothing at one that
// has dropped the partition meanwhile: there it would stay for ever.
func TestALateRepairLeavesNothingWhereItsPartitionWasDropped(t *testing.T) {
	for _, dropped := range []bool{false, true} {
		inWorld(t, 3, 3, func(w *world) {
			const key = "k"
			p := w.record.PartitionOf([]byte(key))
			w.mustPut(0, key, "v", nil)
			time.Sleep(time.Second)
			if dropped {
				// Its record is on disk, and the node has not been told yet.
				err := w.nodes[2].store.Adopt(w.record.Encode(), func(q ring.Partition) uint64 {
					if q == p {
						return w.record.Epoch + 1
					}
					return w.record.Since[q]
				}, w.record.Partitions, []ring.Partition{p})
				if err != nil {
					w.t.Fatal(err)
				}
				for len(w.nodes[2].store.Dropping()) > 0 {
					time.Sleep(time.Millisecond)
				}
			}
			w.keep(0, moving{key: key, p: p}, "w")
			read := false
			for i := range 8 {
				// One that asks node 2 finds its fence.
				_, err := w.get(i%2, key, api.Quorum)
				read = read || err == nil
				time.Sleep(time.Second)
			}
			if kept := w.own(2, key); !read || dropped != (kept == nil) || !dropped && !kept.Seen.Covers(version.Dot{Actor: 77, Seq: 1}) {
				w.t.Fatalf("dropped: %v, read: %v, and there is %v", dropped, read, kept)
			}
		})
	}
}
