package node

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/api"
)

// A node that takes the place of a lost member has slots from one moment to the
// next and nothing in them. From before it asks for the place until its store has
// declared everything lost behind the record that gives it, what it was told is
// on its disk and none of its copies counts for reads; from then on it is the
// store that says so, partition by partition, until repair has filled them.

const (
	replaceName = "replace" // the member to replace, in the store's meta part
	// replaceRetry is the pause after the disk has failed to keep a step.
	replaceRetry = time.Second
)

// replacement is what a node knows of the place that it is to take.
type replacement struct {
	node *Node
	old  string // ID, or the beginning of it; empty for none
	// pending says that no copy of this node counts for reads, whatever the
	// store says.
	pending atomic.Bool
}

// openReplacement goes on with the replacement that is asked for, or that a life
// before this one has begun.
func openReplacement(n *Node) (*replacement, error) {
	r := &replacement{node: n}
	wish, err := n.store.Meta(replaceName)
	if err != nil {
		return nil, fmt.Errorf("reading which member is to be replaced: %w", err)
	}
	r.old = string(wish)
	if asked := strings.ToLower(n.cfg.Replace); asked != "" && asked != r.old {
		done, err := r.done(asked)
		if err != nil || done {
			return r, err
		}
		if err := n.store.SetMeta(replaceName, []byte(asked)); err != nil {
			return nil, fmt.Errorf("storing which member is to be replaced: %w", err)
		}
		r.old = asked
	}
	if r.old == "" {
		return r, nil
	}
	r.pending.Store(true)
	if n.store.Health().LossyAll {
		return r, nil
	}
	return r, r.declare()
}

// done says that this node has slots already: then it has taken the place before,
// or must not.
func (r *replacement) done(asked string) (bool, error) {
	raw, err := r.node.store.Meta("ring")
	if err != nil || len(raw) == 0 {
		return false, err
	}
	rec, err := ring.Decode(raw)
	if err != nil || rec.HomeCount(r.node.id) == 0 {
		return false, err
	}
	for _, id := range rec.Banned {
		if strings.HasPrefix(id.String(), asked) {
			r.node.cfg.Logger.Info("member was replaced already", "replaced", id)
			return true, nil
		}
	}
	return false, fmt.Errorf("--replace %s: this node is member %s with a place of its own: only one with an empty data directory can take another's",
		asked, r.node.id)
}

func (r *replacement) declare() error {
	err := r.node.store.DeclareMissing(fmt.Sprintf("this node takes the place of lost member %s: its copies are filled from the other homes", r.old))
	if err != nil {
		return fmt.Errorf("replacing member %s: %w", r.old, err)
	}
	return nil
}

// unsure says why this node counts for no read; nil if that is not for a
// replacement.
func (r *replacement) unsure() error {
	if !r.pending.Load() {
		return nil
	}
	return fmt.Errorf("%w: it takes the place of lost member %s and has none of its data yet", api.ErrNotReady, r.old)
}

// run waits for the ring record that gives this node its place, and then has the
// store declare the loss once more: whoever took the first declaration for that of
// a node without copies may have ended it.
func (r *replacement) run(ctx context.Context) error {
	for r.pending.Load() {
		changed := r.node.topology.Changed()
		retry := (<-chan time.Time)(nil)
		if rec := r.node.topology.Current(); rec != nil && rec.HomeCount(r.node.id) > 0 {
			err := r.settle()
			if err == nil {
				return nil
			}
			r.node.cfg.Logger.Error("the place of a lost member is taken, but cannot be filled yet", "error", err)
			retry = time.After(replaceRetry)
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (r *replacement) settle() error {
	if err := r.declare(); err != nil {
		return err
	}
	if err := r.node.store.SetMeta(replaceName, nil); err != nil {
		return fmt.Errorf("storing that member %s is replaced: %w", r.old, err)
	}
	r.pending.Store(false)
	r.node.cfg.Logger.Info("filling the copies of the lost member from the other homes", "replaced", r.old)
	return nil
}

// problem is a sentence for status; empty for none.
func (r *replacement) problem() string {
	if !r.pending.Load() {
		return r.node.namesake()
	}
	if why := r.node.topology.Replacing(); why != "" {
		return "waits to take the place of member " + r.old + ": " + why
	}
	return "is about to take the place of member " + r.old
}

// namesake says which command makes this node take over, if it has no place and a
// member of its name has one and cannot be reached: that member has probably lost
// its disk, and this is where it comes back.
func (n *Node) namesake() string {
	r := n.topology.Current()
	if r == nil || n.cfg.Name == "" || !r.Founded() || r.HomeCount(n.id) > 0 {
		return ""
	}
	for i := range r.Members {
		m := &r.Members[i]
		if m.ID != n.id && m.Name == n.cfg.Name && r.HomeCount(m.ID) > 0 && !n.kv.Reachable(m.ID) {
			return fmt.Sprintf("member %s has the same name %q, has %d slots, and cannot be reached; if its disk is lost and this node is to take its place, "+
				"stop this one and start it again with: kith server --data %s --replace %s (and its other flags)", m.ID, m.Name, r.HomeCount(m.ID), n.cfg.Data, m.ID)
		}
	}
	return ""
}

// adviseEvery is how often a node without a place looks for a namesake.
const adviseEvery = 5 * time.Second

// advise logs, once, what namesake says.
func (n *Node) advise(ctx context.Context) error {
	said := ""
	for {
		if r := n.topology.Current(); r != nil && r.HomeCount(n.id) > 0 {
			return nil
		}
		if why := n.namesake(); why != "" && why != said && !n.replacement.pending.Load() {
			said = why
			n.cfg.Logger.Warn(why)
		}
		t := time.NewTimer(adviseEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}
