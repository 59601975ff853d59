package antientropy

import (
	"context"
	"fmt"
	"time"

	"github.com/kithdb/kith/ring"
	"github.com/kithdb/kith/rpc"
	"github.com/kithdb/kith/rpc/api"
	"github.com/kithdb/kith/store"
	"github.com/kithdb/kith/store/version"
)

// What a home answers to audits. Nothing here calls another node.

// Bounds of the work for one page of a list.
const (
	listBytesMax = 256 << 10 // of keys
	scanBytesMax = 8 << 20   // of records that were read for it
)

// registerAudit answers the audits of other homes.
func (r *Repair) registerAudit(m *rpc.Mux) {
	rootsRoute.Handle(m, rpc.ClassHome, r.serveRoots)
	nodesRoute.Handle(m, rpc.ClassHome, r.serveNodes)
	listRoute.Handle(m, rpc.ClassHome, r.serveList)
	digestsRoute.Handle(m, rpc.ClassHome, r.serveDigests)
	fetchRoute.Handle(m, rpc.ClassHome, r.serveFetch)
	offerRoute.Handle(m, rpc.ClassHome, r.serveOffer)
	doubtRoute.Handle(m, rpc.ClassHome, r.serveDoubt)
}

// ask sends one request to another home.
func ask[Req, Resp any](ctx context.Context, r *Repair, id ring.NodeID, route rpc.Route[Req, Resp], req *Req) (*Resp, error) {
	peer, ok := r.peer(id)
	if !ok {
		return nil, fmt.Errorf("%w: the address of %s is not known", rpc.ErrUnreachable, id.Short())
	}
	ctx, cancel := context.WithTimeout(ctx, auditCallMax)
	defer cancel()
	return route.Call(ctx, r.cfg.Transport, peer, req)
}

// askMuch is ask for what may take long for its size: the pacer is not to take that
// for a busy peer.
func askMuch[Req, Resp any](ctx context.Context, r *Repair, id ring.NodeID, route rpc.Route[Req, Resp], req *Req) (*Resp, error) {
	began := time.Now()
	resp, err := ask(ctx, r, id, route, req)
	took := time.Since(began)
	r.pace.note(id, took)
	if err == nil {
		err = r.pace.rest(ctx, took)
	}
	return resp, err
}

// between says whether this node and the asker both hold a partition: audits are made
// between homes, but one that ends the first pull of a move.
func (r *Repair) between(from rpc.Peer, p ring.Partition) error {
	rec := r.current()
	if rec == nil {
		return fmt.Errorf("%w: no ring record", api.ErrNotReady)
	}
	for _, id := range []ring.NodeID{r.cfg.Self, from.ID} {
		if !rec.Holds(p, id) {
			return fmt.Errorf("%w: partition %d at epoch %d: %s", api.ErrNotHome, p, rec.Epoch, id.Short())
		}
	}
	return nil
}

func (r *Repair) serveRoots(_ context.Context, from rpc.Peer, req *rootsRequest) (*rootsResponse, error) {
	resp := &rootsResponse{States: make([]rootState, len(req.Roots))}
	for i := range req.Roots {
		p := req.Roots[i].Partition
		tree, state := r.treeFor(from, p)
		if state == rootEqual && tree.Root() != req.Roots[i].Root {
			state = rootDiffers
		}
		resp.States[i] = state
	}
	return resp, nil
}

// treeFor is this node's tree of a partition, for an asker that is a home of it too;
// any state but rootEqual says why there is none.
func (r *Repair) treeFor(from rpc.Peer, p ring.Partition) (*store.Tree, rootState) {
	if r.between(from, p) != nil {
		return nil, rootNotHome
	}
	if !r.cfg.Store.CountsForRead(p) {
		return nil, rootLossy
	}
	tree, _, ok := r.cfg.Store.TreeOf(p)
	if !ok {
		return nil, rootUntrusted
	}
	return tree, rootEqual
}

func (r *Repair) serveNodes(_ context.Context, from rpc.Peer, req *nodesRequest) (*nodesResponse, error) {
	tree, state := r.treeFor(from, req.Partition)
	resp := &nodesResponse{State: state}
	if state != rootEqual {
		return resp, nil
	}
	resp.Differ, resp.Leaves = differingNodes(tree, &req.Nodes)
	if resp.Differ != 0 {
		resp.State = rootDiffers
	}
	return resp, nil
}

func (r *Repair) serveList(ctx context.Context, from rpc.Peer, req *listRequest) (*listResponse, error) {
	if err := r.between(from, req.Partition); err != nil {
		return nil, err
	}
	if rec := r.current(); rec.Epoch < req.Epoch {
		return nil, fmt.Errorf("%w: this node is at epoch %d, the request is by %d", api.ErrNotReady, rec.Epoch, req.Epoch)
	}
	resp := &listResponse{Done: true}
	keys, read := 0, 0
	err := r.cfg.Store.Scan(req.Partition, req.After, 0, func(key, record []byte) bool {
		if len(resp.Items) >= listMax || keys >= listBytesMax || read >= scanBytesMax || ctx.Err() != nil {
			resp.Done = false
			return false
		}
		resp.Next = key
		read += len(record)
		if req.Leaves.has(store.TreeLeaf(req.Partition, key)) {
			resp.Items = append(resp.Items, listedKey{key, version.LeafOf(record)})
			keys += len(key)
		}
		return true
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("list partition %d: %w", req.Partition, err)
	}
	return resp, nil
}

func (r *Repair) serveDigests(_ context.Context, from rpc.Peer, req *digestsRequest) (*digestsResponse, error) {
	if err := r.between(from, req.Partition); err != nil {
		return nil, err
	}
	resp := &digestsResponse{Leaves: make([]version.Digest, len(req.Keys))}
	for i, key := range req.Keys {
		record, err := r.cfg.Store.Get(req.Partition, key)
		if err != nil {
			return nil, fmt.Errorf("read key %.64q: %w", key, err)
		}
		resp.Leaves[i] = version.LeafOf(record)
	}
	return resp, nil
}

func (r *Repair) serveFetch(_ context.Context, from rpc.Peer, req *fetchRequest) (*fetchResponse, error) {
	if err := r.between(from, req.Partition); err != nil {
		return nil, err
	}
	keys := make([][]byte, len(req.Items))
	for i := range req.Items {
		keys[i] = req.Items[i].Key
	}
	resp := &fetchResponse{}
	size := 0
	var dots [][]version.Dot
	g, err := r.look(req.Partition, keys, func(i int, encoded []byte, record *version.Record) bool {
		if size > 0 && size+len(encoded) > transferMax {
			return false
		}
		size += len(encoded)
		resp.Items = append(resp.Items, fetchedKey{Record: encoded})
		dots = append(dots, append(req.Items[i].Dots, dotsOf(record)...))
		return true
	})
	if err != nil {
		return nil, err
	}
	for i := range resp.Items {
		for _, d := range dots[i] {
			resp.Items[i].Claims = append(resp.Items[i].Claims, g.clock.Has(d))
		}
	}
	if g.verdict {
		resp.Verdict, resp.Base = true, g.clock.Bases()
	}
	return resp, nil
}

func (r *Repair) serveOffer(ctx context.Context, from rpc.Peer, req *offerRequest) (*offerResponse, error) {
	if err := r.between(from, req.Partition); err != nil {
		return nil, err
	}
	v := verdict{req.Verdict, req.Base}
	resp := &offerResponse{Errors: make([][]byte, len(req.Items))}
	errs := make([]error, len(req.Items))
	if err := r.mergeHere(ctx, req.Partition, offered(req.Items), v); err != nil {
		// One has failed: each on its own says which. Those that are stored
		// already change nothing.
		for i := range req.Items {
			errs[i] = r.mergeHere(ctx, req.Partition, offered(req.Items[i:i+1]), v)
		}
	}
	for i, err := range errs {
		if err != nil {
			resp.Errors[i] = rpc.AppendError(nil, err)
		}
	}
	return resp, nil
}

// offered are the items of an offer to merge.
func offered(in []offeredKey) []item {
	out := make([]item, len(in))
	for i := range in {
		out[i] = item{key: in[i].Key, encoded: in[i].Record, judged: in[i].Judged}
	}
	return out
}
