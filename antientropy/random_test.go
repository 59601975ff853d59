package antientropy

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/sim/network"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// step is one thing that happens in a history.
type step struct {
	What  string
	Node  int
	Other int
	Key   int
	To    []bool // who gets the record
	Dead  bool   // a tombstone
	Large bool   // so that few records fill an answer
	Sees  bool   // the write has seen what its node holds, else nothing
	Wait  time.Duration
}

const (
	historyKeys = 5
	// The node that may lose what is on its disk. More at once, and nobody
	// could promise anything.
	historyLoser = 2
)

// drawHistory draws at least so many steps, of some kinds more than the usual ones.
func drawHistory(t *rapid.T, least int, more ...string) []step {
	kinds := []string{"write", "write", "write", "late", "cut", "mend", "halt", "start", "reopen", "restart", "lose", "keep", "storm"}
	kinds = append(kinds, more...)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			What: rapid.SampledFrom(kinds).Draw(t, "what"),
			Node: rapid.IntRange(0, 4).Draw(t, "node"), Other: rapid.IntRange(0, 4).Draw(t, "other"),
			Key:  rapid.IntRange(0, historyKeys-1).Draw(t, "key"),
			To:   []bool{rapid.Bool().Draw(t, "to0"), rapid.Bool().Draw(t, "to1"), rapid.Bool().Draw(t, "to2")},
			Dead: rapid.IntRange(0, 3).Draw(t, "dead") == 0, Sees: rapid.IntRange(0, 3).Draw(t, "sees") > 0,
			Large: rapid.IntRange(0, 5).Draw(t, "large") == 0,
			Wait: rapid.SampledFrom([]time.Duration{0, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond,
				500 * time.Millisecond, 3 * time.Second, 8 * time.Second}).Draw(t, "wait"),
		}
	}), least, 60).Draw(t, "history")
}

// history runs steps and keeps an oracle: what all writes come to together, and
// what those do that reached a home which loses nothing.
type history struct {
	w    *world
	sent [][]byte
	all  map[string]version.Record
	safe map[string]version.Record
	// losses is how many were silent, and rotten the keys concerned.
	losses int
	rotten map[string]bool
}

var large [600 << 10]byte

func historyKey(i int) string { return fmt.Sprint("key-", i) }

func (h *history) run(steps []step) {
	for _, s := range steps {
		h.step(s)
		time.Sleep(s.Wait)
	}
	h.w.net.Heal()
	h.w.net.SetDefault(network.Link{Latency: time.Millisecond})
	for i := range h.w.nodes {
		if !h.w.nodes[i].on {
			h.w.start(i)
		}
	}
}

func (h *history) step(s step) {
	w := h.w
	s.Node, s.Other = s.Node%len(w.nodes), s.Other%len(w.nodes)
	n := w.nodes[s.Node]
	switch s.What {
	case "write":
		h.write(s)
	case "late": // a packet that was minutes on its way
		if len(h.sent) > 0 {
			b := h.sent[s.Key*7%len(h.sent)]
			homes := w.homesOf(w.rec.PartitionOf(version.KeyOf(b)))
			if i := homes[s.Node%len(homes)]; w.nodes[i].on {
				h.arrive(b, i)
			}
		}
	case "keep": // a stand-in, of any age
		if len(h.sent) > 0 && n.on {
			h.keep(h.sent[s.Key*7%len(h.sent)], n, nodeID(s.Other))
		}
	case "storm":
		w.net.SetDefault(network.Link{Latency: time.Millisecond, Jitter: 20 * time.Millisecond,
			Loss: 0.05, Reset: 0.02, Duplicate: 0.1, Late: 0.05, LateBy: 20 * time.Second})
	case "cut":
		if s.Node != s.Other {
			w.cut(s.Node, s.Other)
		}
	case "mend":
		w.net.Heal()
	case "halt":
		w.halt(s.Node)
	case "start":
		if !n.on {
			w.start(s.Node)
		}
	case "reopen", "restart":
		// A crash takes the newest part of the dot log: of what was lost before nobody
		// can ask about the key then, either.
		unlogged := s.Node == historyLoser && h.losses > 0 && n.disk == nil
		h.restart(n, s.What == "reopen" && !unlogged)
	case "silent":
		for i := range historyKeys { // the first that can be lost so
			if h.silent(w.nodes[historyLoser], historyKey((s.Key+i)%historyKeys)) {
				break
			}
		}
	case "audit":
		if n.on {
			n.repair.auditSoon(w.partitionOf(historyKey(s.Key)))
		}
	case "lose":
		h.lose(w.nodes[historyLoser], s)
	}
}

// keep has a node keep a record for another one, or for itself.
func (h *history) keep(b []byte, n *home, home ring.NodeID) {
	r, err := version.Parse(b)
	if err != nil {
		h.w.t.Fatal(err)
	}
	in := &store.StandIn{Home: home, Partition: h.w.rec.PartitionOf(r.Key), Record: r, Encoded: b}
	if n.disk == nil {
		n.store.StandIn(in)
		return
	}
	done := make(chan outcome, 1)
	in.Sink = mergeSink{0, done}
	n.disk.StandIn(in)
	if o := <-done; o.err != nil {
		h.w.t.Fatal(o.err)
	}
}

// restart stops a node and starts it again if it ran: after a crash, or as asked.
func (h *history) restart(n *home, crash bool) {
	was := n.on
	if crash && was && n.disk != nil {
		n.disk.platter.PowerCut()
	}
	h.w.halt(n.i)
	switch {
	case n.disk != nil:
	case crash:
		n.store.reopen()
	default:
		n.store.restart()
	}
	if was {
		h.w.start(n.i)
	}
}

// lose has a node lose a key, or all of its partition. A real one is restored from
// a backup, which somebody tells it a while later.
func (h *history) lose(n *home, s step) {
	if n.disk == nil {
		key := historyKey(s.Key)
		n.store.lose(h.w.partitionOf(key), func(k string) bool { return k == key || s.Dead })
		return
	}
	h.w.halt(n.i)
	if s.Dead || !n.disk.hasBackup {
		n.disk.backup()
	} else {
		n.disk.restore()
	}
	h.w.start(n.i)
	if n.disk.restored {
		time.Sleep(time.Duration(s.Other) * 40 * time.Millisecond)
		n.disk.declareLoss()
	}
}

// silent has a node lose a key without noticing, and says whether it has. That can be
// told from a value that was forgotten only if something of it can be read, and the node
// did not mint any of it: its next write to the key would have seen it.
func (h *history) silent(n *home, key string) bool {
	w, p := h.w, h.w.partitionOf(key)
	if w.rec.HomeIndex(p, n.id) < 0 {
		return false
	}
	if n.disk != nil {
		return h.silentReal(n, key)
	}
	n.store.mu.Lock()
	q := n.store.part(p)
	r := q.records[key]
	known := !q.lossy && len(aliveIn(&r, 0)) > 0 && r.Seen.Max(q.actor) == 0 && h.last(&r)
	for i := range r.Siblings {
		// Of writes that the dot log does not know nobody can ask about the key.
		d := r.Siblings[i].Dot
		known = known && slices.ContainsFunc(q.log, func(k store.LoggedKey) bool { return k.Dot == d })
	}
	n.store.mu.Unlock()
	if known {
		w.rot(n.i, key)
		h.losses++
		h.rotten[key] = true
	}
	return known
}

// last says that no write of an actor which minted one of a record's siblings is still to
// come to it: such a one covers a lost value, too. See write.
func (h *history) last(r *version.Record) bool {
	all := h.all[string(r.Key)]
	return !slices.ContainsFunc(r.Siblings, func(s version.Sibling) bool { return r.Seen.Max(s.Actor) != all.Seen.Max(s.Actor) })
}

func (h *history) write(s step) {
	w, key := h.w, historyKey(s.Key)
	homes := w.homesOf(w.partitionOf(key))
	at := homes[s.Node%len(homes)]
	n := w.nodes[at]
	if !n.on {
		return
	}
	value := fmt.Sprint("value-", len(h.sent))
	if s.Large {
		value += string(large[:])
	}
	if h.rotten[key] && at != historyLoser {
		// A blind write of the actor that minted the lost value covers it, at the
		// loser: there nobody can tell any more that it was not replaced.
		s.Sees = true
	}
	b := n.put(key, value, s.Sees, s.Dead)
	if b == nil {
		return // too large by now
	}
	h.sent = append(h.sent, b)
	r, err := version.Parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	h.all[key] = version.Merge(version.Record{Key: r.Key, Seen: h.all[key].Seen, Siblings: h.all[key].Siblings}, r)
	h.arrive(b, at)
	for i, yes := range s.To {
		if i = homes[i]; yes && i != at && w.nodes[i].on {
			h.arrive(b, i)
		}
	}
}

// arrive has a record merged at a node.
func (h *history) arrive(b []byte, i int) {
	r, _ := version.Parse(b)
	key := string(r.Key)
	h.w.deliver(b, i)
	if i != historyLoser {
		h.safe[key] = version.Merge(version.Record{Key: r.Key, Seen: h.safe[key].Seen, Siblings: h.safe[key].Siblings}, r)
	}
}

// check holds a home against the oracle.
func (h *history) check() error {
	for i := range historyKeys {
		key := historyKey(i)
		all, safe := h.all[key], h.safe[key]
		home := h.w.homesOf(h.w.partitionOf(key))[0]
		b, err := h.w.nodes[home].storage().Get(h.w.partitionOf(key), []byte(key))
		if err != nil {
			return err
		}
		var got version.Record
		if b != nil {
			if got, err = version.Parse(b); err != nil {
				return err
			}
		}
		has := func(r *version.Record, d version.Dot) bool {
			for i := range r.Siblings {
				if r.Siblings[i].Dot == d {
					return true
				}
			}
			return false
		}
		for _, s := range all.Siblings {
			if !s.Tombstone && has(&safe, s.Dot) && !has(&got, s.Dot) {
				return fmt.Errorf("%s: %.20q was never replaced, and is gone", key, s.Value)
			}
		}
		for _, s := range got.Siblings {
			if safe.Seen.Covers(s.Dot) && !has(&safe, s.Dot) {
				return fmt.Errorf("%s: %.20q was replaced, and is back", key, s.Value)
			}
		}
	}
	return nil
}

// settled says that all homes are equal in all respects.
func (w *world) settled() error {
	if err := w.equal(); err != nil {
		return err
	}
	if err := w.claimsEqual(); err != nil {
		return err
	}
	for _, h := range w.nodes {
		if kept, err := h.storage().StandInHomes(); len(kept) > 0 || err != nil {
			return fmt.Errorf("node %d keeps records for %v, %v", h.i, kept, err)
		}
		if st := h.repair.Status(); st.Behind > 0 || st.Lossy > 0 || st.Missing > 0 {
			return fmt.Errorf("node %d: %+v", h.i, st)
		}
		for p := range ring.Partition(w.rec.Partitions) {
			if home := w.rec.HomeIndex(p, h.id) >= 0; h.repair.Counts(p) != home {
				return fmt.Errorf("node %d, home %v, and what counts of partition %d is not that", h.i, home, p)
			}
		}
	}
	return nil
}

// Whatever is written, cut, stopped, forgotten and lost at one home: in the end all
// homes hold the same, all that was not replaced, and nothing that was.
func TestHomesAreEqualAfterAnyHistory(t *testing.T) {
	checks(t, 60)
	for name, forget := range map[string]time.Duration{"tombstones stay": 1000 * time.Hour, "tombstones are forgotten": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				steps := drawHistory(rt, 1)
				seed := rapid.Uint64Range(1, 1<<20).Draw(rt, "seed")
				logMax := rapid.SampledFrom([]int{1, 4, 1000}).Draw(rt, "log")
				var failed error
				nodes := rapid.SampledFrom([]int{3, 3, 5}).Draw(rt, "nodes")
				inWorld(t, worldOptions{seed: seed, nodes: nodes, partitions: 4, tune: func(c *Config) {
					c.ForgetAfter, c.AuditEvery = forget, time.Minute
				}}, func(w *world) {
					for _, n := range w.nodes {
						n.store.logMax = logMax
					}
					failed = playHistory(w, steps)
				})
				if failed != nil {
					rt.Fatal(failed)
				}
			})
		})
	}
}

// playHistory plays steps, waits until all is well, and says what is not.
func playHistory(w *world, steps []step) error {
	_, err := playedHistory(w, steps)
	return err
}

// playedHistory is playHistory, and how many losses were silent.
func playedHistory(w *world, steps []step) (losses int, err error) {
	h := &history{w: w, all: map[string]version.Record{}, safe: map[string]version.Record{}, rotten: map[string]bool{}}
	h.run(steps)
	return h.losses, h.end()
}

// end waits until all is well, and says what is not.
func (h *history) end() error {
	w := h.w
	end := time.Now().Add(10 * time.Minute)
	for {
		err := w.settled()
		if err == nil {
			return h.check()
		}
		if time.Now().After(end) {
			return err
		}
		time.Sleep(time.Second)
	}
}

// A home that loses values without noticing, among all else that happens, has them
// deleted nowhere, and has them back in the end.
func TestSilentLossesDeleteNothingInAnyHistory(t *testing.T) {
	if silentLosses(t, 40, false) == 0 {
		t.Error("nothing was ever lost without being noticed")
	}
}

// silentLosses plays histories with losses that nobody notices, and says how many of
// these there were.
func silentLosses(t *testing.T, histories int, real bool) (losses int) {
	t.Helper()
	checks(t, histories)
	sameSeed(t)
	rapid.Check(t, func(rt *rapid.T) {
		steps := drawHistory(rt, 10, "silent", "silent", "silent", "audit")
		seed := rapid.Uint64Range(1, 1<<20).Draw(rt, "seed")
		forget := rapid.SampledFrom([]time.Duration{1000 * time.Hour, 5 * time.Second}).Draw(rt, "forget")
		var failed error
		inWorld(t, worldOptions{seed: seed, partitions: 2, real: real, tune: func(c *Config) {
			c.ForgetAfter, c.AuditEvery = forget, time.Minute
		}}, func(w *world) {
			var n int
			n, failed = playedHistory(w, steps)
			losses += n
		})
		if failed != nil {
			rt.Fatal(failed)
		}
	})
	t.Logf("%d silent losses", losses)
	return losses
}

// Any history, with real stores on simulated disks, which lose power and are restored
// from backups.
func TestRealHomesAreEqualAfterAnyHistory(t *testing.T) {
	checks(t, 15)
	rapid.Check(t, func(rt *rapid.T) {
		steps := drawHistory(rt, 1)
		seed := rapid.Uint64Range(1, 1<<20).Draw(rt, "seed")
		forget := rapid.SampledFrom([]time.Duration{1000 * time.Hour, 5 * time.Second}).Draw(rt, "forget")
		var failed error
		inWorld(t, worldOptions{seed: seed, partitions: 2, real: true, tune: func(c *Config) {
			c.ForgetAfter, c.AuditEvery = forget, time.Minute
		}}, func(w *world) { failed = playHistory(w, steps) })
		if failed != nil {
			rt.Fatal(failed)
		}
	})
}

// checks sets how many histories rapid runs: n, or as many as KITH_HISTORIES says.
func checks(t *testing.T, n int) {
	t.Helper()
	if s := os.Getenv("KITH_HISTORIES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	} else if os.Getenv("KITH_LONG") != "" {
		n *= 50
	}
	was := flag.Lookup("rapid.checks").Value.String()
	t.Cleanup(func() { _ = flag.Set("rapid.checks", was) })
	if err := flag.Set("rapid.checks", strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
}

// sameSeed has a short run draw the same histories every time, unless a seed is given:
// long runs look for others.
func sameSeed(t *testing.T) {
	t.Helper()
	was := flag.Lookup("rapid.seed").Value.String()
	if was != "0" || os.Getenv("KITH_HISTORIES") != "" || os.Getenv("KITH_LONG") != "" {
		return
	}
	t.Cleanup(func() { _ = flag.Set("rapid.seed", was) })
	if err := flag.Set("rapid.seed", "1"); err != nil {
		t.Fatal(err)
	}
}
