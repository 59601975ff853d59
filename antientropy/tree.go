package antientropy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc/wire"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// nodesOf hashes the inner nodes of a tree, each over arity leaves.
func nodesOf(t *store.Tree) (nodes [arity]version.Digest) {
	for i := range nodes {
		nodes[i] = t.Node(i*arity, arity)
	}
	return nodes
}

// differingNodes are the inner nodes that another tree has otherwise, with the
// leaves that this one has below them.
func differingNodes(t *store.Tree, other *[arity]version.Digest) (differ uint16, leaves [][arity]store.Sum) {
	for i, node := range nodesOf(t) {
		if node != other[i] {
			differ |= 1 << i
			leaves = append(leaves, [arity]store.Sum(t.Leaves[i*arity:(i+1)*arity]))
		}
	}
	return differ, leaves
}

// differingLeaves are the leaves of a tree that another home's answer has
// otherwise.
func differingLeaves(t *store.Tree, m *nodesResponse) (leafSet, error) {
	var set leafSet
	if bits.OnesCount16(m.Differ) != len(m.Leaves) {
		return set, fmt.Errorf("%w: %d nodes and the leaves of %d", wire.ErrMalformed, bits.OnesCount16(m.Differ), len(m.Leaves))
	}
	next := 0
	for i := range arity {
		if m.Differ>>i&1 == 0 {
			continue
		}
		for j, leaf := range m.Leaves[next] {
			if t.Leaves[i*arity+j] != leaf {
				set.add(i*arity + j)
			}
		}
		next++
	}
	return set, nil
}

// descend asks for the roots of partitions in one question, and finds the leaves of
// those that differ. Partitions of which one side has no tree to trust are skipped.
func (a *pairAudit) descend(ctx context.Context, partitions []ring.Partition) ([]cursor, error) {
	var trees []*store.Tree
	req := new(rootsRequest)
	for _, p := range partitions {
		tree, _, ok := a.r.cfg.Store.TreeOf(p)
		switch {
		case !a.r.cfg.Store.CountsForRead(p):
			a.skip(p, fmt.Errorf("partition %d: %w", p, errLossyHere))
		case !ok:
			a.skip(p, fmt.Errorf("partition %d: %w", p, errTreeHere))
		default:
			trees = append(trees, tree)
			req.Roots = append(req.Roots, partitionRoot{p, tree.Root()})
		}
	}
	if len(trees) == 0 {
		return nil, nil
	}
	resp, err := ask(ctx, a.r, a.with, rootsRoute, req)
	if err == nil && len(resp.States) != len(trees) {
		err = fmt.Errorf("%w: %d states of %d roots", wire.ErrMalformed, len(resp.States), len(trees))
	}
	if err != nil {
		return nil, fmt.Errorf("audit: roots at %s: %w", a.with.Short(), err)
	}
	var cursors []cursor
	for i, tree := range trees {
		p, state := req.Roots[i].Partition, resp.States[i]
		var leaves leafSet
		if state == rootDiffers {
			leaves, state, err = a.leaves(ctx, p, tree)
			if err != nil {
				a.skip(p, fmt.Errorf("audit: tree of partition %d at %s: %w", p, a.with.Short(), err))
				continue
			}
		}
		switch state {
		case rootEqual:
		case rootDiffers:
			cursors = append(cursors, cursor{p: p, leaves: leaves})
		default:
			a.skip(p, fmt.Errorf("partition %d at %s: %w", p, a.with.Short(), reasons[state]))
		}
	}
	return cursors, ctx.Err()
}

// Why a partition is not audited.
var (
	errLossyHere  = errors.New("this node has lost something of it, and fills it anew")
	errTreeHere   = errors.New("this node is building its hash tree")
	errLossyThere = errors.New("that home has lost something of it, and fills it anew")
	errTreeThere  = errors.New("that home is building its hash tree")
	errHomeThere  = errors.New("that member does not take both for homes of it")

	reasons = [rootStates]error{rootUntrusted: errTreeThere, rootLossy: errLossyThere, rootNotHome: errHomeThere}
)

// leaves asks which leaves of a tree differ. The state is rootEqual if that is over
// by now.
func (a *pairAudit) leaves(ctx context.Context, p ring.Partition, tree *store.Tree) (leafSet, rootState, error) {
	resp, err := ask(ctx, a.r, a.with, nodesRoute, &nodesRequest{p, nodesOf(tree)})
	if err != nil || resp.State != rootDiffers {
		return leafSet{}, stateOf(resp), err
	}
	set, err := differingLeaves(tree, resp)
	return set, rootDiffers, err
}

func stateOf(m *nodesResponse) rootState {
	if m == nil {
		return rootUntrusted
	}
	return m.State
}

// comparison walks through this node's keys beside a page of another home's, both in
// order, and notes where they differ.
type comparison struct {
	p      ring.Partition
	leaves leafSet
	page   *listResponse
	at     int // in page.Items
	room   int // keys that may still be noted
	differ [][]byte
	// last is the last key that was compared, if the room was used up.
	last []byte
}

// add takes this node's next key. It says whether there is more to compare.
func (c *comparison) add(key []byte, leaf version.Digest) bool {
	if !c.page.Done && bytes.Compare(key, c.page.Next) > 0 {
		return false
	}
	if !c.leaves.has(store.TreeLeaf(c.p, key)) {
		return true
	}
	if !c.before(key) {
		return false
	}
	if c.at < len(c.page.Items) && bytes.Equal(c.page.Items[c.at].Key, key) {
		c.at++
		if c.page.Items[c.at-1].Leaf == leaf {
			return true
		}
	}
	return c.note(key)
}

// before notes what only the other home has in front of a key; nil is the end.
func (c *comparison) before(key []byte) bool {
	for c.at < len(c.page.Items) && (key == nil || bytes.Compare(c.page.Items[c.at].Key, key) < 0) {
		c.at++
		if !c.note(c.page.Items[c.at-1].Key) {
			return false
		}
	}
	return true
}

// note takes a key that differs, and says whether there is room for another one.
func (c *comparison) note(key []byte) bool {
	c.differ = append(c.differ, bytes.Clone(key))
	if c.room--; c.room == 0 {
		c.last = c.differ[len(c.differ)-1]
		return false
	}
	return true
}

// check says whether a page is what a home may answer with: keys in order behind
// the place that was asked from, and a step ahead unless it is the last one.
func (m *listResponse) check(after []byte) error {
	last := after
	for i := range m.Items {
		if last != nil && bytes.Compare(m.Items[i].Key, last) <= 0 {
			return fmt.Errorf("%w: key %.64q is not in order", wire.ErrMalformed, m.Items[i].Key)
		}
		last = m.Items[i].Key
	}
	if m.Done {
		return nil
	}
	if bytes.Compare(m.Next, after) <= 0 || last != nil && bytes.Compare(m.Next, last) < 0 {
		return fmt.Errorf("%w: page ends at %.64q, asked from %.64q", wire.ErrMalformed, m.Next, after)
	}
	return nil
}
