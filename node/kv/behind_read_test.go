package kv

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim/disk"
	"github.com/kithdb/kith/store"
)

// noRing is a node that belongs to no cluster.
type noRing struct{}

func (noRing) Current() *ring.Record                         { return nil }
func (noRing) Learn(context.Context, rpc.Peer, uint64) error { return api.ErrNotReady }
func (noRing) Changed() <-chan struct{}                      { return nil }
func (noRing) Founding() (have, want int)                    { return 0, 0 }

// caughtUp says that copies count.
type caughtUp struct{ atomic.Bool }

func (c *caughtUp) Counts(ring.Partition) bool { return c.Load() }

// TestACopyThatWasReadBeforeItCountedDoesNotCount: what is brought while a copy waits for
// the disk does not say that the copy has it.
func TestACopyThatWasReadBeforeItCountedDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(disk.New(1).Open(), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			time.Sleep(3 * time.Second) // goleveldb's pools end a while after Close
		}()
		repair := new(caughtUp)
		c := &Coordinator{cfg: Config{Store: s, Rings: noRing{}, Repair: repair, Pulled: s.Pulled}}
		for i, want := range []error{api.ErrNotReady, nil} {
			told := make(chan error, 1)
			c.readOwn(0, []byte("k"), fullRead(func(_ []byte, err error) {
				repair.Store(true) // it has caught up by now
				told <- c.vouch(0, 0, err)
			}))
			if err := <-told; !errors.Is(err, want) {
				t.Errorf("read %d: %v, want %v", i, err, want)
			}
		}
	})
}
