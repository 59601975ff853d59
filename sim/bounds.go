package sim

import (
	"fmt"
	"runtime"
	"time"

	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
)

// What a node keeps for others has bounds, which it states. While a story is
// played, no node may be above one of them; and when all clients have gone and the
// cluster is healed, all of it has to come to nothing: what is left then would grow
// for as long as the node runs.

const (
	// boundsEvery is how often nodes are looked at while a story is played.
	boundsEvery = time.Second
	// restMax is how long a cluster without clients may take until nothing
	// waits in it: longer than any deadline.
	restMax = time.Minute
	// restLook is how often it is looked at: between two of the questions that
	// nodes ask each other all the time.
	restLook = 7 * time.Millisecond
	// strayMax is how many goroutines more than in the beginning a node may have
	// in the end, for what it does by itself now and then.
	strayMax = 8
)

// amount is one of the things that a machine keeps for others.
type amount struct {
	what      string
	now, most int64
}

// amounts are what a machine keeps now, with the bounds of that; nothing if it is
// down.
func (m *Machine) amounts() []amount {
	if m.node == nil {
		return nil
	}
	load, open := m.node.Load(), m.host.Open()
	clients, _ := m.mux.InFlight(rpc.ClassClient)
	out := []amount{
		{"operations that it coordinates", int64(load.Operations), max(1, clients) * api.BatchMax},
		{"writes in its store's queue", load.Writes, store.WaitingMax},
		{"bytes of writes in its store's queue", load.WriteBytes, store.WaitingBytesMax},
		{"requests that it waits for", int64(open.Requests), int64(len(m.cluster.Machines)) * store.WaitingMax},
		{"bytes of requests that it waits for", int64(open.Bytes), int64(len(m.cluster.Machines)) * int64(m.cluster.Network.PendingMax())},
	}
	for _, class := range rpc.Classes() {
		requests, bytes := m.mux.InFlight(class)
		limit := m.mux.Limit(class)
		out = append(out,
			amount{fmt.Sprintf("requests of class %v that it has taken", class), requests, int64(limit.Requests)},
			amount{fmt.Sprintf("bytes of requests of class %v", class), bytes, limit.Bytes})
	}
	return out
}

// CheckBounds wants no machine above a bound.
func (c *Cluster) CheckBounds() error {
	for _, m := range c.Machines {
		if !m.Running() {
			continue
		}
		for _, a := range m.amounts() {
			if a.now > a.most || a.now < 0 {
				return broken(Bounded, "%s has %d %s, of %d", m.Name, a.now, a.what, a.most)
			}
		}
		if n := m.mux.Counts(); n.ExtraAnswers > 0 || n.Panics > 0 {
			return broken(Bounded, "handlers of %s have answered %d requests twice, and panicked at %d", m.Name, n.ExtraAnswers, n.Panics)
		}
	}
	return nil
}

// CheckRest wants everything that machines keep for others to come to nothing, and
// no more goroutines than in the beginning. It is for a cluster that is healed and
// has no clients; before is how many goroutines there were when it was ready.
func (c *Cluster) CheckRest(before int) error {
	busy := map[string]amount{} // what was never seen at nothing
	for _, m := range c.Machines {
		for _, a := range m.amounts() {
			busy[m.Name+" "+a.what] = a
		}
	}
	more := len(c.Machines) - c.opts.Nodes
	most := before + more*(before/c.opts.Nodes+1) + strayMax*len(c.Machines)
	for deadline := time.Now().Add(restMax); ; time.Sleep(restLook) {
		for _, m := range c.Machines {
			for _, a := range m.amounts() {
				if a.now == 0 {
					delete(busy, m.Name+" "+a.what)
				}
			}
		}
		if len(busy) == 0 && runtime.NumGoroutine() <= most {
			return nil
		}
		if time.Now().After(deadline) {
			break
		}
	}
	for _, m := range c.Machines {
		for _, a := range m.amounts() {
			if _, ok := busy[m.Name+" "+a.what]; ok {
				return broken(Bounded, "%v after the last client, %s still has %d %s", restMax, m.Name, a.now, a.what)
			}
		}
	}
	return broken(Bounded, "%v after the last client there are %d goroutines, %d when the cluster got ready", restMax, runtime.NumGoroutine(), before)
}
