package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/store/version"
)

// rebuilds are the trees that are to be built anew while the store is open, one
// after the other. They belong to the committer: it begins one between two
// batches, when the database holds exactly what was published.
type rebuilds struct {
	waiting []ring.Partition
	running bool
}

// rebuildTree has a partition's tree built anew from its records, if it is not to
// be trusted.
func (c *committer) rebuildTree(p ring.Partition) {
	if c.trees.doubted(p) && !slices.Contains(c.rebuilds.waiting, p) {
		c.rebuilds.waiting = append(c.rebuilds.waiting, p)
	}
}

// rebuildRetry is the wait where the process lacks what reading takes.
const rebuildRetry = time.Second

// sleep waits, unless the store is closed.
func (s *Store) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
		return false
	}
}

// startRebuild begins the next rebuild, if none runs and nothing is being
// written.
func (c *committer) startRebuild() {
	r := &c.rebuilds
	if len(r.waiting) == 0 || r.running || c.writing != nil || c.failed != nil || c.closing {
		return
	}
	p := r.waiting[0]
	round, doubt, ok := c.trees.begin(p)
	if !ok {
		return // the scan of all comes first
	}
	r.waiting = r.waiting[1:]
	snapshot, err := c.engine.db.GetSnapshot()
	if err != nil {
		c.logger.Warn("hash tree cannot be rebuilt", "partition", p, "error", err)
		return
	}
	r.running = true
	b := rebuild{Store: c.Store, engine: c.engine, snapshot: snapshot, partition: p, round: round, doubt: doubt}
	c.background.Go(b.run)
}

// rebuild is one rebuild under way.
type rebuild struct {
	*Store
	engine       *engine
	snapshot     *leveldb.Snapshot
	partition    ring.Partition
	round, doubt uint64
}

// run adds up the leaves of a snapshot; what is published since is added by the
// committer.
func (r *rebuild) run() {
	defer r.snapshot.Release()
	// Whatever comes of it, the next one may begin.
	defer func() { r.intake.push(item{ctl: &control{built: true, done: make(chan error, 1)}}) }()
	span := util.BytesPrefix(appendDataKey(nil, r.partition, nil))
	for span.Start != nil {
		select {
		case <-r.stop:
			return
		default:
		}
		if !r.engine.enter() {
			return // reopened: all trees are built anew
		}
		part := new(Tree)
		next, err := r.piece(span, part)
		r.engine.leave()
		switch {
		case starved(err):
			if !r.sleep(rebuildRetry) {
				return
			}
			continue
		case err != nil:
			r.logger.Warn("hash tree was not rebuilt", "partition", r.partition, "error", err)
			return
		}
		r.trees.add(r.round, r.doubt, r.partition, part)
		span.Start = next
	}
	r.trees.rebuilt(r.round, r.doubt, r.partition)
}

// piece adds some records up and returns where to go on, nil at the end.
func (r *rebuild) piece(span *util.Range, part *Tree) (next []byte, err error) {
	it := r.snapshot.NewIterator(span, nil)
	defer it.Release()
	for n := 1; it.Next(); n++ {
		if _, err := version.ParseHeader(it.Value()); err != nil {
			// It is removed, and then the rebuild begins anew.
			return nil, r.badRecord(r.partition, it.Key(), fmt.Errorf("read key %.64q: %w", it.Key()[dataKeySize:], err))
		}
		part.Leaves[leafOf(hashKey(it.Key()))].add(version.LeafOf(it.Value()))
		if n >= 4*scanPiece {
			return append(append(next, it.Key()...), 0), nil
		}
	}
	if err := it.Error(); starved(err) {
		return nil, err
	} else if err != nil {
		return nil, r.damage(r.partition, fmt.Errorf("scan: %w", err))
	}
	return nil, nil
}

// treesScanned says that the scan of all records is over; rebuilds may begin.
func (s *Store) treesScanned(round uint64) {
	s.trees.scanned(round)
	s.intake.push(item{ctl: &control{built: true, done: make(chan error, 1)}})
}
