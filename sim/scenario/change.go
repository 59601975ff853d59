package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/sim"
)

// What operators do to the ring.

// Change asks for a change of the ring, or has spare nodes become members.
type Change struct {
	Verb    string // join, leave, remove, replace, weight, replicas or abort
	Nodes   []string
	With    string // of replace: who takes the place
	Standby bool   // of join: without a share
	Number  int    // the weight, or how many homes a key is to have
	Through string // the node that is asked; empty is the first one that runs
	Want    string // ok, refused, unknown or failed; empty is anything
}

const weightMax = 1<<16 - 1

func parseChange(verb string, l *line) (Action, error) {
	c := Change{Verb: verb}
	var err error
	stops := oneWordOf("with", "through", "standby", "->")
	switch {
	case verb == "weight":
		var node string
		if node, err = name("node", l.next()); err == nil {
			c.Nodes = []string{node}
			c.Number, err = count(l.next(), 1, weightMax)
		}
	case verb == "replicas":
		c.Number, err = count(l.next(), 1, ring.ReplicasMax)
	case verb == "abort" && (len(l.words) == 0 || stops(l.words[0])):
	default:
		c.Nodes, err = l.nodes(stops)
	}
	switch {
	case err != nil:
		return c, err
	case verb != "join" && len(c.Nodes) > 1:
		return c, fmt.Errorf("%s: want one node", strings.Join(c.Nodes, " "))
	}
	if verb == "join" {
		c.Standby = l.take("standby")
	}
	if verb == "replace" {
		if !l.take("with") {
			return c, fmt.Errorf("want with NODE")
		}
		if c.With, err = name("node", l.next()); err != nil {
			return c, err
		}
	}
	if l.take("through") {
		if c.Through, err = name("node", l.next()); err != nil {
			return c, err
		}
	}
	if l.take("->") {
		c.Want, err = oneOf("ok", "refused", "unknown", "failed")(l.next())
	}
	return c, err
}

func (c Change) words() string {
	var b strings.Builder
	b.WriteString(strings.TrimRight(c.Verb+" "+strings.Join(c.Nodes, " "), " "))
	if c.Number > 0 {
		fmt.Fprintf(&b, " %d", c.Number)
	}
	if c.With != "" {
		b.WriteString(" with " + c.With)
	}
	if c.Standby {
		b.WriteString(" standby")
	}
	if c.Through != "" {
		b.WriteString(" through " + c.Through)
	}
	if c.Want != "" {
		b.WriteString(" -> " + c.Want)
	}
	return b.String()
}

// Settled expects that all changes of the ring are at their end so long after the
// script and all loads have ended.
type Settled struct{ Within time.Duration }

func (s Settled) words() string { return "settled within " + short(s.Within) }

// Members expects who has a share in the end.
type Members struct{ Nodes []string }

func (m Members) words() string { return "members " + strings.Join(m.Nodes, " ") }

// changes says that the script changes the ring.
func (s *Scenario) changes() bool {
	return slices.ContainsFunc(s.Steps, func(st Step) bool { _, ok := st.Do.(Change); return ok })
}

// change plays a step. Where an answer is wanted it waits for that.
func (r *runner) change(line int, c Change) {
	nodes := r.indexes(c.Nodes)
	fresh := slices.DeleteFunc(slices.Clone(nodes), func(i int) bool { return !r.cluster.Machines[i].Retired() })
	if c.Verb == "join" && len(fresh) > 0 {
		r.event("join", nodes, strings.TrimPrefix(Change{Verb: "join", Standby: c.Standby}.words(), "join"))
		for _, i := range fresh {
			r.arrive(i, c.Standby)
		}
		return
	}
	via := r.asked(c)
	var outcomes []string
	done := make(chan struct{})
	requests := r.requests(c, nodes)
	r.changing.Go(func() {
		defer close(done)
		for _, req := range requests {
			outcome, words := answer(r.cluster.Change(via, req))
			outcomes = append(outcomes, outcome)
			asked := c
			asked.Want = ""
			r.event("ring", nodes, asked.words()+" -> "+outcome+r.names.in(words))
		}
	})
	if c.Want == "" {
		return
	}
	r.await(done)
	ok := !slices.ContainsFunc(outcomes, func(o string) bool { return o != c.Want && (c.Want != "failed" || o == "ok") })
	r.check(c.words(), line, ok, "%s", strings.Join(outcomes, ", "))
}

// asked is the node that an operator asks.
func (r *runner) asked(c Change) int {
	if c.Through != "" {
		return slices.Index(r.Nodes, c.Through)
	}
	runs := func(m *sim.Machine) bool { return m.Running() }
	return max(0, slices.IndexFunc(r.cluster.Machines, runs))
}

// requests are what an operator asks for, one for each node.
func (r *runner) requests(c Change, nodes []int) (out []api.ChangeRequest) {
	verb := map[string]api.Verb{"join": api.VerbJoin, "leave": api.VerbLeave, "remove": api.VerbRemove,
		"replace": api.VerbReplace, "weight": api.VerbWeight, "replicas": api.VerbReplicas, "abort": api.VerbAbort}[c.Verb]
	if len(nodes) == 0 {
		return []api.ChangeRequest{{Verb: verb, Number: c.Number}}
	}
	for _, i := range nodes {
		req := api.ChangeRequest{Verb: verb, Member: r.cluster.Machines[i].ID().String(), Number: c.Number}
		if c.With != "" {
			req.With = r.cluster.Machines[slices.Index(r.Nodes, c.With)].ID().String()
		}
		out = append(out, req)
	}
	return out
}

// answer is what an operator was told, as an outcome and in words.
func answer(resp *api.ChangeResponse, err error) (outcome, words string) {
	if err == nil {
		return "ok", fmt.Sprintf(", epoch %d", resp.Epoch)
	}
	for _, refused := range []error{api.ErrRefused, api.ErrBadRequest, api.ErrUnavailable, api.ErrNotReady, rpc.ErrUnreachable} {
		if errors.Is(err, refused) {
			return "refused", ": " + err.Error()
		}
	}
	return "unknown", ": " + err.Error()
}

// arrive starts a spare node, which becomes a member.
func (r *runner) arrive(i int, standby bool) {
	m := r.cluster.Machines[i]
	if err := m.Arrive(standby); err != nil {
		r.event("note", []int{i}, "does not start: "+r.names.in(err.Error()))
		return
	}
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = r.beside(i)
	}()
	r.await(done)
	if err != nil {
		r.event("note", []int{i}, "is not reached: "+err.Error())
		return
	}
	r.meet(i)
	r.ways.again(i)
	r.ways.become(i, stateUp)
}

// beside makes the clients that look at a node and go through it.
func (r *runner) beside(i int) error {
	if old := r.through[i]; old != nil {
		old.Close()
		r.eyes[i].Client.Close()
	}
	cl, err := r.cluster.Direct(nil, i)
	if err != nil {
		return err
	}
	r.through[i] = &actor{name: "at-" + r.Nodes[i], place: i, Client: cl.Client}
	r.ways.stand(cl.Name, i)
	return r.open(i)
}

// gone notes nodes that are no members any more: their processes have ended.
func (r *runner) gone() {
	newest := r.newestRing()
	for i, m := range r.cluster.Machines {
		if !m.Running() && newest.IsBanned(m.ID()) {
			m.Abandon()
		}
		if m.Retired() && r.ways.state(i) != stateDown {
			r.ways.become(i, stateDown)
			r.event("stop", []int{i}, "it is no member any more")
		}
	}
}

// settled waits until all changes of the ring are at their end, if that is expected.
func (r *runner) settled() {
	for _, e := range r.Expects {
		if want, ok := e.What.(Settled); ok {
			began := r.now()
			err := r.cluster.CheckSettled(want.Within)
			r.gone()
			detail := fmt.Sprintf("after %v", (r.now() - began).Round(time.Millisecond))
			if err != nil {
				detail = r.names.in(err.Error())
			}
			r.check(want.words(), e.Line, err == nil, "%s", detail)
		}
	}
}

// ends holds that every change of the ring has come to its end, and who is there then.
func (r *runner) ends() {
	if r.changes() {
		err := r.cluster.CheckSettled(readyLimit)
		r.gone()
		detail := ""
		if err != nil {
			detail = r.names.in(err.Error())
		}
		r.check(string(sim.ChangesEnd), 0, err == nil, "%s", detail)
	}
	for _, e := range r.Expects {
		want, ok := e.What.(Members)
		if !ok {
			continue
		}
		var has []string
		for _, m := range r.newestRing().Members {
			if i, known := r.names.of(m.ID); known && m.State == ring.Active {
				has = append(has, r.Nodes[i])
			}
		}
		slices.Sort(has)
		wanted := slices.Sorted(slices.Values(r.expand(want.Nodes)))
		r.check(want.words(), e.Line, slices.Equal(has, wanted), "%s", strings.Join(has, " "))
	}
}

// newestRing is the newest ring record that somebody holds.
func (r *runner) newestRing() *ring.Record {
	rings := r.cluster.Rings()
	if newest := rings.At(rings.Last()); newest != nil {
		return newest
	}
	return r.record
}

// read reads through a node that may be none.
func (a *actor) read(ctx context.Context, key string, level client.Level) (client.Result, error) {
	if a == nil {
		return client.Result{}, errors.New("it was never a member")
	}
	return a.Get(ctx, []byte(key), level)
}
