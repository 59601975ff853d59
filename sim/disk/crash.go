package disk

import (
	"maps"
	"slices"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// pageSize is the unit in which a file system writes back.
const pageSize = 4096

// Tear says what becomes of bytes that were written and not synced when the
// power fails.
type Tear uint8

const (
	// TearPrefix keeps a random beginning of them. It is the default.
	TearPrefix Tear = iota
	// TearAll loses all of them.
	TearAll
	// TearPages keeps random pages of a random beginning, and zeros in
	// place of the others: write-back knows no order.
	TearPages
)

// SetTear chooses what the next power cuts do.
func (d *Disk) SetTear(t Tear) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tear = t
}

// PowerCut stops the machine: open storages die and bytes that were not synced
// are lost, but for what Tear lets survive. A name that was created, removed or
// renamed without a sync is found in its old or in its new state, by the seed.
func (d *Disk) PowerCut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
	d.counts.PowerCuts++
	d.cutNames()
	for _, fd := range d.list(storage.TypeAll) {
		d.cutBytes(d.live[fd])
	}
	d.durable = maps.Clone(d.live)
	d.account()
}

// Kill stops the process: open storages die, and all that was written is there.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
	d.counts.Kills++
}

// die ends the life of all storages.
func (d *Disk) die() {
	d.life++
	d.owner = nil
}

// syncDirectory makes all names durable.
func (d *Disk) syncDirectory() { d.durable = maps.Clone(d.live) }

// settle makes the state of one live name durable, with the old name that a
// rename took it from.
func (d *Disk) settle(fd storage.FileDesc) {
	f := d.live[fd]
	if d.durable[fd] == f {
		return
	}
	for old, g := range d.durable {
		if g == f && old != fd {
			delete(d.durable, old)
		}
	}
	d.durable[fd] = f
}

// cutNames decides for each name that is not durable whether its change made it
// to the disk. The names of a rename share one fate: it is atomic.
func (d *Disk) cutNames() {
	oldName, newName := namesOf(d.durable), namesOf(d.live)
	var changed []storage.FileDesc
	for fd := range differing(d.durable, d.live) {
		changed = append(changed, fd)
	}
	slices.SortFunc(changed, compareFiles)
	before := maps.Clone(d.live)
	decided := map[storage.FileDesc]bool{}
	for _, fd := range changed {
		if decided[fd] {
			continue
		}
		survives := d.rng.IntN(2) == 0
		for group := []storage.FileDesc{fd}; len(group) > 0; {
			fd := group[0]
			group = group[1:]
			if decided[fd] {
				continue
			}
			decided[fd] = true
			if from, ok := oldName[before[fd]]; ok {
				group = append(group, from)
			}
			if to, ok := newName[d.durable[fd]]; ok {
				group = append(group, to)
			}
			if !survives {
				d.revert(fd)
			}
		}
	}
}

// namesOf turns a directory round.
func namesOf(dir map[storage.FileDesc]*file) map[*file]storage.FileDesc {
	names := make(map[*file]storage.FileDesc, len(dir))
	for fd, f := range dir {
		names[f] = fd
	}
	return names
}

// differing are the names that lead elsewhere in one directory than in the other.
func differing(a, b map[storage.FileDesc]*file) map[storage.FileDesc]bool {
	out := map[storage.FileDesc]bool{}
	for fd, f := range a {
		if b[fd] != f {
			out[fd] = true
		}
	}
	for fd, f := range b {
		if a[fd] != f {
			out[fd] = true
		}
	}
	return out
}

// revert puts a name back into its durable state.
func (d *Disk) revert(fd storage.FileDesc) {
	if f := d.durable[fd]; f != nil {
		d.live[fd] = f
	} else {
		delete(d.live, fd)
	}
}

// cutBytes takes from a file what was in memory only.
func (d *Disk) cutBytes(f *file) {
	if f.synced < len(f.data) || len(f.lost) > 0 {
		keep := f.synced
		if unsynced := len(f.data) - f.synced; unsynced > 0 && d.tear != TearAll {
			keep += d.rng.IntN(unsynced + 1)
		}
		data := slices.Clone(f.data[:keep])
		for _, s := range f.lost {
			clear(data[s.from:min(s.to, keep)])
		}
		if d.tear == TearPages {
			d.tearPages(data, f.synced)
		}
		f.data = data
	}
	f.lost = nil
	f.synced = len(f.data)
}

// tearPages zeroes every other page behind from, at random.
func (d *Disk) tearPages(data []byte, from int) {
	for from < len(data) {
		next := min((from/pageSize+1)*pageSize, len(data))
		if d.rng.IntN(2) == 0 {
			clear(data[from:next])
		}
		from = next
	}
}

// account counts the bytes of the live directory anew.
func (d *Disk) account() {
	d.used = 0
	for _, f := range d.live {
		f.gone = false
		d.used += int64(len(f.data))
	}
}

// Snapshot is a copy of a disk's files, for Restore: an old backup.
type Snapshot struct {
	files map[storage.FileDesc][]byte
	meta  storage.FileDesc
}

// Snapshot copies the files as a backup of the running directory would, at one
// moment. It costs no copy of bytes.
func (d *Disk) Snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Snapshot{files: make(map[storage.FileDesc][]byte, len(d.live)), meta: d.meta}
	for fd, f := range d.live {
		s.files[fd] = slices.Clip(f.data)
	}
	return s
}

// Restore puts a backup in place of all files, durably; open storages die. The
// backup may come from another disk.
func (d *Disk) Restore(s Snapshot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
	d.meta = s.meta
	d.live = make(map[storage.FileDesc]*file, len(s.files))
	for fd, data := range s.files {
		d.live[fd] = &file{data: data, synced: len(data)}
	}
	d.durable = maps.Clone(d.live)
	d.account()
}

// Wipe is a new, empty disk in the same machine; open storages die.
func (d *Disk) Wipe() { d.Restore(Snapshot{}) }
