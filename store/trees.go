package store

import (
	"sync"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// trees are the hash trees of all partitions. They hold exactly what is
// published: every batch takes the old leaves of its records away and adds the
// new ones. What was on disk before comes from a clean close, or from a scan of a
// snapshot to which the batches since then are added as they come; sums do not
// mind the order.
type trees struct {
	mu   sync.Mutex // guards what follows
	byID [ring.SlotCount]*growing
	// round counts how often all trees were begun anew; a scan that began in
	// an earlier round adds nothing.
	round uint64
	// whole says that the scan of this round is over.
	whole bool
	// doubtful are partitions whose tree is not to be trusted, with a number
	// of the doubt: a rebuild ends only the doubt that it began with.
	doubtful map[ring.Partition]uint64
	doubts   uint64
	changes  uint64
	// dropped are partitions of which the scan of this round tells nothing.
	dropped map[ring.Partition]struct{}
}

// growing is the tree of one partition.
type growing struct {
	Tree
	changes uint64 // value of trees.changes when it changed last
}

func newTrees() *trees {
	return &trees{doubtful: make(map[ring.Partition]uint64), dropped: make(map[ring.Partition]struct{})}
}

// of returns the tree of a partition, making an empty one, for somebody who changes
// it. t.mu is held.
func (t *trees) of(p ring.Partition) *growing {
	g := t.byID[p]
	if g == nil {
		g = new(growing)
		t.byID[p] = g
	}
	t.changes++
	g.changes = t.changes
	g.rooted = false
	return g
}

// reset forgets all trees, or puts those in their place that a close left. It
// returns the round that a scan has to name.
func (t *trees) reset(loaded map[ring.Partition]*Tree) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.byID[:])
	clear(t.doubtful)
	clear(t.dropped)
	t.round++
	t.whole = loaded != nil
	for p, tree := range loaded {
		t.of(p).Tree = *tree
	}
	return t.round
}

// found adds a record that the scan of a round has read.
func (t *trees) found(round uint64, p ring.Partition, hash uint32, leaf version.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, dropped := t.dropped[p]; t.round == round && !dropped {
		t.of(p).Leaves[leafOf(hash)].add(leaf)
	}
}

// drop empties the tree of a partition that is being dropped. What a scan or a rebuild
// that is under way has read of it counts no longer.
func (t *trees) drop(p ring.Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropped[p] = struct{}{}
	delete(t.doubtful, p)
	if t.byID[p] != nil {
		t.of(p).Tree = Tree{}
	}
}

// add adds what the rebuild of one partition has read, unless that is void by
// now.
func (t *trees) add(round, doubt uint64, p ring.Partition, part *Tree) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.round != round || t.doubtful[p] != doubt {
		return
	}
	g := t.of(p)
	for i, s := range part.Leaves {
		g.Leaves[i].add(s.digest())
	}
}

// scanned ends the scan of a round. Partitions that could not be read are
// doubtful already.
func (t *trees) scanned(round uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.round == round {
		t.whole = true
	}
}

// publish follows the records of a batch that is on disk.
func (t *trees) publish(records []written) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range records {
		w := &records[i]
		leaf := version.LeafOf(w.encoded)
		if leaf == w.old {
			continue
		}
		sum := &t.of(w.partition).Leaves[leafOf(w.hash)]
		sum.sub(w.old)
		sum.add(leaf)
	}
}

// doubt says that the tree of a partition cannot be trusted until it was rebuilt.
func (t *trees) doubt(p ring.Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubts++
	t.doubtful[p] = t.doubts
}

// doubted says that the tree of a partition is not to be trusted.
func (t *trees) doubted(p ring.Partition) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doubtful[p] != 0
}

// begin empties the tree of a partition for a rebuild. ok is false while the scan
// of all is not over.
func (t *trees) begin(p ring.Partition) (round, doubt uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.whole {
		return 0, 0, false
	}
	t.doubts++
	t.doubtful[p] = t.doubts
	t.of(p).Tree = Tree{}
	return t.round, t.doubts, true
}

// rebuilt ends a rebuild that read everything.
func (t *trees) rebuilt(round, doubt uint64, p ring.Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.round == round && t.doubtful[p] == doubt {
		delete(t.doubtful, p)
		t.of(p) // what was untrusted may have been seen
	}
}

// copyOf copies the tree of a partition.
func (t *trees) copyOf(p ring.Partition) (tree *Tree, changes uint64, ok bool) {
	tree = &Tree{root: emptyRoot, rooted: true}
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.byID[p]; g != nil {
		if !g.rooted { // audits ask for it again and again
			g.root, g.rooted = g.Root(), true
		}
		*tree, changes = g.Tree, g.changes
	}
	_, doubtful := t.doubtful[p]
	return tree, changes, t.whole && !doubtful
}

// used is one more than the highest partition with a record, and whether that is
// certain.
func (t *trees) used() (partitions int, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.byID)
	for n > 0 && t.byID[n-1] == nil {
		n--
	}
	return n, t.whole
}

// trusted says that no tree is in doubt.
func (t *trees) trusted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.whole && len(t.doubtful) == 0
}

// TreeOf is a copy of the partition's hash tree, and a number that changes with
// it while the store is open. ok is false while the tree cannot be trusted: it
// is being built, or the partition is damaged or being dropped.
func (s *Store) TreeOf(p ring.Partition) (tree *Tree, changes uint64, ok bool) {
	if p >= ring.SlotCount {
		return new(Tree), 0, false
	}
	if s.drops.busy(p) {
		return new(Tree), 0, false
	}
	return s.trees.copyOf(p)
}
