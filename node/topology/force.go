package topology

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kithdb/kith/paxos"
	"github.com/kithdb/kith/ring"
)

// surviveMax is how long one survivor may take for one step.
const surviveMax = 5 * time.Second

// Forcing is the wish to go on without the keepers that are gone for good.
type Forcing struct {
	// Survivors are members, this one among them, all of whom must agree.
	Survivors []ring.NodeID
	// Who has asked and when, in milliseconds since 1970, for the record.
	Who  string
	Time uint64
}

// Force makes survivors change the ring together where a majority of the keepers is gone
// for good: the keepers are chosen among them from then on. It is the last resort: if the
// others live, the cluster falls apart into two. It returns the record that was forced,
// or that of an earlier try that was not known to have come to its end, or a later one.
//
// After an error that wraps ErrForced nothing was changed. After ErrForcing it has to be
// repeated; after ErrUnconfirmed the record stands.
func (t *Topology) Force(ctx context.Context, f Forcing) (*ring.Record, error) {
	if err := t.toPropose(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForced, err)
	}
	defer t.proposing.give()
	g := &forcer{Topology: t, Forcing: f}
	g.Survivors = slices.Clone(f.Survivors)
	slices.SortFunc(g.Survivors, ring.NodeID.Compare)
	switch err := g.look(ctx); {
	case errors.Is(err, errStands):
		return g.base.record, g.adopted(ctx, &forced{record: g.base.record, encoded: g.base.encoded})
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrForced, err)
	}
	value, err := g.prepare(ctx)
	if err != nil {
		g.release(ctx)
		return nil, fmt.Errorf("%w: %w", ErrForced, err)
	}
	if err := g.accept(ctx, value); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForcing, err)
	}
	return value.record, g.adopted(ctx, value)
}

// forcer is one try to force the ring. Its requests go to all survivors at once, and only
// if all agree it goes on.
type forcer struct {
	*Topology
	Forcing
	base   *decided // the newest that any survivor holds
	ballot paxos.Ballot
}

// ask has all survivors take a step. The error names those that have not.
func (g *forcer) ask(ctx context.Context, req *surviveRequest) ([]*surviveResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, surviveMax)
	defer cancel()
	answers, errs := make([]*surviveResponse, len(g.Survivors)), make([]error, len(g.Survivors))
	var asked sync.WaitGroup
	for i, id := range g.Survivors {
		asked.Go(func() {
			if answers[i], errs[i] = g.askOne(ctx, id, req); errs[i] != nil {
				errs[i] = fmt.Errorf("survivor %s: %w", g.name(id), errs[i])
			}
		})
	}
	asked.Wait()
	return answers, errors.Join(errs...)
}

func (g *forcer) askOne(ctx context.Context, id ring.NodeID, req *surviveRequest) (*surviveResponse, error) {
	resp, err := g.call(ctx, id, req)
	if err == nil && req.Step != stepLook && !resp.OK {
		err = errors.New("somebody else forces the ring at the same time, or did before: try again")
	}
	return resp, err
}

func (g *forcer) call(ctx context.Context, id ring.NodeID, req *surviveRequest) (*surviveResponse, error) {
	if id == g.cfg.Self.ID {
		return g.survive(ctx, req)
	}
	to, err := g.peer(id)
	if err != nil {
		return nil, err
	}
	return surviveRoute.Call(ctx, g.cfg.Transport, to, req)
}

func (g *forcer) name(id ring.NodeID) string { return memberNames(g.base.record, []ring.NodeID{id})[0] }

// look finds out what all survivors hold, brings the newest record to all of them, and
// refuses what is not needed or not safe. It promises nothing.
func (g *forcer) look(ctx context.Context) error {
	if g.base = g.held.Load(); g.base == nil {
		return ErrNotJoined
	}
	if err := g.named(); err != nil {
		return err
	}
	answers, err := g.ask(ctx, &surviveRequest{Cluster: g.base.record.Cluster, Step: stepLook})
	if err != nil {
		return fmt.Errorf("all survivors that are named must take part: %w", err)
	}
	records := make([]*decided, len(answers))
	for i, a := range answers {
		r, err := ring.Decode(a.Record)
		if err != nil {
			return fmt.Errorf("survivor %s: %w", g.name(g.Survivors[i]), err)
		}
		records[i] = &decided{r, a.Record}
		if r.Epoch > g.base.record.Epoch {
			g.base = records[i]
		}
	}
	round, bound, accepted := uint64(0), false, false
	for i, d := range records {
		if err := d.record.Split(g.base.record); err != nil {
			return fmt.Errorf("survivor %s: %w: %w", g.name(g.Survivors[i]), ErrDiverged, err)
		}
		if d.record.Epoch == g.base.record.Epoch {
			round = max(round, answers[i].Promised.Round)
			bound, accepted = bound || answers[i].Bound, accepted || !answers[i].Accepted.IsZero()
		}
	}
	if err := g.named(); err != nil {
		return err
	}
	if err := g.needed(ctx, bound, accepted); err != nil {
		return err
	}
	g.ballot = paxos.Ballot{Round: round + 1}
	binary.BigEndian.PutUint64(g.ballot.Node[:], g.chance.Uint64())
	copy(g.ballot.Node[8:], g.cfg.Self.ID[:])
	return g.level(ctx, records)
}

// named checks the survivors' names against the newest record.
func (g *forcer) named() error {
	r := g.base.record
	if !r.Founded() {
		return errors.New("the cluster is not founded yet")
	}
	if len(g.Survivors) == 0 || !slices.Contains(g.Survivors, g.cfg.Self.ID) {
		return errors.New("the member that is asked must be among the survivors")
	}
	for i, id := range g.Survivors {
		m := r.Member(id)
		switch {
		case m == nil:
			return fmt.Errorf("survivor %s is no member", id.Short())
		case m.State == ring.Lost:
			return fmt.Errorf("survivor %s was given up as lost", g.name(id))
		case i > 0 && g.Survivors[i-1] == id:
			return fmt.Errorf("survivor %s is named twice", g.name(id))
		}
	}
	return nil
}

// errStands says that the same survivors have forced the ring already.
var errStands = errors.New("it stands already")

// needed refuses where the ring can be changed without force, or where a keeper lives who
// is not named. What some have accepted already has to come to its end all the same.
func (g *forcer) needed(ctx context.Context, bound, accepted bool) error {
	r := g.base.record
	var missing []ring.NodeID
	for _, id := range r.Keepers {
		if !slices.Contains(g.Survivors, id) {
			missing = append(missing, id)
		}
	}
	if f := r.LastForced(); !bound && 2*len(missing) < len(r.Keepers) && f != nil && slices.Equal(f.Survivors, g.Survivors) {
		return errStands
	}
	if !bound && 2*len(missing) < len(r.Keepers) {
		return fmt.Errorf("it is not needed: %d of the %d keepers are among the survivors, which is a majority", len(r.Keepers)-len(missing), len(r.Keepers))
	}
	if accepted {
		return nil
	}
	for _, id := range missing {
		if seen := g.Reaching(ctx, id); len(seen) > 0 {
			return fmt.Errorf("keeper %s lives, it is reached by %s: name it among the survivors, or stop it for good first", g.name(id), strings.Join(seen, ", "))
		}
	}
	return nil
}

// level brings the newest record to the survivors that hold an older one.
func (g *forcer) level(ctx context.Context, records []*decided) error {
	ctx, cancel := context.WithTimeout(ctx, surviveMax)
	defer cancel()
	if err := g.Adopt(ctx, g.base.encoded); err != nil {
		return err
	}
	for i, id := range g.Survivors {
		if records[i].record.Epoch < g.base.record.Epoch && id != g.cfg.Self.ID && !g.tellOne(ctx, id, g.base) {
			return fmt.Errorf("survivor %s does not store epoch %d, which another one has", g.name(id), g.base.record.Epoch)
		}
	}
	return nil
}

// prepare has all survivors promise, and makes or finds the record to be forced.
func (g *forcer) prepare(ctx context.Context) (*forced, error) {
	answers, err := g.ask(ctx, &surviveRequest{Cluster: g.base.record.Cluster, Number: forcing(g.base.record), Step: stepPrepare, Ballot: g.ballot})
	if err != nil {
		return nil, err
	}
	cells := make([]paxos.Cell, len(answers))
	base, vote := g.base.record, paxos.Ballot{}
	for i, a := range answers {
		if !bytes.Equal(a.Record, g.base.encoded) {
			return nil, fmt.Errorf("survivor %s has learned of another ring record meanwhile: try again", g.name(g.Survivors[i]))
		}
		cells[i] = paxos.Cell{Promised: a.Promised, Accepted: a.Accepted, Value: a.Value}
		if a.Vote.Compare(vote) > 0 {
			// The keepers that are gone may have decided it, and may have told
			// somebody so.
			if base, err = successor(g.base.record, a.Voted); err != nil {
				return nil, err
			}
			vote = a.Vote
		}
	}
	found, err := chosen(g.Survivors, cells)
	if err != nil {
		return nil, err
	}
	if found != nil {
		return &forced{g.Survivors, found.record, found.encoded}, nil
	}
	next, err := base.WithForced(ring.Forced{
		Epoch: base.Epoch + 1 + g.chance.Uint64N(ring.ForcedGap), Time: g.Time, By: g.cfg.Self.ID, Who: g.Who, Survivors: g.Survivors,
	})
	if err != nil {
		return nil, err
	}
	return &forced{g.Survivors, next, next.Encode()}, nil
}

// release frees those who have promised: nobody was asked to accept. Whoever does not
// hear it stays bound until the ring is forced.
func (g *forcer) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellMax)
	defer cancel()
	_, err := g.ask(ctx, &surviveRequest{Cluster: g.base.record.Cluster, Number: forcing(g.base.record), Step: stepRelease, Ballot: g.ballot})
	if err != nil {
		t := g.Topology
		t.log.Warn("the ring is not forced; some survivors may not vote on it until it is", "error", err)
	}
}

// accept has all survivors accept: then it is decided.
func (g *forcer) accept(ctx context.Context, value *forced) error {
	_, err := g.ask(ctx, &surviveRequest{Cluster: g.base.record.Cluster, Number: forcing(g.base.record), Step: stepAccept, Ballot: g.ballot, Value: value.encode()})
	return err
}

// adopted returns when all survivors store the record.
func (g *forcer) adopted(ctx context.Context, value *forced) error {
	if err := g.Adopt(ctx, value.encoded); err != nil {
		return fmt.Errorf("%w: %w", ErrUnconfirmed, err)
	}
	d := &decided{value.record, value.encoded}
	stored := map[ring.NodeID]bool{g.cfg.Self.ID: true}
	for {
		step, cancel := context.WithTimeout(ctx, tellMax)
		var lack []ring.NodeID
		for _, id := range g.Survivors {
			if stored[id] = stored[id] || g.tellOne(step, id, d); !stored[id] {
				lack = append(lack, id)
			}
		}
		cancel()
		if len(lack) == 0 {
			return nil
		}
		pause := time.NewTimer(tellPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w: epoch %d is not known to be stored by %s: %w", ErrUnconfirmed,
				value.record.Epoch, strings.Join(memberNames(value.record, lack), ", "), context.Cause(ctx))
		}
	}
}
