package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

// A newcomer takes the place of a member whose disk is lost. It first has that
// member given up, then waits until enough other homes hold the record which says
// so, and then has itself put in its place: see package ring for why in two steps.
// Each step is safe to repeat, by this newcomer or another one.

const (
	// probeMax is how long a member that is to be replaced has to show that it
	// lives, and another one to say what it sees of it.
	probeMax = time.Second
	// prefixMin is how much of an ID names a member to be replaced: what status
	// shows.
	prefixMin = 8
)

// waiting is a reason why a replacement does not go on yet, which is no failure.
type waiting struct{ why string }

func (w *waiting) Error() string { return w.why }

// Replacing says what this node waits for before it can take the place of the
// member named by Config.Replace; empty if it waits for nothing.
func (t *Topology) Replacing() string {
	why, r := t.replacing.Load(), t.Current()
	if why == nil || r == nil || r.HomeCount(t.cfg.Self.ID) > 0 {
		return ""
	}
	return *why
}

// replace takes the place of the member that this node was told to replace. An
// error that wraps ErrReplace is for good.
func (t *Topology) replace(ctx context.Context, r *ring.Record) error {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	err := t.replaceStep(ctx, r)
	why := ""
	if err != nil {
		why = err.Error()
	}
	t.replacing.Store(&why)
	return err
}

func (t *Topology) replaceStep(ctx context.Context, r *ring.Record) error {
	old, err := replaced(r, t.cfg.Replace, t.cfg.Self.ID)
	if err != nil {
		return t.unlessOld(ctx, err)
	}
	if r.Member(old).State != ring.Lost {
		if err := t.unreached(ctx, r, old); err != nil {
			return err
		}
		if err := t.spareData(r, old); err != nil {
			return err
		}
		t.log.Warn("giving up the member whose place this node takes", "lost", old, "epoch", r.Epoch)
		giveUp := func(r *ring.Record) (*ring.Record, error) {
			if r.Member(old) == nil {
				return nil, errGone(old)
			}
			return r.WithLost(old)
		}
		if _, err := t.Propose(ctx, giveUp); err != nil {
			return err
		}
	}
	if err := t.fenceOff(ctx, old); err != nil {
		return err
	}
	_, err = t.Propose(ctx, func(r *ring.Record) (*ring.Record, error) {
		if r.HomeCount(t.cfg.Self.ID) > 0 {
			return r, nil
		}
		if r.Member(old) == nil {
			return nil, errGone(old)
		}
		return r.WithReplacement(old, t.cfg.Self)
	})
	if err == nil {
		t.log.Info("this node has taken the place of a lost member", "lost", old, "epoch", t.Current().Epoch)
	}
	return err
}

// unlessOld is what an error comes to that was read off the record which this node
// holds. A member that was cut off may have told it an old one: the error is for good
// only if a majority of the record's keepers knows none that is newer.
func (t *Topology) unlessOld(ctx context.Context, err error) error {
	d := t.held.Load()
	ctx, cancel := context.WithTimeout(ctx, tellMax)
	defer cancel()
	epochs := make([]uint64, len(d.record.Keepers)) // 0: no answer
	var asked sync.WaitGroup
	for i, id := range d.record.Keepers {
		asked.Go(func() {
			if to, err := t.peer(id); err == nil {
				if resp, err := tellRoute.Call(ctx, t.cfg.Transport, to, &tellRequest{d.encoded}); err == nil {
					epochs[i] = resp.Epoch
				}
			}
		})
	}
	asked.Wait()
	same := 0
	for _, epoch := range epochs {
		switch {
		case epoch > d.record.Epoch:
			return &waiting{fmt.Sprintf("%v (by ring epoch %d; there is a newer one, %d)", err, d.record.Epoch, epoch)}
		case epoch == d.record.Epoch:
			same++
		}
	}
	if same <= len(epochs)/2 {
		return &waiting{fmt.Sprintf("%v (by ring epoch %d, which may be old: %d of %d keepers answer)", err, d.record.Epoch, same, len(epochs))}
	}
	return err
}

// mayTakePlace says that a node which is to take a member's place may not have done so
// yet. One that is a member of its own has: it was started again with the same words, or
// it has joined in another way since, and has no slots because it leaves or waits for them.
// On standby it may have given the place away again: then there is none any more.
func mayTakePlace(r *ring.Record, self ring.NodeID, name string) bool {
	m := r.Member(self)
	if m != nil && m.State == ring.Standby {
		name = strings.ToLower(name)
		return len(name) < prefixMin || !slices.ContainsFunc(r.Banned, func(id ring.NodeID) bool { return strings.HasPrefix(id.String(), name) }) ||
			slices.ContainsFunc(r.Members, func(m ring.Member) bool { return strings.HasPrefix(m.ID.String(), name) })
	}
	return m == nil
}

func errGone(old ring.NodeID) error {
	return fmt.Errorf("%w of %s: it was replaced or removed already", ErrReplace, old)
}

// replaced finds the member that a name stands for: its ID, or the beginning of
// it.
func replaced(r *ring.Record, name string, self ring.NodeID) (old ring.NodeID, err error) {
	name = strings.ToLower(name)
	if len(name) < prefixMin {
		return old, fmt.Errorf("%w of %q: want at least the first %d digits of its ID", ErrReplace, name, prefixMin)
	}
	named := func(id ring.NodeID) bool { return strings.HasPrefix(id.String(), name) }
	var found []string
	for i := range r.Members {
		if m := &r.Members[i]; named(m.ID) {
			old = m.ID
			found = append(found, m.ID.String())
		}
	}
	switch {
	case len(found) > 1:
		return old, fmt.Errorf("%w of %q: that is the beginning of several IDs: %s", ErrReplace, name, strings.Join(found, ", "))
	case len(found) == 0 && slices.ContainsFunc(r.Banned, named):
		return old, fmt.Errorf("%w of %s: it was replaced or removed already", ErrReplace, name)
	case len(found) == 0:
		return old, fmt.Errorf("%w of %s: cluster %q has no such member; kith status shows their IDs", ErrReplace, name, r.Name)
	case old == self:
		return old, fmt.Errorf("%w of %s: that is this node itself", ErrReplace, name)
	case r.HomeCount(old) == 0:
		return old, fmt.Errorf("%w of %s: it is home of nothing: this node can join without --replace", ErrReplace, name)
	}
	return old, nil
}

// unreached is nil if neither this node nor any member that answers reaches a
// member, so that it may be given up.
func (t *Topology) unreached(ctx context.Context, r *ring.Record, old ring.NodeID) error {
	if t.lives(ctx, old) {
		return fmt.Errorf("%w of member %s (%s): it is alive: it must be stopped for good before another node takes its place",
			ErrReplace, old, r.Member(old).Name)
	}
	if seen := t.seenBy(ctx, r, old); len(seen) > 0 {
		return &waiting{fmt.Sprintf("member %s (%s) cannot be replaced while others reach it: %s", old.Short(), r.Member(old).Name, strings.Join(seen, ", "))}
	}
	return nil
}

// Reaching are the names of the members that reach another one now, this node's among
// them: none if nobody does that answers. It asks all of them, for a second at most.
func (t *Topology) Reaching(ctx context.Context, id ring.NodeID) []string {
	r := t.Current()
	if r == nil {
		return nil
	}
	seen := t.seenBy(ctx, r, id)
	if id == t.cfg.Self.ID || t.lives(ctx, id) {
		seen = append(seen, t.cfg.Self.Name)
	}
	slices.Sort(seen)
	return seen
}

// spareData waits while nobody else who is there has a copy of something: whether it may
// be lost is not for a newcomer to say.
func (t *Topology) spareData(r *ring.Record, old ring.NodeID) error {
	view := t.cfg.Membership.View()
	there := func(id ring.NodeID) bool {
		p := view.Peer(id)
		return id != old && r.Member(id).State != ring.Lost && (id == t.cfg.Self.ID || p != nil && p.Alive && t.cfg.Reached(id))
	}
	only := 0
	for p := range ring.Partition(r.Partitions) {
		if homes := r.Homes(p); slices.Contains(homes, old) && !slices.ContainsFunc(homes, there) {
			only++
		}
	}
	if only == 0 {
		return nil
	}
	return &waiting{fmt.Sprintf("member %s (%s) has the only copy of %d of %d partitions, as far as homes can be reached: start it or their other homes; "+
		"if that is gone for good: kith remove %s --data-lost", old.Short(), r.Member(old).Name, only, r.Partitions, old.Short())}
}

// seenBy are the names of the other members that reach one.
func (t *Topology) seenBy(ctx context.Context, r *ring.Record, id ring.NodeID) (seen []string) {
	var asked sync.WaitGroup
	sees := make([]bool, len(r.Members))
	for i := range r.Members {
		if m := &r.Members[i]; m.ID != id && m.ID != t.cfg.Self.ID {
			asked.Go(func() { sees[i] = t.sees(ctx, m.ID, id) })
		}
	}
	asked.Wait()
	for i := range r.Members {
		if sees[i] {
			seen = append(seen, memberNames(r, []ring.NodeID{r.Members[i].ID})...)
		}
	}
	return seen
}

// lives says that a member answers this node.
func (t *Topology) lives(ctx context.Context, id ring.NodeID) bool { return t.Probe(ctx, id) == nil }

// Probe asks a member something at the address that it tells of itself, for a second at
// most; the error is why there was no answer. The node has a record.
func (t *Topology) Probe(ctx context.Context, id ring.NodeID) error {
	to, err := t.peer(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	held := t.Current()
	_, err = pullRoute.Call(ctx, t.cfg.Transport, to, &pullRequest{Cluster: held.Cluster, Epoch: held.Epoch})
	return err
}

// sees asks one member whether it reaches another. One that does not answer sees
// nobody: a majority of the keepers must answer anyhow before anything changes.
func (t *Topology) sees(ctx context.Context, who, whom ring.NodeID) bool {
	to, err := t.peer(who)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	resp, err := seesRoute.Call(ctx, t.cfg.Transport, to, &seesRequest{whom})
	return err == nil && resp.Reached
}

func (t *Topology) serveSees(_ context.Context, from rpc.Peer, req *seesRequest) (*seesResponse, error) {
	if from.ID.IsZero() {
		return nil, errClient
	}
	p := t.cfg.Membership.View().Peer(req.Member)
	alive := p != nil && p.Alive
	return &seesResponse{Reached: alive && t.cfg.Reached(req.Member)}, nil
}

// fenceOff returns when, of every partition that old is a home of, enough other
// homes store that old is lost: N-Q+1 of them, with Q the quorum, so that no
// quorum is left that has not heard of it.
func (t *Topology) fenceOff(ctx context.Context, old ring.NodeID) error {
	d := t.held.Load()
	stored := map[ring.NodeID]bool{}
	for {
		missing := unfenced(d.record, old, stored)
		if len(missing) == 0 {
			return nil
		}
		var told sync.WaitGroup
		ok := make([]bool, len(missing))
		step, cancel := context.WithTimeout(ctx, tellMax)
		for i, id := range missing {
			told.Go(func() { ok[i] = id == t.cfg.Self.ID || t.tellOne(step, id, d) })
		}
		told.Wait()
		cancel()
		progress := false
		for i, id := range missing {
			stored[id] = ok[i]
			progress = progress || ok[i]
		}
		if missing = unfenced(d.record, old, stored); len(missing) > 0 && !progress {
			return &waiting{fmt.Sprintf("member %s is given up; before this node takes its place, these must store that (ring epoch %d): %s",
				old.Short(), d.record.Epoch, strings.Join(memberNames(d.record, missing), ", "))}
		}
	}
}

// unfenced are the members, sorted, of whom some must still store that old is
// lost. None is missing where a partition has no other homes at all. A home that
// is lost, too, will never store anything: that it is gone is as certain as that
// old is.
func unfenced(r *ring.Record, old ring.NodeID, stored map[ring.NodeID]bool) []ring.NodeID {
	var missing []ring.NodeID
	for p := range ring.Partition(r.Partitions) {
		homes := r.Homes(p)
		if !slices.Contains(homes, old) {
			continue
		}
		need := len(homes) - (len(homes)/2 + 1) + 1
		have, lack := 0, []ring.NodeID(nil)
		for _, id := range homes {
			switch {
			case id == old:
			case stored[id] || r.Member(id).State == ring.Lost:
				have++
			default:
				lack = append(lack, id)
			}
		}
		if have < need {
			missing = append(missing, lack...)
		}
	}
	slices.SortFunc(missing, ring.NodeID.Compare)
	return slices.Compact(missing)
}

// memberNames are for people.
func memberNames(r *ring.Record, ids []ring.NodeID) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.Short()
		if m := r.Member(id); m != nil && m.Name != "" {
			names[i] = m.Name
		}
	}
	return names
}

// replaceEnds says that an error ends the attempt for good.
func replaceEnds(err error) bool { return errors.Is(err, ErrReplace) || errors.Is(err, ring.ErrBanned) }
