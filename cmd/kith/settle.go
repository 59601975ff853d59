package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/client"
	"github.com/kithdb/kith/ring"
)

const (
	// settlePause lies between two looks at the moves.
	settlePause = 500 * time.Millisecond
	// settleLook bounds one look.
	settleLook = 5 * time.Second
)

// moving follows the moves of slots until a ring is as it shall be.
type moving struct {
	c     *client.Client
	after uint64 // a record of an earlier epoch says nothing yet
	// done says that the wait is over, or that it never will be.
	done func(*ring.Record) (bool, error)

	record *ring.Record
	told   error // why the latest look failed

	mu    sync.Mutex // guards the rest, which progress shows
	moves *client.RingMoves
	left  int // slots to change hands; -1 is unknown
	most  int // that were left at any time
}

// look asks once, and says whether that is the end.
func (m *moving) look(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, settleLook)
	defer cancel()
	view, err := m.c.Ring(ctx)
	if m.told = err; err != nil || view.Record.Epoch < m.after {
		return false, nil
	}
	moves, err := m.c.Moves(ctx)
	m.mu.Lock()
	if m.record == nil || m.record.Epoch != view.Record.Epoch {
		m.left = slotsToMove(view.Record)
		m.most = max(m.most, m.left)
	}
	if err == nil {
		if m.moves != nil { // somebody who does not tell this time has not unmoved anything
			moves.Bytes = max(moves.Bytes, m.moves.Bytes)
		}
		m.moves = moves
	}
	m.mu.Unlock()
	m.record = view.Record
	return m.done(view.Record)
}

// wait looks until the end, and shows progress meanwhile. The context's deadline
// ends it with the status for that; late says what goes on without us.
func (a *app) wait(ctx context.Context, m *moving, late string) error {
	p := a.watch(m.line)
	defer p.close()
	for {
		over, err := m.look(ctx)
		if over || err != nil {
			return err
		}
		t := time.NewTimer(settlePause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			err := fmt.Errorf("not done after %v; %s", a.timeout, late)
			if m.told != nil {
				err = fmt.Errorf("%w (the latest look failed: %w)", err, m.told)
			}
			return &exitError{exitWait, err, "see kith ring moves"}
		}
	}
}

// slotsToMove is how many slots change hands, or are taken away, until nothing is left to do; -1 if that
// cannot be told, as too few members take a share.
func slotsToMove(r *ring.Record) int {
	if !r.Founded() {
		return 0
	}
	f, err := r.Forecast()
	if err != nil {
		return -1
	}
	return f.Slots + slotsToGo(r)
}

// settled says that no slot moves, and that none should.
func settled(r *ring.Record) bool {
	return len(r.Moves) == 0 && r.Before == 0 && slotsToMove(r) <= 0
}

// line is progress for people.
func (m *moving) line() (string, float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moves == nil {
		return "no node has told of the moves yet", -1
	}
	text := movesLine(m.moves, m.left)
	if m.most <= 0 || m.left < 0 {
		return text, -1
	}
	return text, 1 - float64(m.left)/float64(m.most)
}

// movesLine sums up the moves in one line. left is how many slots are still to
// change hands, -1 if that is not known.
func movesLine(moves *client.RingMoves, left int) string {
	if left < 0 {
		left = moves.Queued + moves.Running
	}
	text := fmt.Sprintf("%d slots to move, %d under way, %s moved", left, moves.Running, byteSize(int64(moves.Bytes)))
	if moves.Running > 0 && moves.Rate > 0 {
		text += fmt.Sprintf(" at %s/s", byteSize(int64(moves.Rate)))
	}
	if left > 0 && moves.Seconds > 0 {
		text += fmt.Sprintf(", about %s left", duration(time.Duration(moves.Seconds*float64(time.Second))))
	}
	if n, why := waiting(moves); n > 0 {
		text += fmt.Sprintf(", %d wait: %s", n, reason(why))
	}
	return text
}

// reason is why a move waits, behind a word that says that it does.
func reason(why string) string { return strings.TrimPrefix(why, "waits ") }

// waiting counts the moves that do not go on, with the reason of the first of those that
// wait for more than their turn, or else of the first.
func waiting(moves *client.RingMoves) (n int, why string) {
	for i := range moves.Moves {
		w := moves.Moves[i].Waits
		if w == "" {
			continue
		}
		if n == 0 || reason(why) != why && reason(w) == w {
			why = w
		}
		n++
	}
	return n, why
}

// waitChange waits until a change has come to its end. It is an error if somebody has
// taken it back meanwhile.
func (a *app) waitChange(ctx context.Context, c *client.Client, ch *change, req *client.RingRequest, before *ring.Record, epoch uint64) error {
	m := &moving{c: c, after: epoch, left: -1}
	m.done = func(r *ring.Record) (bool, error) { return ch.ended(before, r, req) }
	if err := a.wait(ctx, m, "the change stands, and goes on without this command"); err != nil {
		return err
	}
	if a.format != formatTable {
		return nil
	}
	fmt.Fprintf(a.out, "epoch %d: done\n", m.record.Epoch)
	switch ch.verb {
	case client.RingLeave, client.RingReplace, client.RingRemove:
		if who, _ := memberOf(before, req.Member); who != nil {
			a.hint("%s is no member any more, and its ID never comes back. Its server, where it runs, ends by itself; its directory is not needed.", label(who))
		}
	}
	return nil
}

// ended says that everything is as the change wants it in a record that came after
// it. before is one from before the change, for names.
func (ch *change) ended(before, r *ring.Record, req *client.RingRequest) (bool, error) {
	find := func(text string) *ring.Member {
		for _, in := range []*ring.Record{before, r} {
			if m, err := memberOf(in, text); err == nil && m != nil {
				return r.Member(m.ID)
			}
		}
		return nil
	}
	m := find(req.Member)
	undone := func(format string, args ...any) (bool, error) {
		return false, &exitError{exitBroken, fmt.Errorf(format+": somebody has changed that meanwhile", args...), "see kith ring history"}
	}
	switch ch.verb {
	case client.RingReplicas:
		return replicasEnded(r, req.Number)
	case client.RingJoin:
		if m == nil || m.State != ring.Active {
			return undone("%s does not join any more", req.Member)
		}
		return settled(r), nil
	case client.RingWeight:
		if m == nil || int(m.Weight) != req.Number {
			return undone("%s has not the weight %d any more", req.Member, req.Number)
		}
		return settled(r), nil
	case client.RingLeave, client.RingReplace:
		if m != nil && m.State == ring.Active {
			return undone("%s does not leave any more", label(m))
		}
		if heir := find(req.With); ch.verb == client.RingReplace && m != nil && (heir == nil || heir.State != ring.Active) {
			return undone("%s is not to get what %s has any more", req.With, label(m))
		}
	}
	return m == nil, nil
}
