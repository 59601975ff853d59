package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
)

// This is the model of the design's ring register: chains of records, each
// decided by the keepers of the one before it, with any change of keepers in one
// step. An attempt may start late from any decided record, stop for ever at any
// point, and its messages arrive at any later time. It runs the rules of
// rules.go and package paxos, those that production runs.

// flaws break one rule each.
type flaws struct {
	undecidedBase bool // proposers start from what was accepted, but not decided
	forgetsEarly  bool // cells are forgotten without the record that replaces them
	amnesia       bool // one keeper loses its cell and votes on
	votesOnOld    bool // a keeper votes in a register whose successor it holds
	newKeepers    bool // the majority is counted among the keepers that are proposed
}

const (
	modelNodes    = 5
	modelAttempts = 8
)

type voter struct {
	id     ring.NodeID
	held   *decided
	stored []byte
}

type attempt struct {
	base      *decided
	acceptors []ring.NodeID
	proposer  *paxos.Proposer
	want      []byte
	message   paxos.Message
	unsent    []int // acceptors that have not got the message yet
}

// late is a message that its proposer does not wait for any more.
type late struct {
	i        int
	a        *attempt
	message  paxos.Message
	acceptor int
}

type register struct {
	flaws
	r        *rand.Rand
	voters   [modelNodes]*voter
	attempts [modelAttempts]*attempt
	late     []late
	serial   int
	decided  []*decided      // by epoch-1
	accepted []*decided      // also undecided ones
	tally    map[string]uint // register, ballot and value: who accepted
	lost     bool            // the one amnesia has happened
	story    []string
}

func newRegister(seed uint64, f flaws) *register {
	g := &register{flaws: f, r: rand.New(rand.NewPCG(seed, 5)), tally: map[string]uint{}}
	for i := range g.voters {
		g.voters[i] = &voter{id: ring.NodeID{byte(i + 1)}}
	}
	first := g.record(nil, g.someKeepers())
	g.decided = []*decided{first}
	for _, v := range g.voters {
		v.held = first
	}
	return g
}

func (g *register) someKeepers() []ring.NodeID {
	mask := 1 + g.r.IntN(1<<modelNodes-1)
	var keepers []ring.NodeID
	for i, v := range g.voters {
		if mask>>i&1 == 1 {
			keepers = append(keepers, v.id)
		}
	}
	return keepers
}

// record makes one that is unlike all others and names its parent.
func (g *register) record(parent *decided, keepers []ring.NodeID) *decided {
	g.serial++
	r := &ring.Record{Epoch: 1, Cluster: ring.ClusterID{1}, Name: "model", Partitions: 1, Replicas: 1, Keepers: keepers, Since: []uint64{1}}
	label := fmt.Sprintf("%d", g.serial)
	if parent != nil {
		r.Epoch = parent.record.Epoch + 1
		label += " after " + serialOf(parent)
	}
	for i, v := range g.voters {
		m := ring.Member{ID: v.id, Weight: 1, State: ring.Standby}
		if i == 0 {
			m.Name = label
		}
		r.Members = append(r.Members, m)
	}
	return decode(r.Encode())
}

func decode(b []byte) *decided {
	r, err := ring.Decode(b)
	if err != nil {
		panic(err)
	}
	return &decided{r, b}
}

func serialOf(d *decided) string {
	serial, _, _ := strings.Cut(d.record.Members[0].Name, " ")
	return serial
}

func parentOf(d *decided) string {
	_, parent, _ := strings.Cut(d.record.Members[0].Name, " after ")
	return parent
}

func (g *register) say(format string, args ...any) {
	g.story = append(g.story, fmt.Sprintf(format, args...))
}

// step lets something happen and says what promise is broken by it.
func (g *register) step(i int) string {
	switch g.r.IntN(16) {
	case 0:
		g.aside()
		return ""
	case 1:
		if len(g.late) > 0 {
			at := g.r.IntN(len(g.late))
			l := g.late[at]
			g.late = slices.Delete(g.late, at, at+1)
			_, _, wrong := g.arrive(l.i, l.a, l.message, l.acceptor)
			return wrong
		}
	}
	a := g.attempts[i]
	if a == nil {
		g.begin(i)
		return ""
	}
	if len(a.unsent) == 0 || g.r.IntN(40) == 0 {
		if g.r.IntN(3) == 0 {
			g.attempts[i] = nil // it dies
			g.abandon(i, a)
			return ""
		}
		g.abandon(i, a)
		g.send(a, a.proposer.Begin())
		return ""
	}
	at := g.r.IntN(len(a.unsent))
	acceptor := a.unsent[at]
	a.unsent = slices.Delete(a.unsent, at, at+1)
	return g.deliver(i, a, acceptor)
}

func (g *register) begin(i int) {
	bases := g.decided
	if g.undecidedBase && len(g.accepted) > 0 && g.r.IntN(3) == 0 {
		bases = g.accepted
	}
	base := bases[len(bases)-1]
	if g.r.IntN(3) == 0 {
		base = bases[g.r.IntN(len(bases))]
	}
	next := g.record(base, g.someKeepers())
	a := &attempt{base: base, want: next.encoded, acceptors: base.record.Keepers}
	if g.newKeepers {
		a.acceptors = next.record.Keepers
	}
	// Attempts share three names: a process that died comes back under its own.
	a.proposer = paxos.NewProposer(paxos.Node{byte(i % 3)}, len(a.acceptors), a.want)
	g.attempts[i] = a
	g.say("P%d wants %s", i, next.record.Members[0].Name)
	g.send(a, a.proposer.Begin())
}

func (g *register) send(a *attempt, m paxos.Message) {
	a.message, a.unsent = m, nil
	for k := range a.acceptors {
		a.unsent = append(a.unsent, k)
	}
}

// abandon leaves the messages that are on their way to arrive some time.
func (g *register) abandon(i int, a *attempt) {
	for _, acceptor := range a.unsent {
		g.late = append(g.late, late{i, a, a.message, acceptor})
	}
}

// arrive brings a message to its acceptor, who votes. ok is false for a refusal.
func (g *register) arrive(i int, a *attempt, m paxos.Message, acceptor int) (reply paxos.Reply, ok bool, wrong string) {
	req := &voteRequest{Register: a.base.record.Epoch + 1, Base: a.base.encoded,
		Accept: m.Phase == paxos.Accepting, Ballot: m.Ballot, Value: m.Value}
	n := slices.IndexFunc(g.voters[:], func(v *voter) bool { return v.id == a.acceptors[acceptor] })
	reply, ok = g.vote(g.voters[n], a, req)
	if ok && reply.OK && req.Accept {
		g.say("P%d: %d accepts %s", i, n+1, serialOf(decode(req.Value)))
		wrong = g.count(n, a, req)
	}
	return reply, ok, wrong
}

func (g *register) deliver(i int, a *attempt, acceptor int) string {
	reply, ok, wrong := g.arrive(i, a, a.message, acceptor)
	if wrong != "" {
		return wrong
	}
	var step paxos.Step
	if !ok || g.r.IntN(10) == 0 { // refused, or the reply is lost
		step = a.proposer.Fail(acceptor, a.message)
	} else {
		step = a.proposer.Answer(acceptor, a.message, reply)
	}
	switch step {
	case paxos.Send:
		g.abandon(i, a)
		g.send(a, a.proposer.Message())
	case paxos.Decided:
		g.attempts[i] = nil
		g.abandon(i, a)
		d := decode(a.proposer.Value())
		if e := int(d.record.Epoch); e > len(g.decided) || serialOf(g.decided[e-1]) != serialOf(d) {
			return fmt.Sprintf("P%d learns that %s is decided for epoch %d, which it is not", i, serialOf(d), e)
		}
	}
	return ""
}

// vote is Topology.vote without disk and network.
func (g *register) vote(v *voter, a *attempt, req *voteRequest) (paxos.Reply, bool) {
	if judge(v.id, v.held.record, req.Register) == behind {
		if news, err := mayReplace(v.held.record, "model", a.base.record); err != nil || !news {
			return paxos.Reply{}, false
		}
		v.held = a.base
	}
	held := v.held
	switch judge(v.id, held.record, req.Register) {
	case answers:
		if !g.votesOnOld {
			return paxos.Reply{Decided: held.encoded}, true
		}
		held = a.base
		if _, err := cellOf(v.stored, req.Register); err != nil {
			v.stored = nil
		}
	case refuses:
		if !g.newKeepers {
			return paxos.Reply{}, false
		}
	}
	reply, store, err := poll(held.record, v.stored, req)
	if err != nil {
		return paxos.Reply{}, false
	}
	if reply.OK {
		v.stored = store
	}
	return reply, true
}

// count decides by the definition, and checks the chain of records.
func (g *register) count(n int, a *attempt, req *voteRequest) string {
	d := decode(req.Value)
	g.accepted = append(g.accepted, d)
	name := fmt.Sprint(req.Register, req.Ballot, serialOf(d))
	g.tally[name] |= 1 << n
	votes := 0
	for _, id := range a.acceptors {
		k := slices.IndexFunc(g.voters[:], func(v *voter) bool { return v.id == id })
		votes += int(g.tally[name] >> k & 1)
	}
	if votes <= len(a.acceptors)/2 {
		return ""
	}
	epoch := int(d.record.Epoch)
	g.say("DECIDED %s for epoch %d", serialOf(d), epoch)
	switch {
	case epoch <= len(g.decided) && serialOf(g.decided[epoch-1]) != serialOf(d):
		return fmt.Sprintf("epoch %d is decided as %s and as %s", epoch, serialOf(g.decided[epoch-1]), serialOf(d))
	case epoch == len(g.decided)+1:
		g.decided = append(g.decided, d)
	case epoch > len(g.decided)+1:
		return fmt.Sprintf("epoch %d is decided as %s, and epoch %d is not", epoch, serialOf(d), epoch-1)
	}
	if want := serialOf(g.decided[epoch-2]); parentOf(d) != want {
		return fmt.Sprintf("epoch %d is decided as %s on parent %s, which is not %s", epoch, serialOf(d), parentOf(d), want)
	}
	return ""
}

// aside is what happens beside the attempts: a node hears of a decision, or
// breaks a rule.
func (g *register) aside() {
	v := g.voters[g.r.IntN(modelNodes)]
	d := g.decided[g.r.IntN(len(g.decided))]
	if news, err := mayReplace(v.held.record, "model", d.record); err == nil && news && g.r.IntN(2) == 0 {
		v.held = d
	}
	if g.forgetsEarly {
		v.stored = nil
	}
	if g.amnesia && !g.lost && g.r.IntN(4) == 0 {
		g.lost = true
		g.say("node %x loses its cell", v.id[0])
		v.stored = nil
	}
}

// walk mostly keeps on with one attempt, so that long chains are decided while
// stragglers stay stale.
func walk(seed uint64, f flaws) (g *register, wrong string) {
	g = newRegister(seed, f)
	at := 0
	for range 200 {
		if g.r.IntN(8) == 0 {
			at = g.r.IntN(modelAttempts)
		}
		if wrong = g.step(at); wrong != "" {
			return g, wrong
		}
	}
	return g, ""
}

func TestEveryEpochHasOneRecordThatFollowsTheOneBefore(t *testing.T) {
	n, epochs := runs(500), 0
	for seed := range uint64(n) {
		g, wrong := walk(seed, flaws{})
		if wrong != "" {
			t.Fatalf("seed %d: %s\n%s", seed, wrong, strings.Join(g.story, "\n"))
		}
		epochs += len(g.decided)
	}
	if epochs < 3*n {
		t.Fatalf("%d epochs in %d walks: the model looks at nothing", epochs, n)
	}
	t.Logf("%d walks, %.1f epochs each", n, float64(epochs)/float64(n))
}

// The model must be able to see what each rule prevents.
func TestModelSeesBrokenRegisterRules(t *testing.T) {
	for name, broken := range map[string]flaws{
		"an undecided record is taken as base":             {undecidedBase: true},
		"a cell is forgotten before its record is there":   {forgetsEarly: true},
		"a keeper votes on after losing its disk":          {amnesia: true},
		"a keeper votes in a register that it knows ended": {votesOnOld: true},
		"the keepers that are proposed decide":             {newKeepers: true},
	} {
		t.Run(name, func(t *testing.T) {
			seen(t, func(seed uint64) string { _, wrong := walk(seed, broken); return wrong })
		})
	}
}
