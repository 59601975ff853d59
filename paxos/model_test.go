package paxos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// runs is how many random runs a search makes.
func runs(short int) int {
	if n, err := strconv.Atoi(os.Getenv("KITH_LONG")); err == nil && n > 0 {
		return short * 30
	}
	return short
}

// rules are what the world's acceptors and proposers do. The zero rules are
// ours; each field breaks one.
type rules struct {
	forgetsPromise bool // a restarted acceptor keeps what it accepted, but no promise
	forgetsAll     bool
	ignoresFound   bool // a proposer proposes its own value whatever it found
	anyFound       bool // a proposer finishes the first value found, not the latest
	promisesTwice  bool // an acceptor promises one ballot again and again
	acceptsOld     bool // an acceptor accepts below its promise
}

// packet is a message on its way to an acceptor, or the reply on its way back.
type packet struct {
	to       *actor
	acceptor int
	message  Message
	reply    *Reply
}

// actor is one life of a proposer. A restarted one has its name and no memory.
type actor struct {
	*Proposer
	want    []byte
	decided []byte
	dead    bool
}

// world is a register, searched at random: packets are delivered in any order,
// lost or repeated, acceptors restart, proposers die.
type world struct {
	rules
	r         *rand.Rand
	cells     []Cell
	knows     [][]byte // by acceptor: the decision that it was told
	actors    []*actor
	net       []packet
	proposed  map[string]bool
	votes     map[string]map[int]bool // ballot and value: who accepted
	decisions map[string]bool
}

func newWorld(seed uint64, as rules) *world {
	w := &world{rules: as, r: rand.New(rand.NewPCG(seed, 2)), proposed: map[string]bool{},
		votes: map[string]map[int]bool{}, decisions: map[string]bool{}}
	n := 1 + w.r.IntN(5)
	w.cells, w.knows = make([]Cell, n), make([][]byte, n)
	w.actors = make([]*actor, 1+w.r.IntN(4))
	for i := range w.actors {
		w.born(i)
	}
	return w
}

func (w *world) born(i int) {
	want := fmt.Appendf(nil, "value %d", len(w.proposed)+1)
	w.proposed[string(want)] = true
	w.actors[i] = &actor{Proposer: NewProposer(Node{byte(i + 1)}, len(w.cells), want), want: want}
}

func (w *world) send(a *actor, m Message) {
	for i := range w.cells {
		w.net = append(w.net, packet{to: a, acceptor: i, message: m})
	}
}

func (w *world) step() {
	if len(w.net) == 0 || w.r.IntN(8) == 0 {
		w.disturb()
		return
	}
	i := w.r.IntN(len(w.net))
	p := w.net[i]
	if w.r.IntN(10) > 0 { // else it is repeated later
		w.net[i] = w.net[len(w.net)-1]
		w.net = w.net[:len(w.net)-1]
	}
	if w.r.IntN(10) > 0 { // else it is lost
		w.deliver(p)
	}
}

func (w *world) disturb() {
	switch i := w.r.IntN(len(w.actors)); w.r.IntN(8) {
	case 0:
		w.actors[i].dead = true
		w.born(i)
		w.send(w.actors[i], w.actors[i].Begin())
	case 1:
		w.restart(w.r.IntN(len(w.cells)))
	case 2: // an acceptor hears of the decision
		if a := w.actors[i]; a.decided != nil {
			w.knows[w.r.IntN(len(w.cells))] = a.decided
		}
	default: // a proposer begins, or gives up an attempt for a new one
		if a := w.actors[i]; a.decided == nil {
			w.send(a, a.Begin())
		}
	}
}

func (w *world) restart(i int) {
	c, err := ParseCell(w.cells[i].Append(nil), 100)
	if err != nil {
		panic(err)
	}
	if w.forgetsPromise {
		c.Promised = c.Accepted
	}
	if w.forgetsAll {
		c = Cell{}
	}
	w.cells[i] = c
}

func (w *world) deliver(p packet) {
	if p.reply == nil {
		r := w.vote(p.acceptor, p.message)
		p.reply = &r
		w.net = append(w.net, p)
		return
	}
	a := p.to
	if a.dead {
		return
	}
	found := a.found
	value := a.value
	step := Wait
	if w.r.IntN(20) == 0 && a.decided == nil {
		step = a.Fail(p.acceptor, p.message)
	} else {
		step = a.Answer(p.acceptor, p.message, *p.reply)
	}
	if w.anyFound && !found.IsZero() && a.decided == nil && step != Decided {
		a.found, a.value = found, value
		if step == Send {
			a.message.Value = value
		}
	}
	switch step {
	case Send:
		if w.ignoresFound {
			a.message.Value = a.want
		}
		w.send(a, a.Message())
	case Decided:
		a.decided = a.Value()
		w.decisions[string(a.decided)] = true
	case Conflict, NoMajority:
		if w.r.IntN(2) == 0 {
			w.send(a, a.Begin())
		}
	}
}

func (w *world) vote(i int, m Message) Reply {
	c := &w.cells[i]
	if w.knows[i] != nil {
		return Reply{Decided: w.knows[i]}
	}
	var r Reply
	if m.Phase == Preparing {
		if w.promisesTwice && m.Ballot == c.Promised {
			return Reply{OK: true, Promised: c.Promised, Accepted: c.Accepted, Value: c.Value}
		}
		*c, r = c.Prepare(m.Ballot)
		return r
	}
	if w.acceptsOld {
		*c, r = Cell{}.Accept(m.Ballot, m.Value)
	} else {
		*c, r = c.Accept(m.Ballot, m.Value)
	}
	if r.OK {
		w.count(i, m)
	}
	return r
}

// count decides by the definition: a majority of acceptors accepted one ballot.
func (w *world) count(i int, m Message) {
	k := fmt.Sprint(m.Ballot.Round, m.Ballot.Node, string(m.Value))
	if w.votes[k] == nil {
		w.votes[k] = map[int]bool{}
	}
	w.votes[k][i] = true
	if len(w.votes[k]) > len(w.cells)/2 {
		w.decisions[string(m.Value)] = true
	}
}

// wrong says which promise is broken.
func (w *world) wrong() string {
	if len(w.decisions) > 1 {
		return fmt.Sprintf("decided %v", w.decisions)
	}
	for v := range w.decisions {
		if !w.proposed[v] {
			return fmt.Sprintf("decided %q, which nobody proposed", v)
		}
	}
	return ""
}

// calm lets one proposer alone run to the end on a good network, and counts its
// attempts.
func (w *world) calm() int {
	w.net = nil
	w.born(0)
	a := w.actors[0]
	for attempts := 1; attempts < 10; attempts++ {
		w.send(a, a.Begin())
		for len(w.net) > 0 && a.decided == nil {
			p := w.net[0]
			w.net = w.net[1:]
			if p.reply == nil {
				r := w.vote(p.acceptor, p.message)
				p.reply = &r
				w.net = append(w.net, p)
				continue
			}
			switch a.Answer(p.acceptor, p.message, *p.reply) {
			case Send:
				w.send(a, a.Message())
			case Decided:
				a.decided = a.Value()
				w.decisions[string(a.decided)] = true
			}
		}
		if a.decided != nil {
			return attempts
		}
	}
	return 10
}

func search(seed uint64, as rules) (w *world, wrong string) {
	w = newWorld(seed, as)
	for range 60 + w.r.IntN(200) {
		w.step()
		if wrong = w.wrong(); wrong != "" {
			return w, wrong
		}
	}
	return w, ""
}

func TestAtMostOneValueIsDecidedAndItWasProposed(t *testing.T) {
	decided := 0
	n := runs(6000)
	for seed := range uint64(n) {
		w, wrong := search(seed, rules{})
		if wrong != "" {
			t.Fatalf("seed %d: %s", seed, wrong)
		}
		decided += len(w.decisions)
		// The first attempt may run into a promise; its refusals tell by
		// how far, so that the second one passes.
		if attempts := w.calm(); attempts > 2 {
			t.Fatalf("seed %d: an undisturbed proposer needed %d attempts", seed, attempts)
		}
		if wrong := w.wrong(); wrong != "" {
			t.Fatalf("seed %d, afterwards: %s", seed, wrong)
		}
	}
	if decided < n/4 {
		t.Fatalf("only %d of %d runs decided under disturbance: the search looks at nothing", decided, n)
	}
}

// The search must be able to see what each rule prevents.
func TestSearchSeesBrokenRules(t *testing.T) {
	for name, broken := range map[string]rules{
		"an acceptor forgets its promise":             {forgetsPromise: true},
		"an acceptor forgets all":                     {forgetsAll: true},
		"a proposer ignores the value that it found":  {ignoresFound: true},
		"a proposer finishes not the latest value":    {anyFound: true},
		"an acceptor promises a ballot a second time": {promisesTwice: true},
		"an acceptor accepts below its promise":       {acceptsOld: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(40000) {
				if _, wrong := search(seed, broken); wrong != "" {
					t.Logf("seed %d: %s", seed, wrong)
					return
				}
			}
			t.Fatal("not seen")
		})
	}
}
