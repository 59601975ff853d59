package scenario

import (
	"slices"
	"sync"

	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// The states of a node, as samples have them.
const (
	stateUp     = "up"
	stateDown   = "down"
	statePaused = "paused"
)

// ways is who can talk to whom: what the script has cut, which processes run, and
// where clients stand. All but what changes it may be called from any goroutine.
type ways struct {
	network *network.Network
	base    network.Link // every link in the beginning
	hosts   []host       // nodes first
	shapes  map[[2]string]network.Link
	all     network.Link // every link that is not in shapes

	mu     sync.Mutex // guards what follows
	cuts   [][]bool   // from, to
	states []string
}

// host is a machine or a client on the network, and the node that it is or
// stands beside; -1 is nowhere.
type host struct {
	name  string
	place int
}

func newWays(c *sim.Cluster, base network.Link) *ways {
	n := len(c.Machines)
	w := &ways{network: c.Network, base: base, all: base, shapes: map[[2]string]network.Link{},
		cuts: make([][]bool, n), states: make([]string, n)}
	for i, m := range c.Machines {
		w.stand(m.Name, i)
		w.cuts[i] = make([]bool, n)
		w.states[i] = stateUp
		if m.Retired() {
			w.states[i] = stateDown
		}
		// The cluster's own questions always arrive.
		w.network.SetLink("probe", m.Name, base)
		w.network.SetLink(m.Name, "probe", base)
	}
	return w
}

// stand adds a host beside a node.
func (w *ways) stand(name string, place int) { w.hosts = append(w.hosts, host{name, place}) }

// cut stops what goes from one node's place to another's, and gives what was
// whole before.
func (w *ways) cut(from, to []int) (fresh [][2]int) {
	for _, a := range from {
		for _, b := range to {
			if a != b && w.set(a, b, true) {
				fresh = append(fresh, [2]int{a, b})
				w.between(a, b, w.network.Cut)
			}
		}
	}
	return fresh
}

// again cuts what a node and those beside it are cut off from, for those who came since.
func (w *ways) again(node int) {
	for i := range w.cuts {
		for _, pair := range [][2]int{{node, i}, {i, node}} {
			if w.isCut(pair) {
				w.between(pair[0], pair[1], w.network.Cut)
			}
		}
	}
}

func (w *ways) isCut(pair [2]int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts[pair[0]][pair[1]]
}

// mend ends cuts, and says whether there was one.
func (w *ways) mend(pairs [][2]int) (changed bool) {
	for _, p := range pairs {
		if w.set(p[0], p[1], false) {
			changed = true
			w.between(p[0], p[1], w.network.Mend)
		}
	}
	return changed
}

// heal ends all cuts, and says whether there was one.
func (w *ways) heal() bool {
	var pairs [][2]int
	for a := range w.cuts {
		for b := range w.cuts {
			pairs = append(pairs, [2]int{a, b})
		}
	}
	return w.mend(pairs)
}

// set changes one way and says whether it was different.
func (w *ways) set(from, to int, cut bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := w.cuts[from][to] != cut
	w.cuts[from][to] = cut
	return changed
}

// between does something to every pair of hosts of two places.
func (w *ways) between(from, to int, do func(from, to string)) {
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			if a.place == from && b.place == to {
				do(a.name, b.name)
			}
		}
	}
}

// side are the nodes that one exchanges messages with, itself among them, in their
// order; nil if that is all of them, and for clients that stand nowhere.
func (w *ways) side(place int) []int {
	if place < 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []int
	for i := range w.cuts {
		if !w.cuts[place][i] && !w.cuts[i][place] {
			out = append(out, i)
		}
	}
	if len(out) == len(w.cuts) {
		return nil
	}
	return out
}

// held is how many of a key's homes run on a side; nil is everywhere.
func (w *ways) held(homes, side []int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, h := range homes {
		if w.states[h] == stateUp && (side == nil || slices.Contains(side, h)) {
			n++
		}
	}
	return n
}

// become changes a node's state.
func (w *ways) become(node int, state string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[node] = state
}

// state is a node's.
func (w *ways) state(node int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states[node]
}

// shape changes links between hosts that are chosen and are not in one place, and
// gives what puts them back.
func (w *ways) shape(to network.Link, chosen func(from, to host) bool) (undo func()) {
	before := map[[2]string]network.Link{}
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			if a == b || a.place == b.place && a.place >= 0 || !chosen(a, b) {
				continue
			}
			pair := [2]string{a.name, b.name}
			old, ok := w.shapes[pair]
			if !ok {
				old = w.all
			}
			before[pair] = old
			w.shapes[pair] = to
			w.network.SetLink(a.name, b.name, to)
		}
	}
	return func() {
		for pair, old := range before {
			w.shapes[pair] = old
			w.network.SetLink(pair[0], pair[1], old)
		}
	}
}

// shapeAll changes every link.
func (w *ways) shapeAll(to network.Link) (undo func()) {
	before := w.all
	undoOwn := w.shape(to, func(a, b host) bool {
		_, own := w.shapes[[2]string{a.name, b.name}]
		return own
	})
	w.all = to
	w.network.SetDefault(to)
	return func() {
		w.all = before
		w.network.SetDefault(before)
		undoOwn()
	}
}
