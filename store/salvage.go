package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// damagedTable is a table with damaged blocks.
type damagedTable struct {
	number int64
	live   liveTable
	index  tableIndex
	// good are the data blocks that are whole; all of them are lost if the
	// index is.
	good      []indexEntry
	bad       int
	filterRot bool
	lost      []keySpan
}

// examine reads tables of the database whole, and if one is damaged all others
// too, unless these are large. It returns those that are damaged, and with them an
// error if one that was named could not be read, which need not be damage: refused
// says that it is, where a table else can be read.
func examine(disk storage.Storage, m *manifest, tables []int64, refused bool) (out []damagedTable, failed error) {
	look := func(n int64, refused bool) error {
		live, ok := m.tables[n]
		if !ok {
			return nil // it was compacted
		}
		d, err := examineTable(disk, n, live, refused)
		if err == nil && (d.bad > 0 || d.filterRot) {
			out = append(out, d)
		}
		return err
	}
	total := int64(0)
	for _, t := range m.tables {
		total += t.size
	}
	for _, n := range tables {
		if err := look(n, refused); err != nil {
			failed = errors.Join(failed, fmt.Errorf("read table %d: %w", n, err))
		}
	}
	if len(out) == 0 || total > quarantineSweepMax {
		return out, failed
	}
	for _, n := range m.tableNumbers() {
		if !slices.Contains(tables, n) {
			_ = look(n, false) // what cannot be read is reported by who needs it
		}
	}
	return out, failed
}

func examineTable(disk storage.Storage, n int64, live liveTable, refused bool) (d damagedTable, err error) {
	r, err := disk.Open(tableFile(n))
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	d = damagedTable{number: n, live: live}
	d.index, d.filterRot, err = readTableIndex(r, live.size)
	if errors.Is(err, errRot) {
		d.bad = 1
		d.lost = []keySpan{{live.from, live.to}}
		return d, nil
	}
	if err != nil {
		return d, err
	}
	before := live.from
	denied := 0 // blocks that the disk has not given, whatever is in them
	for i, e := range d.index.blocks {
		last := userKey(e.last)
		if i == len(d.index.blocks)-1 {
			last = live.to // the index has a key behind it
		}
		switch b, err := readBlock(r, e.blockPlace); {
		case err == nil && eachEntry(b, func(_, _ []byte) error { return nil }) == nil:
			d.good = append(d.good, e)
		case err == nil || errors.Is(err, errRot) || refused && !starved(err):
			d.bad++
			d.lost = append(d.lost, keySpan{before, last})
			if err != nil && !errors.Is(err, errRot) {
				denied++
			}
		default:
			return d, err
		}
		before = last
	}
	if denied > len(d.good) {
		return d, errors.New("most of it cannot be read: the disk, or all of the file, is away")
	}
	return d, nil
}

// without returns the table without its damaged blocks. The manifest names a
// table's size, so that stays as it is: the blocks stay where they are, and the
// index names those that are whole.
func (d *damagedTable) without(r io.ReaderAt) ([]byte, error) {
	out := make([]byte, d.live.size)
	for _, e := range d.good {
		if err := readAt(r, out[e.offset:e.end()], e.offset); err != nil {
			return nil, err
		}
	}
	index := appendIndexBlock(nil, d.good)
	meta := appendIndexBlock(nil, nil) // empty: no filter
	at := d.index
	if len(d.good) == 0 {
		at.index.offset = d.live.size - tableFooter - int64(len(index))
		at.meta.offset = at.index.offset - int64(len(meta))
	} else if !d.filterRot {
		for _, p := range []blockPlace{at.filter, at.meta} {
			if err := readAt(r, out[p.offset:p.end()], p.offset); err != nil {
				return nil, err
			}
		}
		meta = out[at.meta.offset:at.meta.end()]
	}
	if at.meta.offset < 0 || at.index.offset+int64(len(index)) > d.live.size-tableFooter {
		return nil, fmt.Errorf("%w: %d bytes are too few", errRot, d.live.size)
	}
	copy(out[at.meta.offset:], meta)
	copy(out[at.index.offset:], index)
	at.meta.length, at.index.length = int64(len(meta))-blockTrailer, int64(len(index))-blockTrailer
	copy(out[d.live.size-tableFooter:], appendFooter(nil, at.meta, at.index))
	return out, d.check(out)
}

// check reads a table that was made as it will be read.
func (d *damagedTable) check(b []byte) error {
	again, rot, err := readTableIndex(bytes.NewReader(b), int64(len(b)))
	if err != nil || rot || len(again.blocks) != len(d.good) {
		return fmt.Errorf("table %d cannot be mended: %d of %d blocks: %w", d.number, len(again.blocks), len(d.good), err)
	}
	return nil
}

// replace puts the table without its damaged blocks in its place. The files are
// closed.
func (d *damagedTable) replace(disk storage.Storage) error {
	r, err := disk.Open(tableFile(d.number))
	if err != nil {
		return err
	}
	b, err := d.without(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	fd := storage.FileDesc{Type: storage.TypeTemp, Num: salvageFile}
	w, err := disk.Create(fd)
	if err != nil {
		return err
	}
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = w.Sync()
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return disk.Rename(fd, tableFile(d.number))
}

// salvage takes the damaged blocks out of tables, having named and noted what was
// in them, but for the tables of which that was done. found is false if none is damaged, or the manifest does not say which
// tables there are.
func (r reopening) salvage(tables, named []int64) (found bool, lost blockLoss, err error) {
	disk := r.guard.disk
	m, err := readManifest(disk)
	if err != nil {
		return false, lost, err
	}
	if m.damaged || !m.exists {
		return false, lost, nil
	}
	// The tables were looked into long enough before, if the disk refused to
	// read them.
	damaged, err := examine(disk, &m, tables, true)
	if err != nil {
		r.logger.Warn("tables cannot be looked into", "error", err)
	}
	if len(damaged) == 0 {
		return false, lost, nil
	}
	lost = r.lossOf(damaged)
	known := func(d damagedTable) bool { return slices.Contains(named, d.number) }
	if lost.news || lost.all || !all(damaged, known) {
		// The database cannot be told now; the marks can.
		if err := r.marks.lost(); err != nil {
			return false, lost, err
		}
	}
	for i := range damaged {
		if err := damaged[i].replace(disk); err != nil {
			return false, lost, fmt.Errorf("mend table %d: %w", damaged[i].number, err)
		}
		r.rottenBlocks.Add(int64(damaged[i].bad))
		r.logger.Info("damaged blocks were taken out of a table", "table", damaged[i].number,
			"blocks", damaged[i].bad, "kept", len(damaged[i].good))
	}
	return true, lost, nil
}

func all(tables []damagedTable, are func(damagedTable) bool) bool {
	return !slices.ContainsFunc(tables, func(d damagedTable) bool { return !are(d) })
}
