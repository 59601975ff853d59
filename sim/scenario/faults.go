package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/disk"
)

// kindOf are the events of processes.
var kindOf = map[string]string{"kill": "crash", "lose": "crash", "replace": "start"}

// process ends, starts, stops or wakes processes.
func (r *runner) process(a Process) (undo func()) {
	nodes := r.indexes(a.Nodes)
	kind := a.Verb
	if k := kindOf[kind]; k != "" {
		kind = k
	}
	note := ""
	switch {
	case a.Tear != "":
		note = "tear=" + a.Tear
	case a.Verb == "lose":
		note = "the disk is lost"
	case a.Verb == "replace":
		note = "an empty disk, in the place of the lost one"
	}
	r.event(kind, nodes, note)
	for _, i := range nodes {
		m := r.cluster.Machines[i]
		switch a.Verb {
		case "stop":
			r.ways.become(i, stateDown)
			m.Stop()
		case "kill":
			r.ways.become(i, stateDown)
			m.Kill()
		case "powercut":
			r.ways.become(i, stateDown)
			m.Disk.SetTear(map[string]disk.Tear{"all": disk.TearAll, "pages": disk.TearPages}[a.Tear])
			m.PowerCut()
		case "lose":
			r.ways.become(i, stateDown)
			m.LoseDisk()
		case "start", "replace":
			r.start(i)
		case "pause":
			if m.Running() {
				r.ways.become(i, statePaused)
				m.Pause()
			}
		case "resume":
			r.resume(i)
		}
	}
	return func() {
		if a.Verb == "pause" {
			r.event("resume", nodes, "")
		} else {
			r.event("start", nodes, "")
		}
		for _, i := range nodes {
			if a.Verb == "pause" {
				r.resume(i)
			} else {
				r.start(i)
			}
		}
	}
}

// start starts a node; one that does not start stays down, and says why.
func (r *runner) start(i int) {
	if r.cluster.Machines[i].Retired() {
		return // it is no member
	}
	if err := r.cluster.Machines[i].Start(); err != nil {
		r.event("note", []int{i}, "does not start: "+r.names.in(err.Error()))
		return
	}
	r.meet(i)
	if r.ways.state(i) == stateDown {
		r.ways.become(i, stateUp)
	}
}

func (r *runner) resume(i int) {
	if r.ways.state(i) == statePaused {
		r.ways.become(i, stateUp)
		r.cluster.Machines[i].Resume()
	}
}

// link shapes ways.
func (r *runner) link(a Link) (undo func()) {
	shape, note := r.ways.base, "normal"
	if a.Shape != nil {
		shape, note = *a.Shape, shapeText(a.Shape)
	}
	from, to := r.indexes(a.Nodes), r.indexes(a.To)
	var back func()
	switch {
	case len(from) == 0:
		note = "every link: " + note
		back = r.ways.shapeAll(shape)
	case len(to) == 0:
		back = r.ways.shape(shape, func(a, b host) bool { return slices.Contains(from, a.place) || slices.Contains(from, b.place) })
	default:
		note = strings.TrimPrefix(a.words(), "link ")
		back = r.ways.shape(shape, func(x, y host) bool {
			return slices.Contains(from, x.place) && slices.Contains(to, y.place) ||
				a.Both && slices.Contains(to, x.place) && slices.Contains(from, y.place)
		})
	}
	r.event("link", append(from, to...), note)
	return func() {
		back()
		r.event("link", append(from, to...), "as before")
	}
}

// disk lets disks fail.
func (r *runner) disk(a Disk) (undo func()) {
	nodes := r.indexes(a.Nodes)
	note := a.words()[len("disk "+strings.Join(a.Nodes, " ")+" "):]
	for _, i := range nodes {
		m := r.cluster.Machines[i]
		switch a.Fault {
		case "sync-error":
			m.Disk.FailSync(disk.Of(storage.TypeJournal), a.Times, a.Kept, disk.ErrIO)
		case "full":
			m.Disk.SetCapacity(max(m.Disk.Bytes()+int64(a.Room), 1))
		case "slow":
			m.Disk.SetSyncDelay(func() time.Duration { return a.Delay })
		case "readonly":
			m.Disk.ReadOnly(true)
		case "lies":
			m.Disk.Lie(true)
		case "damage":
			note = r.damage(i, m, a.File)
		case "mend":
			r.mendDisk(i)
		}
	}
	r.event("disk", nodes, note)
	return func() {
		for _, i := range nodes {
			r.mendDisk(i)
		}
		r.event("disk", nodes, "mended")
	}
}

// mendDisk ends a disk's faults and gives it its usual speed.
func (r *runner) mendDisk(i int) {
	m := r.cluster.Machines[i]
	m.Disk.Heal()
	m.Spin()
}

// damage changes a byte in the middle of the newest file of a kind.
func (r *runner) damage(i int, m *sim.Machine, kind string) string {
	types := map[string]storage.FileType{"journal": storage.TypeJournal, "table": storage.TypeTable, "manifest": storage.TypeManifest}
	files := m.Disk.Files(types[kind])
	for _, fd := range slices.Backward(files) {
		if size := len(m.Disk.Read(fd)); size > 1 {
			r.damaged[i] = true
			m.Disk.Flip(fd, size/2, 0x55)
			return fmt.Sprintf("damage: byte %d of %d of %v", size/2, size, fd)
		}
	}
	return "damage: there is no " + kind + " with anything in it"
}

// clock sets clocks.
func (r *runner) clock(a Clock) (undo func()) {
	nodes := r.indexes(a.Nodes)
	var before []time.Duration
	for _, i := range nodes {
		before = append(before, r.cluster.Machines[i].Clock.Offset())
		r.cluster.Machines[i].Clock.Set(a.Offset)
	}
	words := strings.Fields(a.words())
	r.event("clock", nodes, words[len(words)-1])
	return func() {
		for k, i := range nodes {
			r.cluster.Machines[i].Clock.Set(before[k])
		}
		r.event("clock", nodes, "as before")
	}
}

// view makes views wrong.
func (r *runner) view(a View) (undo func()) {
	right := func() {
		r.cluster.World.Follow()
		r.event("view", nil, "all views follow the network")
	}
	if a.Right {
		right()
		return right
	}
	pair := r.indexes([]string{a.Node, a.Subject})
	r.cluster.World.Set(r.cluster.Machines[pair[0]].ID(), r.cluster.Machines[pair[1]].ID(), a.Up)
	r.event("view", pair, a.words()[len("view "):])
	return right
}
