package node

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
)

// halfway is a node with a store alone, which was told to replace a member.
func halfway(t *testing.T, disk storage.Storage, replace string) *Node {
	t.Helper()
	s, err := store.Open(disk, store.Options{Now: time.Now, Logger: slog.New(slog.DiscardHandler), Rand: newChance(1).Uint64})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{store: s, id: ring.NodeID{1}, cfg: Config{Replace: replace, Logger: slog.New(slog.DiscardHandler)}}
	if n.replacement, err = openReplacement(n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *Node) vouches() bool { return n.replacement.unsure() == nil && n.store.CountsForRead(7) }

// At whatever step the process dies, the next life counts for no read before its
// copies are filled.
func TestAReplacementThatDiesOnItsWayCountsForNoRead(t *testing.T) {
	disk := storage.NewMemStorage()
	old := strings.Repeat("ab", 16)
	n := halfway(t, disk, old)
	for step, move := range []func() error{
		func() error { return nil },                    // it dies before it has its place
		func() error { return n.replacement.settle() }, // and once it has it
		func() error { return nil },
	} {
		if n.vouches() || !n.store.Health().LossyAll || n.lost() != nil {
			t.Fatalf("step %d: counts %v, health %+v, votes lost %v", step, n.vouches(), n.store.Health(), n.lost())
		}
		if err := move(); err != nil {
			t.Fatal(err)
		}
		if err := n.store.Close(); err != nil {
			t.Fatal(err)
		}
		n = halfway(t, disk, "") // what it was told is on its disk
	}
	if n.replacement.pending.Load() || n.replacement.old != "" {
		t.Errorf("it is still about to replace %q", n.replacement.old)
	}
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestALossBesideTheReplacementSilencesAKeeper(t *testing.T) {
	n := halfway(t, storage.NewMemStorage(), "abababab")
	defer n.store.Close()
	if err := n.lost(); err != nil {
		t.Fatalf("who never had anything has lost votes: %v", err)
	}
	if err := n.replacement.unsure(); !errors.Is(err, api.ErrNotReady) {
		t.Fatalf("it counts for reads: %v", err)
	}
	if err := n.store.DeclareLoss("the directory was restored"); err != nil {
		t.Fatal(err)
	}
	if n.lost() == nil {
		t.Error("a keeper that has lost votes votes")
	}
}
