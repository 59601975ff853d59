package paxos

// Phase is how far an attempt has come.
type Phase uint8

// The phases of an attempt, in order.
const (
	Idle Phase = iota
	Preparing
	Accepting
	Done
)

// Message is what a proposer wants sent to every acceptor: a prepare, or an
// accept with its value.
type Message struct {
	Phase  Phase // Preparing or Accepting
	Ballot Ballot
	Value  []byte
}

// Step is what a proposer wants after an event.
type Step uint8

// The steps. After Conflict and NoMajority the attempt is over: the caller waits
// a random while, then calls Begin again.
const (
	// Wait for more answers.
	Wait Step = iota
	// Send the Message to all acceptors.
	Send
	// Conflict: so many acceptors have promised a later ballot that this
	// one can have no majority.
	Conflict
	// NoMajority: so many acceptors failed to answer.
	NoMajority
	// Decided: Value is the register's, for ever. It may be someone else's.
	Decided
)

// Proposer is one proposer of one register, as a state machine: events in, steps
// out. It may die at any moment and needs no memory: another one, of the same
// name too, finishes what it left. Not safe for concurrent use.
type Proposer struct {
	self      Node
	acceptors int
	want      []byte

	message Message
	heard   []bool // by acceptor: it answered the message, or failed to
	yes, no int
	refused bool   // some acceptor of this phase had promised a later ballot
	found   Ballot // the latest one accepted by any who promised
	value   []byte // found's; after Done the decided one
	round   uint64 // the highest heard of
}

// NewProposer makes a proposer of want, not empty, for a register with that many
// acceptors, at least one.
func NewProposer(self Node, acceptors int, want []byte) *Proposer {
	if acceptors < 1 || len(want) == 0 {
		panic("paxos: a proposer needs acceptors and a value")
	}
	return &Proposer{self: self, acceptors: acceptors, want: want}
}

// Begin starts an attempt with a ballot behind all that were heard of, and gives
// its prepare. Answers to earlier attempts then change nothing, unless they tell
// the decision.
func (p *Proposer) Begin() Message {
	if p.message.Phase == Done {
		panic("paxos: the register is decided")
	}
	if p.round < RoundMax {
		p.round++
	}
	p.found, p.value = Ballot{}, nil
	return p.send(Message{Phase: Preparing, Ballot: Ballot{p.round, p.self}})
}

func (p *Proposer) send(m Message) Message {
	p.message = m
	p.heard = make([]bool, p.acceptors)
	p.yes, p.no, p.refused = 0, 0, false
	return m
}

// Message is what Send wants sent.
func (p *Proposer) Message() Message { return p.message }

// Value is what was decided; nil before.
func (p *Proposer) Value() []byte {
	if p.message.Phase != Done {
		return nil
	}
	return p.value
}

// Answer takes what an acceptor, by its index, replied to a message. Only the
// first answer to a message counts.
func (p *Proposer) Answer(from int, to Message, r Reply) Step {
	if p.message.Phase == Done {
		return Decided
	}
	if len(r.Decided) > 0 {
		return p.done(r.Decided)
	}
	if r.Promised.usable() {
		p.round = max(p.round, r.Promised.Round)
	}
	if !p.first(from, to) {
		return Wait
	}
	if !r.OK {
		p.no++
		p.refused = true
		return p.lost()
	}
	p.yes++
	if to.Phase == Preparing && r.Accepted.Compare(p.found) > 0 {
		p.found, p.value = r.Accepted, r.Value
	}
	if p.yes <= p.acceptors/2 {
		return p.lost()
	}
	if to.Phase == Accepting {
		return p.done(p.message.Value)
	}
	value := p.want
	if !p.found.IsZero() {
		value = p.value // it may be decided already: finish it
	}
	p.send(Message{Phase: Accepting, Ballot: to.Ballot, Value: value})
	return Send
}

// Fail says that an acceptor gave no answer to a message.
func (p *Proposer) Fail(from int, to Message) Step {
	if p.message.Phase == Done {
		return Decided
	}
	if !p.first(from, to) {
		return Wait
	}
	p.no++
	return p.lost()
}

// first says that this is the acceptor's first word on the current message.
func (p *Proposer) first(from int, to Message) bool {
	if to.Phase != p.message.Phase || to.Ballot != p.message.Ballot || p.heard[from] {
		return false
	}
	p.heard[from] = true
	return true
}

// lost looks whether a majority can still be had.
func (p *Proposer) lost() Step {
	if p.acceptors-p.no > p.acceptors/2 {
		return Wait
	}
	if p.refused {
		return Conflict
	}
	return NoMajority
}

func (p *Proposer) done(value []byte) Step {
	p.message, p.value = Message{Phase: Done}, value
	return Decided
}
