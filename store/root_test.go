package store

import (
	"testing"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// A root that is remembered is that of the leaves as they are, whatever has changed
// them since it was asked for last.
func TestRememberedRootIsThatOfTheLeaves(t *testing.T) {
	const p = ring.Partition(3)
	trees := newTrees()
	round := trees.reset(nil)
	last := version.Digest{}
	look := func(what string) {
		t.Helper()
		tree, _, _ := trees.copyOf(p)
		again, _, _ := trees.copyOf(p)
		plain := Tree{Leaves: tree.Leaves}
		if tree.Root() != plain.Root() || again.Root() != plain.Root() {
			t.Errorf("%s: the root is %x, of the leaves %x", what, tree.Root(), plain.Root())
		}
		if plain.Root() == last {
			t.Errorf("%s: the root is what it was", what)
		}
		last = plain.Root()
	}
	look("no tree")
	trees.found(round, p, 1<<24, version.Digest{1})
	look("a record that a scan found")
	trees.scanned(round)
	record := version.Record{Key: []byte("k"), Seen: version.Context{{Actor: 1, Seq: 1}},
		Siblings: []version.Sibling{{Dot: version.Dot{Actor: 1, Seq: 1}, Tombstone: true}}}
	trees.publish([]written{{entry: &entry{encoded: record.Append(nil)}, partition: p, hash: 2 << 24}})
	look("a record that was written")
	_, doubt, ok := trees.begin(p)
	if !ok {
		t.Fatal("a rebuild cannot begin")
	}
	trees.found(round, p, 5<<24, version.Digest{7}) // as if a batch came in between
	look("a rebuild that began")
	trees.add(round, doubt, p, &Tree{Leaves: [TreeLeaves]Sum{9: {High: 1, Low: 2}}})
	look("a rebuild that has read something")
	full := Tree{Leaves: [TreeLeaves]Sum{4: {High: 5}}}
	trees.reset(map[ring.Partition]*Tree{p: &full})
	look("a tree that a close left")
	trees.reset(nil)
	look("none again")
}
