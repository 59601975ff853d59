package antientropy

import (
	"errors"
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// lazyClock is a store that cannot put its clock on disk.
type lazyClock struct{ Store }

var errLazy = errors.New("the clock is not on disk")

func (lazyClock) Incorporate(ring.Partition, store.DotSet, uint64) error { return errLazy }

// Others purge because of what a home confirms: a crash must not leave it with a
// clock that claims less.
func TestWhatIsConfirmedIsOnDiskFirst(t *testing.T) {
	inWorld(t, worldOptions{tune: soonForgetting}, func(w *world) {
		w.write(0, "k", "v")
		w.remove(0, "k")
		w.quiet()
		r := w.nodes[0].repair
		asked := []deadKey{{Key: []byte("k"), Leaf: version.Digest{}, Seen: nil}}
		if _, err := r.confirmHere(w.partitionOf("k"), asked); err != nil {
			t.Fatal(err)
		}
		cfg := r.cfg
		cfg.Store = lazyClock{r.cfg.Store}
		if _, err := New(cfg).confirmHere(w.partitionOf("k"), asked); !errors.Is(err, errLazy) {
			t.Fatalf("confirmed with %v", err)
		}
	})
}
