package sim_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
	"github.com/kithdb/kith/sim/network"
)

// Histories that betray what is wrong with the move of a slot: one for each rule. Each is
// played on right code here; sim/mutants has the code that is wrong.

// handover is the only partition of a cluster, the slot of whose home from is moved to
// the machine to; near and far are its other homes.
type handover struct {
	*testing.T
	c   *sim.Cluster
	h   *sim.History
	via []*sim.Client // by machine, which coordinates

	near, far, from, to int

	context *sim.Read // of k0 as it was before
}

// handingOver has a home of the only partition leave, and plays f when its move has come
// to a phase, and who answers reads next has noted the pull of that phase, if it is to.
func handingOver(t *testing.T, phase ring.Phase, noted bool, before func(m *handover), f func(m *handover)) {
	t.Helper()
	o := sim.Options{Seed: 11, Nodes: 7, Partitions: 1}
	o.Membership.SpreadAfter = 20 * time.Second // who is not told hears of nothing
	in(t, o, func(t *testing.T, c *sim.Cluster) {
		m := &handover{T: t, c: c, h: sim.NewHistory()}
		m.via = direct(c, m.h)
		defer closeAll(m.via)
		homes := must(c.HomesOf("k"))
		m.from, m.near, m.far = homes[0], homes[1], homes[2]
		load(t, m.via[m.near], "k", 3)
		m.context = m.via[m.near].Get("k0", client.Quorum, time.Second)
		if before != nil {
			before(m)
		}
		other := slices.IndexFunc(c.Machines, func(o *sim.Machine) bool { return !slices.Contains(homes, slices.Index(c.Machines, o)) })
		m.change(other, api.VerbLeave, m.from)
		m.until(phase, noted)
		f(m)
	})
}

// newest is the newest record that anybody holds.
func (m *handover) newest() *ring.Record { return m.c.Rings().At(m.c.Rings().Last()) }

// until waits for a phase of the move.
func (m *handover) until(phase ring.Phase, noted bool) {
	m.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		r := m.newest()
		if move := r.MoveOf(0); move != nil && move.Phase == phase {
			m.to = slices.IndexFunc(m.c.Machines, func(o *sim.Machine) bool { return o.ID() == move.To })
			if !noted || m.c.Machines[m.to].Node().Store().Pulled(0).Since == r.Since[0] {
				return
			}
		}
		if time.Now().After(deadline) {
			m.Fatalf("no move has come to %v", phase)
		}
	}
}

// over waits until no slot is being moved.
func (m *handover) over() {
	m.Helper()
	waitUntil(m.T, time.Minute, "a slot is still being moved", func() bool { return m.newest().MoveOf(0) == nil })
}

func (m *handover) change(via int, verb api.Verb, whom int) {
	m.Helper()
	must(m.c.Change(via, api.ChangeRequest{Verb: verb, Member: m.c.Machines[whom].ID().String()}))
}

// rest are the machines but for some.
func (m *handover) rest(but ...int) (out []int) {
	for i := range m.c.Machines {
		if !slices.Contains(but, i) {
			out = append(out, i)
		}
	}
	return out
}

// shown replaces the key's value through a machine, where too few homes take that, and
// reads it there.
func (m *handover) shown(at int, context *sim.Read) *sim.Read {
	m.via[at].Put("k0", context, client.Quorum, 300*time.Millisecond)
	read := m.via[at].Get("k0", client.Quorum, 200*time.Millisecond)
	time.Sleep(time.Millisecond) // what comes after that began later
	return read
}

// Two homes that the others do not reach show a write that only they have, while the slot
// of one is moved. When another one answers the slot's reads, it has pulled that first.
func TestWhatWasShownWhileASlotMovedIsShownByWhoTakesItOver(t *testing.T) {
	handingOver(t, ring.PhaseDual, true, nil, func(m *handover) {
		m.c.Partition([]int{m.near, m.from}, m.rest(m.near, m.from))
		read := m.shown(m.near, m.context)
		m.until(ring.PhaseReadNew, false)
		later := m.via[m.far].Get("k0", client.Quorum, time.Second)
		t.Logf("%v\n%v", read.Op, later.Op)
		want(t, read.Op, sim.Done)
		judge(t, m.c, m.h)
	})
}

// The target of a move shows, with one home, a write that only they have. When it is given
// up, the one whose slot it stays has pulled that from it.
func TestWhatATargetHasShownIsThereWhenItsMoveIsGivenUp(t *testing.T) {
	handingOver(t, ring.PhaseReadNew, true, nil, func(m *handover) {
		m.c.Partition([]int{m.near, m.to}, m.rest(m.near, m.to))
		want(t, m.shown(m.near, m.context).Op, sim.Done)
		m.change(m.far, api.VerbLeave, m.to)
		m.c.Network.Heal()
		m.c.Partition([]int{m.near}, m.rest(m.near))
		to := m.c.Machines[m.to].ID()
		waitUntil(t, time.Minute, "the move is not given up", func() bool {
			move := m.newest().MoveOf(0)
			return move == nil || move.To != to
		})
		m.via[m.far].Get("k0", client.Quorum, 3*time.Second)
		judge(t, m.c, m.h)
	})
}

// A source that hears of a move by nobody but its target takes part in it, from the first
// pull on: what it shows with another home is not older than what the target gives.
func TestASourceTakesPartInTheMoveItIsPulledFor(t *testing.T) {
	handingOver(t, ring.PhaseDual, true, nil, func(m *handover) {
		m.c.Partition([]int{m.near, m.from}, m.rest(m.near, m.from))
		from, to := m.c.Machines[m.from].Name, m.c.Machines[m.to].Name
		m.c.Network.Mend(from, to)
		m.c.Network.Mend(to, from)
		m.over()
		m.shown(m.near, m.context)
		m.via[m.far].Get("k0", client.Quorum, time.Second)
		judge(t, m.c, m.h)
	})
}

// A home that one other reaches takes writes until it adopts the move of its slot. The
// target has all that it has acknowledged, however close to that.
func TestWhatASourceAcknowledgesIsWithItsTarget(t *testing.T) {
	var writers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	cut := func(m *handover) {
		m.c.Partition([]int{m.near}, m.rest(m.near, m.from))
		for i := range 20 {
			cl := must(m.c.Direct(m.h, m.near))
			writers.Go(func() {
				defer cl.Close()
				for n := 0; ctx.Err() == nil; n++ {
					cl.Put(fmt.Sprintf("late%d-%d", i, n), nil, client.Quorum, time.Second)
					time.Sleep(time.Duration(7+i) * time.Millisecond)
				}
			})
		}
	}
	handingOver(t, ring.PhaseReadNew, true, cut, func(m *handover) {
		time.Sleep(time.Second)
		stop()
		writers.Wait()
		for _, key := range m.h.Keys() {
			m.via[m.far].Get(key, client.Quorum, time.Second)
		}
		t.Logf("%d done, %d refused, %d unknown", m.h.Count(sim.Done), m.h.Count(sim.Refused), m.h.Count(sim.Unknown))
		judge(t, m.c, m.h)
	})
}

// planned plays changes of weights and the moves that they lead to on a record, and gives
// the moves and the record in the end; false if a change leads to none, or to more.
func planned(r *ring.Record, changes ...weight) (moves []ring.Move, end *ring.Record, ok bool) {
	for _, w := range changes {
		next, err := r.WithWeight(w.of, w.is)
		if err != nil || len(next.Moves) != 1 {
			return nil, nil, false
		}
		moves = append(moves, next.Moves[0])
		for _, step := range []ring.Step{ring.StepDual, ring.StepReadNew, ring.StepDone} {
			next = must(next.WithSteps([]ring.StepTo{{Step: step}}))
		}
		r = next
	}
	return moves, r, true
}

// weight is what a member is to have.
type weight struct {
	of ring.NodeID
	is uint16
}

// weigh has an operator give a member a weight.
func (m *handover) weigh(via int, w weight) {
	m.Helper()
	must(m.c.Change(via, api.ChangeRequest{Verb: api.VerbWeight, Member: w.of.String(), Number: int(w.is)}))
}

func (m *handover) machine(id ring.NodeID) int {
	return slices.IndexFunc(m.c.Machines, func(o *sim.Machine) bool { return o.ID() == id })
}

// A put is on its way to two homes while the target of a move takes it, is given up, and
// becomes the target again. What the target had acknowledged before counts no longer: it
// has dropped that.
func TestWhatATargetAcknowledgedBeforeItWasGivenUpCountsNoLonger(t *testing.T) {
	o := sim.Options{Seed: 12, Nodes: 7, Partitions: 1}
	o.Membership.SpreadAfter = 20 * time.Second
	in(t, o, func(t *testing.T, c *sim.Cluster) {
		m := &handover{T: t, c: c, h: sim.NewHistory()}
		m.via = direct(c, m.h)
		defer closeAll(m.via)
		r := must(c.Ring())
		var w weight
		var move ring.Move
		for i := range r.Members {
			w = weight{r.Members[i].ID, 40}
			if moves, _, ok := planned(r, w); ok {
				move = moves[0]
				break
			}
		}
		m.to, m.from = m.machine(move.To), m.machine(move.From)
		homes := must(c.HomesOf("k"))
		others := slices.DeleteFunc(slices.Clone(homes), func(i int) bool { return i == m.from })
		m.near, m.far = others[0], others[1]
		load(t, m.via[m.near], "k", 3)
		read := m.via[m.near].Get("k0", client.Quorum, time.Second)
		slow := network.Link{Latency: 1500 * time.Millisecond, Jitter: time.Microsecond}
		m.weigh(m.far, w)
		m.until(ring.PhaseDual, true)
		for _, to := range []int{m.from, m.far} {
			c.Network.SetLink(c.Machines[m.near].Name, c.Machines[to].Name, slow)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.via[m.near].Put("k0", read, client.Quorum, 3*time.Second)
		}()
		time.Sleep(20 * time.Millisecond)
		c.Network.SetLink(c.Machines[m.near].Name, c.Machines[m.to].Name, slow)
		operator := m.rest(m.near, m.far, m.from, m.to)[0]
		must(c.Change(operator, api.ChangeRequest{Verb: api.VerbAbort, Member: move.To.String()}))
		m.over()
		must(c.Change(operator, api.ChangeRequest{Verb: api.VerbJoin, Member: move.To.String()}))
		<-done
		time.Sleep(time.Millisecond)
		m.via[m.far].Get("k0", client.Quorum, time.Second)
		for _, to := range []int{m.from, m.far, m.to} {
			c.Network.UnsetLink(c.Machines[m.near].Name, c.Machines[to].Name)
		}
		judge(t, m.c, m.h)
	})
}

// A home gives up its slot and gets another one of the same partition, from a home that
// has missed an acknowledged write of its own. What it writes then must not have seen that.
func TestWhoGetsAPartitionBackHasNotSeenWhatItHadWrittenThere(t *testing.T) {
	o := sim.Options{Seed: 13, Nodes: 7, Partitions: 1}
	o.Membership.SpreadAfter = 20 * time.Second
	in(t, o, func(t *testing.T, c *sim.Cluster) {
		m := &handover{T: t, c: c, h: sim.NewHistory()}
		m.via = direct(c, m.h)
		defer closeAll(m.via)
		r := must(c.Ring())
		var out, back weight
		var moves []ring.Move
		for i := range 2 * len(r.Members) * len(r.Members) * len(r.Members) {
			n := len(r.Members)
			out = weight{r.Members[i%n].ID, 40}
			back = weight{r.Members[i/n%n].ID, []uint16{50, 60}[i/n/n%2]}
			if some, _, ok := planned(r, out, back); ok && some[1].To == some[0].From && some[1].From != some[0].To {
				moves = some
				break
			}
		}
		if moves == nil {
			t.Fatal("no weights lead there")
		}
		again := m.machine(moves[0].From) // who goes and comes back
		missing := m.machine(moves[1].From)
		homes := must(c.HomesOf("k"))
		keeps := slices.DeleteFunc(slices.Clone(homes), func(i int) bool { return i == again || i == missing })[0]
		load(t, m.via[keeps], "k", 1)
		read := m.via[keeps].Get("k0", client.Quorum, time.Second)
		want(t, read.Op, sim.Done)
		target := m.machine(moves[0].To)
		name := func(i int) string { return c.Machines[i].Name }
		c.Network.Partition([]string{name(missing)}, []string{name(again), name(keeps), name(target)})
		want(t, m.via[again].Put("k0", read, client.Quorum, time.Second), sim.Done)
		operator := m.rest(again, missing, keeps, target)[0]
		m.weigh(operator, out)
		m.over()
		waitUntil(t, time.Minute, "what was let go is still there", func() bool {
			return len(c.Machines[again].Node().Store().Dropping()) == 0
		})
		// Who has the write is not to be asked for it by who comes back.
		c.Network.Partition([]string{name(again)}, []string{name(keeps), name(target)})
		c.Network.Mend(name(missing), name(again))
		c.Network.Mend(name(again), name(missing))
		m.weigh(operator, back)
		m.over()
		if !slices.Contains(must(c.HomesOf("k")), again) {
			t.Fatalf("%s is no home again", name(again))
		}
		put := make(chan *sim.Op, 1)
		go func() { put <- m.via[again].Put("k0", read, client.Quorum, 5*time.Second) }()
		time.Sleep(20 * time.Millisecond)
		c.Network.Heal()
		want(t, <-put, sim.Done)
		judge(t, c, m.h)
	})
}
