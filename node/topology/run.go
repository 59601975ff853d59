package topology

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kithdb/kith/gossip"
	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
)

const (
	// lookMax is how long a loop sleeps when nothing wakes it: views may be
	// late, and a pull may have failed.
	lookMax = time.Second
	// settleMax bounds one try to found the cluster or to become a member.
	settleMax = 15 * time.Second
	// settlePause is the longest pause between such tries.
	settlePause = 8 * time.Second
)

// Run keeps this node's record up with the cluster's, tells others which one it
// holds, founds the cluster where that is this node's to do, makes the node a
// member, finishes what others have left open, and drops what rot brings back of
// partitions that it does not keep. It returns nil when ctx ends, and otherwise an error for which the
// node must stop: ErrFounderLost, ErrReplace or ring.ErrBanned. To be called once.
func (t *Topology) Run(ctx context.Context) error {
	together, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	loops := []func(context.Context) error{t.follow, t.settle, t.sweep, t.finish}
	errs := make([]error, len(loops))
	for i, loop := range loops {
		running.Go(func() {
			errs[i] = loop(together)
			cancel(errs[i])
		})
	}
	running.Wait()
	err := errors.Join(errs...)
	t.farewell(ctx, err)
	return err
}

// follow announces what this node holds, and pulls what others hold newer.
func (t *Topology) follow(ctx context.Context) error {
	chance := t.generator("follow")
	pause(ctx, chance, wakeMore) // much happens at the instant of the start
	var announced gossip.State
	first, trouble := true, ""
	for ctx.Err() == nil {
		viewed, changed := t.cfg.Membership.Changed(), t.Changed()
		if r := t.Current(); r != nil {
			if err := t.banned(r); err != nil {
				return err
			}
		}
		if s := t.State(); first || s != announced {
			t.cfg.Membership.Announce(s)
			first, announced = false, s
		}
		if err := t.catchUp(ctx, chance); err == nil {
			trouble = ""
		} else if text := err.Error(); text != trouble && ctx.Err() == nil {
			trouble = text
			t.log.Warn("cannot learn the ring record", "error", err)
		}
		pause(ctx, chance, lookMax, viewed, changed)
	}
	return nil
}

// catchUp pulls from one of those who hold a newer record, if there are any.
func (t *Topology) catchUp(ctx context.Context, chance *rand.Rand) error {
	view, held := t.cfg.Membership.View(), t.held.Load()
	ahead, err := t.ahead(view, held)
	if len(ahead) == 0 {
		return err
	}
	p := ahead[chance.IntN(len(ahead))]
	return errors.Join(err, t.Learn(ctx, rpc.Peer{ID: p.ID, Addr: p.RPCAddr}, p.State.Epoch))
}

// ahead are those who hold a newer record than this node: the reachable ones, or
// if there are none, the others. A newcomer takes any record, if all come from
// one cluster; two are an error. So is another record of the epoch that is held,
// but it keeps nobody from learning a newer one.
func (t *Topology) ahead(view *gossip.View, held *decided) (ahead []gossip.Peer, err error) {
	var unreachable []gossip.Peer
	var state gossip.State // what this node holds
	if held != nil {
		digest := held.record.Digest()
		state = gossip.State{Cluster: held.record.Cluster, Epoch: held.record.Epoch, Digest: [8]byte(digest[:8])}
	}
	for _, p := range view.Peers {
		switch {
		case p.ID == t.cfg.Self.ID || p.State.Cluster.IsZero() || p.RPCAddr == "":
		case held != nil && p.State.Cluster != state.Cluster:
		case held != nil && p.State.Epoch == state.Epoch && p.State.Digest != state.Digest:
			err = fmt.Errorf("%w: member %s at %s holds another record of epoch %d", ErrDiverged, p.ID, p.RPCAddr, state.Epoch)
		case p.State.Epoch <= state.Epoch:
		case p.Alive:
			ahead = append(ahead, p)
		default:
			unreachable = append(unreachable, p)
		}
	}
	if len(ahead) == 0 {
		ahead = unreachable
	}
	for _, p := range ahead {
		if a, b := ahead[0].State.Cluster, p.State.Cluster; a != b {
			return nil, fmt.Errorf("members of two clusters, %s and %s, are called %q: this node joins neither; "+
				"start it with addresses of one cluster only, and give each a --cluster name of its own", a, b, t.cfg.Cluster)
		}
	}
	return ahead, err
}

// settle founds the cluster, or makes this node a member of it, and then watches
// that it stays one.
func (t *Topology) settle(ctx context.Context) error {
	chance := t.generator("settle")
	pause(ctx, chance, wakeMore)
	failures, said := 0, ""
	for ctx.Err() == nil {
		viewed, changed := t.cfg.Membership.Changed(), t.Changed()
		err := t.settleOnce(ctx)
		switch {
		case errors.Is(err, ErrFounderLost):
			return err
		case replaceEnds(err):
			return err
		case errors.As(err, new(*waiting)) && ctx.Err() == nil:
			if why := err.Error(); why != said {
				said = why
				t.log.Warn("cannot take the place of the lost member yet", "reason", err)
			}
			pause(ctx, chance, lookMax, viewed, changed)
		case err == nil || ctx.Err() != nil:
			failures = 0
			pause(ctx, chance, lookMax, viewed, changed)
		default:
			failures++
			t.log.Warn("cannot change the ring yet, trying on", "failures", failures, "error", err)
			pause(ctx, chance, min(lookMax<<min(failures-1, 8), settlePause))
		}
	}
	return nil
}

func (t *Topology) settleOnce(ctx context.Context) error {
	r := t.Current()
	if r == nil {
		return nil
	}
	if err := t.banned(r); err != nil {
		return err
	}
	var change func(*ring.Record) (*ring.Record, error)
	switch {
	case r.Founded() && t.cfg.Replace != "" && mayTakePlace(r, t.cfg.Self.ID, t.cfg.Replace):
		return t.replace(ctx, r)
	case r.Founded() && r.Member(t.cfg.Self.ID) != nil:
		return nil
	case !r.Founded():
		if !r.IsKeeper(t.cfg.Self.ID) {
			return nil // the founder's to do
		}
		if err := t.stranger(r); err != nil {
			return err
		}
		members := t.present()
		if len(members) < max(t.cfg.Expect, r.Replicas) {
			return nil
		}
		change = table(members)
	case t.takesShare(r):
		change = join(t.cfg.Self)
	default:
		change = standby(t.cfg.Self)
	}
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	_, err := t.Propose(ctx, change)
	return err
}

// takesShare says that this node, once it is a member, is to have its share of the
// slots. It is not if too few members are left for the table to be planned, nor if a
// member of its name has slots and cannot be reached: that one's place is probably the
// one to take, which only somebody on standby can.
func (t *Topology) takesShare(r *ring.Record) bool {
	if !t.cfg.Share {
		return false
	}
	if _, err := r.WithJoin(t.cfg.Self); err != nil && !errors.Is(err, ring.ErrBanned) {
		t.log.Warn("this node stays on standby", "error", err)
		return false
	}
	view := t.cfg.Membership.View()
	for i := range r.Members {
		m := &r.Members[i]
		if m.ID == t.cfg.Self.ID || m.Name == "" || m.Name != t.cfg.Self.Name || r.HomeCount(m.ID) == 0 {
			continue
		}
		if p := view.Peer(m.ID); p == nil || !p.Alive || !t.cfg.Reached(m.ID) {
			t.log.Warn("this node stays on standby: a member of its name has slots and cannot be reached", "member", m.ID)
			return false
		}
	}
	return true
}

// stranger looks for members of another cluster of the same name, which existed
// before this one: then it must not be founded.
func (t *Topology) stranger(r *ring.Record) error {
	view := t.cfg.Membership.View()
	var found []gossip.Foreign
	for _, p := range view.Peers {
		if p.Alive && !p.State.Cluster.IsZero() && p.State.Cluster != r.Cluster {
			found = append(found, gossip.Foreign{ID: p.ID, Addr: p.GossipAddr, Cluster: p.State.Cluster})
		}
	}
	for _, f := range t.cfg.Foreign() {
		if !f.Cluster.IsZero() && f.Cluster != r.Cluster && f.ClusterName == "" {
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		return nil
	}
	// They still know the lost life of this node, at this node's address;
	// that is nobody to join.
	one, join := found[0], "the address of one of its members"
	if self := view.Peer(t.cfg.Self.ID); self != nil {
		for _, f := range found {
			if f.Addr != "" && f.Addr != self.GossipAddr {
				one, join = f, f.Addr
				break
			}
		}
	}
	return fmt.Errorf("%w: member %s at %s belongs to cluster %q with ID %s, but this node has just founded one with ID %s; "+
		"this is probably the old founder with a lost disk: stop it, empty its data directory and start it without --expect: "+
		"kith server --data DIR --join %s --replace OLD-ID, with the ID that kith status shows for the lost founder",
		ErrFounderLost, one.ID, one.Addr, r.Name, one.Cluster, r.Cluster, join)
}

// wakeMin and wakeMore are how long a loop that was woken waits for what else happens
// at that instant, and how much longer that may be. Each loop draws its own: they do
// not go on at the same time, where what comes of it would be the scheduler's.
const (
	wakeMin  = 100 * time.Microsecond
	wakeMore = 300 * time.Microsecond
)

// pause waits for a wake-up, at most for most and at least for half of that if
// nothing wakes it.
func pause(ctx context.Context, chance *rand.Rand, most time.Duration, wakes ...<-chan struct{}) {
	timer := time.NewTimer(most/2 + time.Duration(chance.Int64N(int64(most/2))))
	defer timer.Stop()
	var viewed, changed <-chan struct{} // nil waits for ever
	if len(wakes) == 2 {
		viewed, changed = wakes[0], wakes[1]
	}
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-viewed:
	case <-changed:
	}
	timer.Reset(wakeMin + time.Duration(chance.Int64N(int64(wakeMore))))
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
