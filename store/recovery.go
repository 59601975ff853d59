package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"github.com/kithdb/kith/ring"
)

// opened is the database after its evidence was weighed.
type opened struct {
	*engine
	marks  *marks
	batch  uint64 // the last one that is on disk
	boot   uint64
	clean  bool // the last user closed it, and nothing is missing
	found  bool // a loss was found by this opening, which voids all clocks
	named  bool // a loss in some partitions is to be written
	keys   uint64
	fences []uint64
	// partitions is how many the ring has, as far as is known.
	partitions int
	clocks     map[ring.Partition]*Clock
	endings    map[ring.Partition][]Ending
	notes      map[ring.Partition]ring.Pulled
	drops      map[ring.Partition]*dropping
	// generation is the batch that emptied the clocks last; those on disk
	// that name another one are void.
	generation uint64
	// voided are partitions whose clock on disk is not to be loaded again.
	voided []ring.Partition
	losses losses
	// trees are those of the last close, nil if they are to be built; round
	// is what their scan has to name.
	trees map[ring.Partition]*Tree
	round uint64
	// standIns and their size, if clean.
	standIns, standInBytes int64
	// unread are errors of reading the database that tell of damage.
	unread []error
	// all records at the time of opening, for counting; nil if clean.
	snapshot *leveldb.Snapshot
}

// opening is one try to open the database.
type opening struct {
	guard       *guard
	writeBuffer int
	blockCache  int
	first       bool   // of the process
	known       uint64 // the last batch that this process has seen synced
	dropDamaged bool
	// stale says that what the database shows of clocks and metadata may be
	// older than what it showed before, and boot and raised what this
	// process knows of them.
	stale  bool
	boot   uint64
	raised *fences
	// remembered is what this process knows to be lost; the disk may not.
	remembered losses
	// quiet opens without compactions, and rotten are damaged tables of which
	// the loss is to be named.
	quiet  bool
	rotten []damagedTable

	rottenBlocks *atomic.Int64 // that were taken out
	logger       *slog.Logger
}

// once weighs the evidence, opens the database, and writes what was found: the
// first batch of this opening, which also shows that the disk takes writes. After
// an error nothing is open; out has the losses that were found.
func (o opening) once(out *opened) (err error) {
	o.guard.reset()
	ev, err := readMarks(o.guard.disk)
	if err != nil {
		return err
	}
	m, err := readManifest(o.guard)
	if err != nil {
		return err
	}
	j, err := readJournals(o.guard.disk, m.journal)
	if err != nil {
		return err
	}
	if err := o.sweep(ev, m, j); err != nil {
		return err
	}
	if out.marks, err = newMarks(o.guard.disk, ev); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.close())
		}
	}()
	if err := o.openDB(out, m, j); err != nil {
		return err
	}
	if err := out.checkFormat(); err != nil {
		return err
	}
	if err := out.load(); err != nil {
		return err
	}
	o.weigh(out, ev, m, j)
	out.loseBlocks(o.rotten)
	if err := o.begin(out); err != nil {
		return err // what is closed must not be handed out
	}
	return nil
}

// close gives back what was opened.
func (o *opened) close() error {
	var err error
	if o.snapshot != nil {
		o.snapshot.Release()
	}
	if o.engine != nil {
		err = o.engine.close()
	}
	return errors.Join(err, o.marks.w.Close())
}

// openDB opens with the least strictness that loses nothing, and rebuilds the
// manifest where there is none to trust.
func (o opening) openDB(out *opened, m manifest, j journals) error {
	mode := openMode{dropDamaged: o.dropDamaged, tornManifest: m.torn, quiet: o.quiet}
	options := func() *opt.Options { return engineOptions(o.writeBuffer, o.blockCache, mode) }
	var db *leveldb.DB
	err := m.suspect(j, out.marks.batch)
	if err == nil {
		db, err = openDB(o.guard, options(), mode)
	}
	if err != nil && corrupted(err) {
		out.lose("database was damaged and rebuilt from its tables: %v", err)
		// What is wrong with the database is known now, and has to be
		// known still if this is where the process ends.
		if err := out.marks.lost(); err != nil {
			return err
		}
		o.guard.reset()
		mode.rebuild, mode.dropDamaged = true, true
		db, err = openDB(o.guard, options(), mode)
	}
	if err != nil {
		if corrupted(err) {
			return fmt.Errorf("%w: database cannot be opened: %w", ErrCorrupt, err)
		}
		return fmt.Errorf("open database: %w", err)
	}
	out.engine = newEngine(db)
	return nil
}

// sweep removes what a crash left of the very first opening: files without a
// whole current manifest, which goleveldb takes for a damaged database.
func (o opening) sweep(ev evidence, m manifest, j journals) error {
	if m.exists && !(m.torn && m.journal == 0) || !ev.found || ev.batch > 0 || ev.losses > 0 || j.last > 0 || j.highest > 0 {
		return nil
	}
	fds, err := o.guard.List(storage.TypeAll)
	if err != nil {
		return fmt.Errorf("list files: %w", err)
	}
	for _, fd := range fds {
		if fd.Type == storage.TypeTable {
			return nil
		}
	}
	for _, fd := range fds {
		if err := o.guard.Remove(fd); err != nil {
			return fmt.Errorf("remove %v: %w", fd, err)
		}
	}
	return nil
}

// lose notes a loss that was found by this opening.
func (o *opened) lose(format string, args ...any) {
	o.losses.loseAll(format, args...)
	o.found = true
}

// load reads the store's own metadata. What is damaged of it is a loss like any
// other.
func (o *opened) load() error {
	var stored losses
	var ringRecord []byte
	var err error
	for _, item := range []struct {
		name string
		read func(b []byte) error
	}{
		{metaBatch, readNumber(&o.batch)},
		{metaBoot, readNumber(&o.boot)},
		{metaKeys, readNumber(&o.keys)},
		{metaStands, func(b []byte) error { return o.readStandIns(b) }},
		{metaClocks, readNumber(&o.generation)},
		{metaLosses, func(b []byte) error { stored, err = parseLosses(b); return err }},
		{metaFences, func(b []byte) error { o.fences, err = parseFences(b); return err }},
		{metaRing, func(b []byte) error { ringRecord = b; return nil }},
	} {
		b, err := o.db.Get([]byte(item.name), nil)
		switch {
		case errors.Is(err, leveldb.ErrNotFound):
			continue
		case err == nil:
			if err := item.read(b); err != nil {
				o.lose("metadata %s is damaged: %v", item.name, err)
			}
		case corrupted(err):
			o.unread = append(o.unread, err)
			o.lose("metadata %s cannot be read: %v", item.name, err)
			if item.name == metaBoot {
				// There were fewer boots than batches.
				o.boot = o.marks.batch
			}
		default:
			return fmt.Errorf("read %s: %w", item.name, err)
		}
	}
	for _, s := range o.losses.Sentences {
		stored.loseAll("%s", s)
	}
	o.losses = stored
	o.partitions = countPartitions(ringRecord, o.fences)
	if err := o.loadEndings(); err != nil {
		return err
	}
	if err := errors.Join(o.loadPulled(), o.loadDrops()); err != nil {
		return err
	}
	return o.loadClocks()
}

// countPartitions is how many partitions there are: as many as the ring record
// says, or has fences; with neither it may be any number.
func countPartitions(record []byte, fences []uint64) int {
	if r, err := ring.Decode(record); err == nil {
		return r.Partitions
	}
	if len(fences) > 0 {
		return len(fences)
	}
	return ring.SlotCount
}

func readNumber(to *uint64) func([]byte) error {
	return func(b []byte) error {
		if len(b) != 8 {
			return fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
		}
		*to = binary.BigEndian.Uint64(b)
		return nil
	}
}

// loadClocks reads the clocks. A damaged one is as good as none.
func (o *opened) loadClocks() error {
	o.clocks = make(map[ring.Partition]*Clock)
	it := o.db.NewIterator(util.BytesPrefix([]byte(clockPrefix)), nil)
	defer it.Release()
	for it.Next() {
		if len(it.Key()) != len(clockPrefix)+2 {
			continue
		}
		p := ring.Partition(binary.BigEndian.Uint16(it.Key()[len(clockPrefix):]))
		b := it.Value()
		if len(b) < 8 || binary.BigEndian.Uint64(b) != o.generation {
			continue
		}
		if c, err := ParseClock(b[8:]); err == nil {
			o.clocks[p] = &c
		}
	}
	if err := it.Error(); err != nil {
		if !corrupted(err) {
			return fmt.Errorf("read clocks: %w", err)
		}
		o.unread = append(o.unread, err)
		o.lose("partition clocks cannot be read: %v", err)
	}
	return nil
}

// weigh compares what the database ends with, what the journals held, and what
// was marked as synced.
func (o opening) weigh(out *opened, ev evidence, m manifest, j journals) {
	synced := max(ev.batch, o.known)
	replayed := max(j.last, j.highest)
	dropped := o.guard.dropped()
	switch {
	case !ev.found && out.batch > 0:
		out.lose("marks of synced batches are missing: writes before this start may be lost")
	case out.batch < synced && !o.stale:
		out.lose("batches %d to %d were synced and are gone", out.batch+1, synced)
	case out.batch < replayed:
		out.lose("batches %d to %d were dropped from a damaged journal", out.batch+1, replayed)
	case j.gap != "":
		out.lose("%s", j.gap)
	case m.damaged || m.missing:
		out.lose("manifest was damaged")
	case !j.torn && len(dropped) > 0 && !out.found:
		out.lose("goleveldb dropped data: %s", dropped[0])
	case ev.losses > out.losses.Marked && o.first:
		out.lose("damaged tables were found before the last stop")
	}
	if out.losses.join(o.remembered) || o.stale {
		out.found = true
	}
	out.clean = ev.clean && out.batch == ev.batch && !out.found && !m.torn
	out.batch = max(out.batch, synced, replayed)
	if out.found {
		clear(out.clocks)
		clear(out.notes)
		for _, one := range out.drops {
			one.doubtful = true
		}
	}
	// A partition that was lossy in this process may have lost more since its
	// clock, or its note, was stored.
	for p := range ring.Partition(ring.SlotCount) {
		_, clock := out.clocks[p]
		if _, note := out.notes[p]; (clock || note) && o.remembered.has(p) {
			delete(out.clocks, p)
			delete(out.notes, p)
			out.voided = append(out.voided, p)
		}
	}
}

// begin writes the first batch of this opening.
func (o opening) begin(out *opened) error {
	if out.boot = max(out.boot, o.boot); o.first {
		out.boot++
	}
	b := new(leveldb.Batch)
	if out.clean {
		out.loadTrees()
	}
	out.batch++
	b.Put([]byte(metaBatch), binary.BigEndian.AppendUint64(nil, out.batch))
	b.Put([]byte(metaBoot), binary.BigEndian.AppendUint64(nil, out.boot))
	for _, name := range []string{metaKeys, metaStands, metaTrees} {
		b.Delete([]byte(name))
	}
	if o.stale {
		b.Put([]byte(metaFences), o.raised.encode())
	}
	if out.found || out.named || out.losses.Marked != out.marks.losses {
		out.losses.Marked = out.marks.losses
		b.Put([]byte(metaLosses), out.losses.encode())
	}
	for _, p := range out.voided {
		b.Delete(clockKey(p))
		b.Delete(pulledKey(p))
	}
	if out.found {
		out.generation = out.batch
		b.Put([]byte(metaClocks), binary.BigEndian.AppendUint64(nil, out.generation))
	}
	if err := out.db.Write(b, &opt.WriteOptions{Sync: true}); err != nil {
		return fmt.Errorf("write to the opened database: %w", err)
	}
	if err := out.marks.append(out.batch); err != nil {
		return err
	}
	if out.clean && out.trees != nil {
		return nil
	}
	out.keys, out.standIns, out.standInBytes = 0, 0, 0
	snapshot, err := out.db.GetSnapshot()
	if err != nil {
		return fmt.Errorf("take snapshot: %w", err)
	}
	out.snapshot = snapshot
	return nil
}
