package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kithdb/kith/node/topology"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
)

// What operators want of the membership. Package ring says what each wish comes to,
// node/topology has it decided, and node/mover makes the moves that follow. Here a
// wish finds whom it speaks of, and is refused, with what to do instead, where it
// could not come to an end.

// wish is one change of the record; r itself where it stands already.
type wish func(r *ring.Record) (*ring.Record, error)

// refused says why the ring does not allow something, and what to do.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{api.ErrRefused}, args...)...)
}

// change has what somebody wants decided.
func (n *Node) change(ctx context.Context, _ rpc.Peer, req *api.ChangeRequest) (*api.ChangeResponse, error) {
	r, err := n.founded()
	if err != nil {
		return nil, err
	}
	ctx, cancel := answerable(ctx)
	defer cancel()
	resp := &api.ChangeResponse{Epoch: r.Epoch, Said: []string{}}
	if id, gone := goneAlready(r, req); gone {
		resp.Said = append(resp.Said, fmt.Sprintf("%s is no member any more", id.Short()))
		return resp, nil
	}
	wishes, err := n.wishes(r, req)
	if err != nil {
		return nil, err
	}
	if err := n.permits(ctx, r, req, &wishes); err != nil {
		return nil, err
	}
	for _, w := range wishes {
		if err := n.fulfil(ctx, w, resp); err != nil {
			if resp.Changed {
				err = fmt.Errorf("%w (decided before that: %s)", err, strings.Join(resp.Said, "; "))
			}
			return nil, err
		}
	}
	n.cfg.Logger.Info("the ring was changed", "verb", req.Verb, "member", req.Member, "epoch", resp.Epoch, "changed", resp.Changed)
	return resp, nil
}

// founded is the ring record, or why there is nothing to change yet.
func (n *Node) founded() (*ring.Record, error) {
	r := n.topology.Current()
	if r == nil || !r.Founded() {
		return nil, fmt.Errorf("%w: the cluster is not founded yet, or this node has not joined it", api.ErrNotReady)
	}
	return r, nil
}

// answerMin is how much of a request's time is kept for its answer at most.
const answerMin = 300 * time.Millisecond

// answerable ends a little before the asker's patience, so that it is told how far
// things are.
func answerable(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/10, answerMin)))
}

// fulfil has one wish decided, and tells of it in resp.
func (n *Node) fulfil(ctx context.Context, w wish, resp *api.ChangeResponse) error {
	var base, next *ring.Record // what was proposed last, and on what
	decided, err := n.topology.Propose(ctx, func(r *ring.Record) (*ring.Record, error) {
		wanted, err := w(r)
		if err != nil {
			return nil, &refusal{err}
		}
		if wanted != r {
			if err := n.votable(ctx, r, wanted); err != nil {
				return nil, &refusal{err}
			}
			base, next = r, wanted
		}
		return wanted, nil
	})
	if err != nil {
		return outcome(err, next != nil)
	}
	resp.Epoch = decided.Epoch
	if next != nil {
		resp.Changed = true
		resp.Said = append(resp.Said, next.Changes(base)...)
	}
	return nil
}

// votable refuses a change after which the vote on the ring would hang on members that
// nobody reaches from here, or who do not vote: nothing could be changed ever after.
func (n *Node) votable(ctx context.Context, r, next *ring.Record) error {
	away := n.unvotable(ctx, r, next)
	if away == "" {
		return nil
	}
	return refused("too many of the %d members that would vote on the ring then are not reached, or do not vote: %s: start them, or remove them first (kith remove), or start another server with --join",
		len(next.Keepers), away)
}

// unvotable names the keepers of a record after r that are not reached from here, or do
// not vote; empty if a majority of them does, or they are those that r has. Where the vote
// hangs on every one of those who are reached, they are asked: one may be dead and not
// missed yet, or its disk may have forgotten what it had voted.
func (n *Node) unvotable(ctx context.Context, r, next *ring.Record) string {
	if slices.Equal(next.Keepers, r.Keepers) {
		return ""
	}
	var away []string
	var there []ring.NodeID
	for _, id := range next.Keepers {
		if id != n.id && !n.kv.Reachable(id) {
			away = append(away, label(next, id))
		} else {
			there = append(there, id)
		}
	}
	if 2*(len(away)+1) < len(next.Keepers) {
		return ""
	}
	for _, id := range there {
		if 2*len(away) >= len(next.Keepers) {
			break
		}
		if err := n.topology.Votes(ctx, id); err != nil {
			away = append(away, fmt.Sprintf("%s (%v)", label(next, id), err))
		}
	}
	if 2*len(away) < len(next.Keepers) {
		return ""
	}
	return strings.Join(away, ", ")
}

// refusal is what the rules of the ring say against a wish: nothing was proposed for
// it on the newest record.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// outcome says what an error of Propose means for who asked: refused, or unknown.
func outcome(err error, proposed bool) error {
	var no *refusal
	switch {
	case errors.As(err, &no) && errors.Is(err, api.ErrRefused):
		return no.error
	case errors.As(err, &no):
		return refused("%w", no.error)
	case topology.Unsent(err) && missing(err) != "":
		return fmt.Errorf("%w: nothing was changed: %s (%w)", api.ErrUnavailable, missing(err), err)
	case topology.Unsent(err):
		return fmt.Errorf("%w: nothing was changed: too few of the members that vote on the ring answer: %w", api.ErrUnavailable, err)
	case errors.Is(err, topology.ErrUnconfirmed):
		return fmt.Errorf("%w: the change is decided, but it is not known yet that a majority of the members that vote on the ring stores it: look again with kith ring history: %w", api.ErrUnknown, err)
	case proposed:
		return fmt.Errorf("%w: the change may still come: look with kith ring history: %w", api.ErrUnknown, err)
	}
	return fmt.Errorf("%w: nothing was changed: %w", api.ErrUnavailable, err)
}

// wishes are what a request comes to, each a record of its own.
func (n *Node) wishes(r *ring.Record, req *api.ChangeRequest) ([]wish, error) {
	one := func(w wish) ([]wish, error) { return []wish{w}, nil }
	if req.Verb == api.VerbReplicas {
		w, err := replicas(req.Number)
		if err != nil {
			return nil, err
		}
		return one(w)
	}
	if req.Verb == api.VerbAbort && req.Member == "" {
		return aborts(r)
	}
	id, err := n.named(r, req.Member, req.Verb == api.VerbJoin || req.Verb == api.VerbLeave)
	if err != nil {
		return nil, err
	}
	switch req.Verb {
	case api.VerbJoin:
		return one(n.join(id))
	case api.VerbLeave:
		return one(leave(id))
	case api.VerbRemove:
		return one(remove(id))
	case api.VerbWeight:
		if req.Number < 1 || req.Number > 1<<16-1 {
			return nil, fmt.Errorf("%w: weight %d: want 1 to %d", api.ErrBadRequest, req.Number, 1<<16-1)
		}
		return one(func(r *ring.Record) (*ring.Record, error) { return r.WithWeight(id, uint16(req.Number)) })
	case api.VerbReplace:
		with, err := n.named(r, req.With, false)
		if err != nil {
			return nil, fmt.Errorf("who takes the place: %w", err)
		}
		return one(succeed(id, with))
	case api.VerbAbort:
		w, err := abort(r, id)
		if err != nil {
			return nil, err
		}
		return one(w)
	}
	return nil, fmt.Errorf("%w: %v: no such change of the ring", api.ErrBadRequest, req.Verb)
}

// join is the wish of a member for its share.
func (n *Node) join(id ring.NodeID) wish {
	return func(r *ring.Record) (*ring.Record, error) {
		m := r.Member(id)
		switch {
		case m == nil && id == n.id:
			return r.WithJoin(ring.Member{ID: n.id, Name: n.name, Zone: n.cfg.Zone})
		case m == nil:
			return nil, refused("%s is no member any more", id.Short())
		case m.State == ring.Lost:
			return nil, refused("%s was given up as lost: to come back, start it with an empty data directory and --join", label(r, id))
		case m.State == ring.Active && r.IsApart(id):
			return r.WithReadmitted(id)
		}
		return r.WithJoin(*m)
	}
}

// leave is the wish that a member hands over all that it has.
func leave(id ring.NodeID) wish {
	return func(r *ring.Record) (*ring.Record, error) {
		switch m := r.Member(id); {
		case m == nil:
			return r, nil // it has left
		case m.State == ring.Lost:
			return nil, refused("%s was given up as lost and cannot hand anything over: kith remove %s gives its slots to the others", label(r, id), id.Short())
		}
		if err := spare(r, id); err != nil {
			return nil, err
		}
		return r.WithLeave(id)
	}
}

// remove is the wish that somebody dead for good has nothing any more.
func remove(id ring.NodeID) wish {
	return func(r *ring.Record) (*ring.Record, error) {
		if r.Member(id) == nil {
			return r, nil // it is removed
		}
		if err := spare(r, id); err != nil {
			return nil, err
		}
		return r.WithRemoval(id)
	}
}

// succeed is the wish that one member has the place of another.
func succeed(old, with ring.NodeID) wish {
	return func(r *ring.Record) (*ring.Record, error) {
		m := r.Member(with)
		switch {
		case m == nil:
			return nil, refused("%s is no member any more", with.Short())
		case r.Member(old) == nil:
			return nil, refused("%s is no member any more", old.Short())
		case old == with:
			return nil, refused("%s cannot take its own place", label(r, old))
		case m.State != ring.Standby:
			return nil, refused("%s is %v; only a member on standby can get exactly the slots of another: start one with --standby, or take its joining back with kith ring abort. To spread the slots over all members: kith leave %s",
				label(r, with), m.State, old.Short())
		}
		return r.WithSuccessor(old, *m)
	}
}

// giveUp is the wish that somebody dead for good fulfils nothing any more.
func giveUp(id ring.NodeID) wish {
	return func(r *ring.Record) (*ring.Record, error) { return r.WithLost(id) }
}

// spare refuses to let somebody go without whom there would be too few members.
func spare(r *ring.Record, id ring.NodeID) error {
	left := 0
	for i := range r.Members {
		if m := &r.Members[i]; m.ID != id && m.State == ring.Active {
			left++
		}
	}
	if left >= r.Replicas {
		return nil
	}
	return refused("every key has %d homes, and without %s only %d active members would be left: first start another server with --join, or have one on standby join (kith join), or, where a disk was lost, start one with --join HOST:PORT --replace %s",
		r.Replicas, label(r, id), left, id.Short())
}

// permits refuses what would not come to an end, by whom members reach now.
func (n *Node) permits(ctx context.Context, r *ring.Record, req *api.ChangeRequest, wishes *[]wish) error {
	switch req.Verb {
	case api.VerbLeave, api.VerbRemove, api.VerbReplace:
	default:
		return nil
	}
	id, err := n.named(r, req.Member, req.Verb == api.VerbLeave)
	if err != nil {
		return err
	}
	reaching := n.topology.Reaching(ctx, id)
	switch {
	case req.Verb == api.VerbLeave && len(reaching) == 0 && r.Member(id).State != ring.Leaving:
		return refused("nobody reaches %s, and only it knows when nothing is needed of it any more: wait until it is back, or, if it is dead for good: kith remove %s", label(r, id), id.Short())
	case req.Verb == api.VerbRemove && len(reaching) == 0:
		return n.spareData(ctx, r, id, req)
	case req.Verb == api.VerbRemove:
		return refused("%s is alive, it is reached by %s: kith leave %s has it hand over its slots; to give it up, stop it for good first", label(r, id), strings.Join(reaching, ", "), id.Short())
	case req.Verb == api.VerbReplace:
		with, err := n.named(r, req.With, false)
		if err != nil {
			return err
		}
		if len(n.topology.Reaching(ctx, with)) == 0 {
			return refused("nobody reaches %s, who is to take the place of %s: start it first", label(r, with), label(r, id))
		}
		if m := r.Member(id); len(reaching) == 0 && m.State != ring.Lost && r.Member(with).State == ring.Standby {
			// It is dead: it will never say that nothing is needed of it.
			if r.HomeCount(id) == 0 {
				return refused("%s has no slots, so there is no place to take: to have one member more, and one that is dead less: kith join %s, kith remove %s",
					label(r, id), req.With, id.Short())
			}
			if err := n.spareData(ctx, r, id, req); err != nil {
				return err
			}
			*wishes = slices.Insert(*wishes, 0, giveUp(id))
		}
	}
	return nil
}

// goneAlready says that a request is for somebody to go who is gone: it may have been
// made before.
func goneAlready(r *ring.Record, req *api.ChangeRequest) (ring.NodeID, bool) {
	if req.Verb != api.VerbLeave && req.Verb != api.VerbRemove {
		return ring.NodeID{}, false
	}
	if !isIDStart(req.Member) || len(matching(r, req.Member)) > 0 {
		return ring.NodeID{}, false
	}
	for _, id := range r.Banned {
		if strings.HasPrefix(id.String(), strings.ToLower(req.Member)) {
			return id, true
		}
	}
	return ring.NodeID{}, false
}

// named finds the member that somebody speaks of: by its name, its ID, or the first
// digits of that. Empty is this node, where that is meant.
func (n *Node) named(r *ring.Record, name string, selfIfEmpty bool) (ring.NodeID, error) {
	if name == "" {
		if selfIfEmpty {
			return n.id, nil
		}
		return ring.NodeID{}, fmt.Errorf("%w: no member is named: want a name, an ID, or at least its first 8 digits, as kith status shows them", api.ErrBadRequest)
	}
	found := matching(r, name)
	switch len(found) {
	case 0:
		return ring.NodeID{}, fmt.Errorf("%w: no member is called %q, and no ID begins so: kith status shows them", api.ErrBadRequest, name)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, id := range found {
		ids = append(ids, id.String())
	}
	return ring.NodeID{}, fmt.Errorf("%w: several members are called %q: name one by its ID: %s", api.ErrBadRequest, name, strings.Join(ids, ", "))
}

// matching are the members of a name, or else those whose ID begins so.
func matching(r *ring.Record, name string) (found []ring.NodeID) {
	for i := range r.Members {
		if r.Members[i].Name == name {
			found = append(found, r.Members[i].ID)
		}
	}
	if len(found) > 0 || !isIDStart(name) {
		return found
	}
	for i := range r.Members {
		if strings.HasPrefix(r.Members[i].ID.String(), strings.ToLower(name)) {
			found = append(found, r.Members[i].ID)
		}
	}
	return found
}

// label is a member's name for people, or the beginning of its ID.
func label(r *ring.Record, id ring.NodeID) string {
	if m := r.Member(id); m != nil && m.Name != "" {
		return m.Name
	}
	return id.Short()
}
