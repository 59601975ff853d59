package paxos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// A phase waits that long for its majority before the attempt is given
	// up as lost on the way: at first the shorter, doubling up to the longer
	// one, because fsync on a failing disk may take seconds.
	phaseMin = 2 * time.Second
	phaseMax = 8 * time.Second

	// Two proposers that disturb each other wait a random while below a
	// bound that doubles: one of them then has the time for two round
	// trips and two fsyncs alone.
	backoffMin = 20 * time.Millisecond
	backoffMax = time.Second
)

// Acceptor is one acceptor as a proposer reaches it. Its methods return soon
// after ctx ends; an error means that it may or may not have voted.
type Acceptor interface {
	// Prepare asks it to promise that it takes no older ballot.
	Prepare(ctx context.Context, b Ballot) (Reply, error)
	// Accept asks it to vote for a value under a ballot.
	Accept(ctx context.Context, b Ballot, value []byte) (Reply, error)
}

// UndecidedError says that a proposer stopped without learning a decision.
type UndecidedError struct {
	// Cause is why it stopped: its context's.
	Cause error
	// Acceptors holds, by index, what went wrong with each one last; nil
	// for those that answered.
	Acceptors []error
	// Sent says that an accept left: a value may be decided all the same.
	Sent bool
}

// Error names the acceptors that failed, and why it stopped.
func (e *UndecidedError) Error() string {
	var failed []string
	for i, err := range e.Acceptors {
		if err != nil {
			failed = append(failed, fmt.Sprintf("%d: %v", i, err))
		}
	}
	text := fmt.Sprintf("no decision: %d of %d acceptors failed", len(failed), len(e.Acceptors))
	if len(failed) > 0 {
		text += " (" + strings.Join(failed, "; ") + ")"
	}
	return text + ": " + e.Cause.Error()
}

// Unwrap gives the cause.
func (e *UndecidedError) Unwrap() error { return e.Cause }

// Propose makes the register decide, on want if on nothing else before, and
// returns what it decided: perhaps someone else's value. It tries until ctx
// ends, which gives an *UndecidedError. All that it started has ended when it
// returns. chance is used by this call alone.
func Propose(ctx context.Context, self Node, acceptors []Acceptor, want []byte, chance *rand.Rand) ([]byte, error) {
	p := NewProposer(self, len(acceptors), want)
	undecided := &UndecidedError{Acceptors: make([]error, len(acceptors))}
	patience := phaseMin
	for backoff := backoffMin; ; backoff = min(2*backoff, backoffMax) {
		step := Send
		for p.Begin(); step == Send; {
			undecided.Sent = undecided.Sent || p.Message().Phase == Accepting
			step = phase(ctx, p, acceptors, undecided.Acceptors, patience)
		}
		if step == NoMajority {
			patience = min(2*patience, phaseMax)
		}
		if step == Decided {
			return p.Value(), nil
		}
		wait := time.NewTimer(time.Duration(chance.Int64N(int64(backoff))))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			undecided.Cause = context.Cause(ctx)
			return nil, undecided
		}
	}
}

// leaveMin is enough for messages to leave this process.
const leaveMin = time.Millisecond

// leave waits for messages that are about to be sent.
func leave(ctx context.Context, left time.Duration) {
	wait := time.NewTimer(left)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}

// phase sends the proposer's message to all acceptors and hands it their answers
// until it wants something else. Who has not answered when patience ends has failed.
func phase(ctx context.Context, p *Proposer, acceptors []Acceptor, failed []error, patience time.Duration) Step {
	m := p.Message()
	answers := make(chan answer, len(acceptors))
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel() // stops waiting for stragglers
	began := time.Now()
	for i, a := range acceptors {
		calls.Go(func() {
			var r Reply
			var err error
			if m.Phase == Preparing {
				r, err = a.Prepare(ctx, m.Ballot)
			} else {
				r, err = a.Accept(ctx, m.Ballot, m.Value)
			}
			answers <- answer{i, r, err}
		})
	}
	for {
		heard := []answer{<-answers}
		if left := leaveMin - time.Since(began); left > 0 {
			leave(ctx, left) // some answer or fail at once, where others have not been sent to yet
			heard = inOrder(heard, answers)
		}
		step := Wait
		for _, a := range heard {
			failed[a.from] = a.err
			next := Wait
			if a.err != nil {
				next = p.Fail(a.from, m)
			} else {
				next = p.Answer(a.from, m, a.reply)
			}
			if next != Wait {
				step = next
			}
		}
		if step != Wait {
			return step
		}
	}
}

// answer is what became of a message to one acceptor.
type answer struct {
	from  int
	reply Reply
	err   error
}

// inOrder adds the answers that have come to those that were heard: who has answered
// first, then who has failed, as several may do at one instant.
func inOrder(heard []answer, answers <-chan answer) []answer {
	for len(answers) > 0 {
		heard = append(heard, <-answers)
	}
	slices.SortFunc(heard, func(a, b answer) int {
		if (a.err == nil) != (b.err == nil) {
			if a.err == nil {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.from, b.from)
	})
	return heard
}
