package store

import (
	"errors"
	"fmt"
	"slices"

	ldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// LevelDB may begin to compact as soon as it is open. Where that meets a damaged
// block it takes no write any more, maybe not even the first one of the store. So
// the damage is taken out before the next try.
//
// The loss is named first, by a batch of a quiet opening: one that compacts nothing
// and so takes writes whatever is in the tables. A crash before it leaves the
// tables as they were, to be found again; one behind it finds the loss named.

// rottenStartsMax is how often damage is taken out while the files are opened: of
// the table that LevelDB names, with others if all are small, and then of all.
const rottenStartsMax = 3

// open opens the files. Damaged tables that are in the way are mended.
func (o opening) open() (*opened, error) {
	for try := 0; ; try++ {
		out := new(opened)
		err := o.once(out)
		if err == nil {
			return out, nil
		}
		if !corrupted(err) || try == rottenStartsMax {
			return nil, err
		}
		found, unread := o.findRot(err, try > 0)
		if len(found) == 0 {
			return nil, errors.Join(err, unread)
		}
		o.logger.Warn("damaged tables are in the way of opening", "error", err)
		if out.found {
			o.remembered = o.remembered.clone()
			o.remembered.join(out.losses)
		}
		if err := o.takeOut(found); err != nil {
			return nil, fmt.Errorf("take out what is damaged: %w", err)
		}
	}
}

// findRot looks into the table that the error names, or into all.
func (o opening) findRot(cause error, all bool) ([]damagedTable, error) {
	m, err := readManifest(o.guard)
	if err != nil || m.damaged || !m.exists {
		return nil, err
	}
	tables := m.tableNumbers()
	if c := (*ldberrors.ErrCorrupted)(nil); !all && errors.As(cause, &c) && c.Fd.Type == storage.TypeTable {
		tables = []int64{c.Fd.Num}
	}
	return examine(o.guard.disk, &m, tables, false)
}

// takeOut names what is lost with damaged blocks, makes that durable, and takes
// the blocks out. The files are closed.
func (o *opening) takeOut(damaged []damagedTable) error {
	for _, d := range damaged {
		for _, span := range d.lost {
			o.logger.Error("a table is damaged; what it held there is lost", "table", d.number,
				"from", fmt.Sprintf("%.64q", span.from), "to", fmt.Sprintf("%.64q", span.to))
		}
	}
	quiet := *o
	quiet.quiet, quiet.rotten = true, damaged
	out := new(opened)
	if err := quiet.once(out); err != nil {
		return err
	}
	if err := out.close(); err != nil {
		return err
	}
	// What comes is a part of the same start.
	o.first, o.boot, o.known, o.remembered = false, out.boot, out.batch, out.losses.clone()
	for i := range damaged {
		d := &damaged[i]
		if err := d.replace(o.guard.disk); err != nil {
			return fmt.Errorf("mend table %d: %w", d.number, err)
		}
		o.rottenBlocks.Add(int64(d.bad))
		o.logger.Info("damaged blocks were taken out of a table", "table", d.number, "blocks", d.bad, "kept", len(d.good))
	}
	return nil
}

// loseBlocks names what damaged blocks held, for the first batch.
func (o *opened) loseBlocks(damaged []damagedTable) {
	if len(damaged) == 0 {
		return
	}
	o.clean, o.named = false, true
	for _, d := range damaged {
		for _, span := range d.lost {
			o.loseSpan(d.number, span)
		}
	}
	slices.Sort(o.voided)
	o.voided = slices.Compact(o.voided)
}

func (o *opened) loseSpan(table int64, span keySpan) {
	if span.touches(clockPrefix) || span.touches(metaPrefix) {
		// Without the block, what the database shows of clocks may be older.
		o.voidClocks()
	}
	if span.touchesNamed() {
		o.lose("table %d is damaged: metadata is lost", table)
		o.voidClocks()
	}
	if span.touches(standInPrefix) {
		o.losses.say("table %d is damaged: stand-ins for other members may be lost", table)
	}
	first, last, any := span.partitions(o.partitions)
	if any && int(last-first) >= lossPartitionsMax {
		o.losses.loseEvery("table %d is damaged: partitions %d to %d", table, first, last)
		o.voidClocks()
		return
	}
	all := o.losses.All
	for p := first; any && p <= last; p++ {
		if !o.losses.has(p) {
			o.losses.lose(p, "partition %d: table %d is damaged", p, table)
		}
		if o.losses.All != all {
			o.voidClocks() // it was one too many: all are lossy now
		}
		delete(o.clocks, p)
		delete(o.notes, p)
		o.voided = append(o.voided, p)
	}
}

// voidClocks lets the first batch void the clocks on disk.
func (o *opened) voidClocks() {
	o.found = true
	clear(o.clocks)
	clear(o.notes)
}
